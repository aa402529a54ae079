"""What may be pledged, and what is due about a tranche now. Pure: clocks, heights and counts are arguments."""

from enum import StrEnum

import msgspec
from l402core.errors import Conflict, Exhausted, L402Error, Malformed, TooLarge
from l402core.pledges import TRANCHES_MAX, Pledge
from l402core.sponsorship import Tranche

from l402_settler.config import Config

MARGIN_MAX = 1_000_000_000
"""One nat per token: no round ever gains more."""
UNJUDGED = "the oracle did not judge in time"


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What is pledged already."""

    open: int
    """Sponsorships that are not over, without those of sponsors whom the operator expects."""
    open_of_this_sponsor: int


def may_pledge(pledge: Pledge, config: Config, queue: Queue) -> L402Error | None:
    """Why this pledge is not taken; None where it is."""
    if pledge.network != config.lnd_network:
        return Malformed("pledge_network", f"pledged on {pledge.network}, this coordinator is on {config.lnd_network}")
    if len(pledge.nonce) != 64 or not set(pledge.nonce) <= set("0123456789abcdef"):
        return Malformed("pledge_nonce", "the nonce is 64 lower-case hex digits")
    if not 1 <= pledge.margin <= MARGIN_MAX:
        return Malformed("pledge_margin", f"the margin is between 1 and {MARGIN_MAX} nano-nats per token")
    if not 1 <= pledge.tranches <= min(config.sponsor_tranches_max, TRANCHES_MAX):
        return TooLarge("pledge_tranches", f"a sponsorship has 1 to {config.sponsor_tranches_max} tranches")
    if not config.sponsor_min_msat <= pledge.amount_msat <= config.sponsor_max_msat:
        return TooLarge(
            "pledge_amount", f"a tranche is between {config.sponsor_min_msat} and {config.sponsor_max_msat} msat"
        )
    if queue.open_of_this_sponsor:
        return Conflict("sponsor_busy", "another sponsorship of this sponsor is not over yet")
    if pledge.sponsor not in config.expected_sponsors and queue.open >= config.sponsorships_open:
        return Exhausted("sponsors_many", f"{queue.open} sponsorships are open; try again when one is over")
    return None


class Due(StrEnum):
    """What a look at a live tranche calls for."""

    LOOK = "look"
    GIVE_BACK = "give back"
    SETTLE = "settle"
    CANCEL = "cancel"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one live tranche."""

    state: Tranche
    pay_by_ms: int
    expiry_height: int
    judge_by_ms: int
    """Of the round that it funds; 0 for none."""


def due(facts: Facts, config: Config, *, now_ms: int, height: int) -> tuple[Due, str]:
    """What is due, and why where it is to be given back. A height of 0 is not known, and decides nothing."""
    match facts.state:
        case Tranche.SETTLING:
            return Due.SETTLE, ""
        case Tranche.RETURNING:
            return Due.CANCEL, ""
        case Tranche.MINTING | Tranche.MINTED:
            if now_ms >= facts.pay_by_ms:
                return Due.GIVE_BACK, "the sponsor did not pay in time"
        case Tranche.LOCKED:
            if height and not outlives_a_round(facts.expiry_height, config, height=height):
                return Due.GIVE_BACK, "no round opened while its HTLC had blocks enough to outlive one"
        case Tranche.FUNDING:
            if height and height >= facts.expiry_height - config.sponsor_margin_blocks:
                return Due.GIVE_BACK, "its HTLC came near its expiry before the oracle judged"
            if facts.judge_by_ms and now_ms >= facts.judge_by_ms + config.sponsor_judge_s * 1000:
                return Due.GIVE_BACK, UNJUDGED
        case _:
            pass
    return Due.LOOK, ""


def outlives_a_round(expiry_height: int, config: Config, *, height: int) -> bool:
    """Whether an HTLC that expires then can wait for a whole round and its judgement, with blocks to spare."""
    return expiry_height - height >= config.sponsor_round_blocks + config.sponsor_margin_blocks
