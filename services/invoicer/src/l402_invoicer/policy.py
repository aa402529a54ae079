"""Which ladders we pay and which fees we ask: pure decisions on signed words. It reads no clock and calls no node."""

from enum import StrEnum

import msgspec
from l402core import bolt11
from l402core.documents import Offer
from l402core.errors import Conflict, Malformed, TooLarge, TooLate, Unauthorized
from l402core.events import EscrowLock, FeeMint
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.signing import open_signed


class FeeCaps(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on a fee invoice."""

    amount_max_msat: int
    expiry_max_s: int


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what we pay, from our own configuration; an offer cannot raise them."""

    attestor: str
    network: str
    payment_max_msat: int
    ladder_max_msat: int
    round_max_msat: int
    day_max_msat: int
    routing_fee_max_msat: int
    cltv_limit_max: int


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent or may have been, routing included, and did not fail."""

    round_msat: int
    day_msat: int


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One hold invoice that may be paid."""

    index: int
    payment_hash: bytes
    bolt11: str
    amount_msat: int


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """A checked ladder, and the limits under which it is sent."""

    rungs: tuple[Rung, ...]
    not_after_ms: int
    fee_limit_msat: int
    cltv_limit: int

    def most_msat(self) -> dict[bytes, int]:
        """The most that each rung may cost, by payment hash."""
        return {rung.payment_hash: rung.amount_msat + self.fee_limit_msat for rung in self.rungs}


class Step(StrEnum):
    """What to do about a rung, once LND was asked."""

    SEND = "send"  # LND has never seen the hash, and there is time
    REPORT = "report"  # it is out, or paid: say so
    LEAVE = "leave"  # LND says FAILED: never again under this hash
    LATE = "late"  # never sent, and too late to begin


def check_fee(ask: FeeMint, caps: FeeCaps) -> None:
    """Raises Malformed, TooLarge for a fee invoice that we do not mint."""
    if len(ask.commitment) != 64 or not set(ask.commitment) <= set("0123456789abcdef"):
        raise Malformed("fee_commitment", "a commitment is 64 lower-case hex digits")
    if ask.amount_msat <= 0 or ask.expiry_s <= 0:
        raise Malformed("fee_not_positive", "a fee and its expiry are positive")
    if ask.amount_msat > caps.amount_max_msat:
        raise TooLarge("fee_too_large", f"a fee of {ask.amount_msat} msat is above {caps.amount_max_msat}")
    if ask.expiry_s > caps.expiry_max_s:
        raise TooLarge("fee_expiry", f"an expiry of {ask.expiry_s} s is above {caps.expiry_max_s}")


def check_ladder(work: EscrowLock, caps: Caps) -> Ladder:
    """The ladder that the attestor's signed offer allows us to pay.

    It holds at any time of day, so that a redelivery is judged as the first delivery was. Raises Unauthorized for an
    offer that the attestor did not sign, Conflict for invoices unlike the offer, TooLarge beyond our caps, Malformed
    for what is no invoice.
    """
    offer = _read_offer(work, caps)
    not_after_ms = min(work.not_after_ms, offer.lock_by_ms)
    rungs = tuple(_read_rung(i, text, offer, work, caps) for i, text in enumerate(work.bolt11s))
    for rung, text in zip(rungs, work.bolt11s, strict=True):
        if bolt11.decode(text).expires_at_ms() < not_after_ms:
            raise Conflict("lock_expires_early", f"invoice {rung.index} expires before the last moment to pay it")
    return Ladder(
        rungs=rungs,
        not_after_ms=not_after_ms,
        fee_limit_msat=work.fee_limit_msat,
        cltv_limit=work.cltv_limit or caps.cltv_limit_max,
    )


def check_sent(sent: Sent, more_msat: int, caps: Caps) -> None:
    """Raises TooLarge where `more_msat` would go beyond what one round, or one day, may cost."""
    if sent.round_msat + more_msat > caps.round_max_msat:
        raise TooLarge("lock_round_cap", f"{sent.round_msat} msat of {caps.round_max_msat} are sent for this round")
    if sent.day_msat + more_msat > caps.day_max_msat:
        raise TooLarge("lock_day_cap", f"{sent.day_msat} msat of {caps.day_max_msat} were sent within a day")


def step_for(known: PaymentView | None, *, now_ms: int, not_after_ms: int) -> Step:
    """What to do about a rung: send only what LND has never seen, and only in time."""
    if known is None:
        return Step.SEND if now_ms < not_after_ms else Step.LATE
    return Step.LEAVE if known.status is PaymentStatus.FAILED else Step.REPORT


def too_late(index: int) -> TooLate:
    """The refusal of a rung that was never sent in time."""
    return TooLate("lock_too_late", f"rung {index} was not sent before its last moment")


def _read_offer(work: EscrowLock, caps: Caps) -> Offer:
    if not caps.attestor:
        raise Unauthorized("no_attestor", "no attestor is configured, so no offer is paid")
    offer = open_signed(work.offer, Offer.tag, Offer, signer=caps.attestor)
    if (offer.commitment, offer.round) != (work.commitment, work.round):
        raise Conflict("lock_other_offer", "the offer is for another submission")
    count = len(offer.reward_hashes)
    if not 0 < count == len(offer.amounts_msat) == len(work.bolt11s):
        raise Conflict("lock_count", f"{len(work.bolt11s)} invoices for an offer of {count} rungs")
    if len(set(offer.reward_hashes)) != count:
        raise Conflict("lock_duplicate_hash", "the offer names a payment hash twice")
    if min(offer.amounts_msat) <= 0 or max(offer.amounts_msat) > caps.payment_max_msat:
        raise TooLarge("lock_payment_cap", f"a rung is outside 1..{caps.payment_max_msat} msat")
    if sum(offer.amounts_msat) > caps.ladder_max_msat:
        raise TooLarge("lock_ladder_cap", f"the ladder is above {caps.ladder_max_msat} msat")
    if not 0 <= work.fee_limit_msat <= caps.routing_fee_max_msat:
        raise TooLarge("lock_fee_limit", f"a routing fee limit outside 0..{caps.routing_fee_max_msat} msat")
    if not 0 <= work.cltv_limit <= caps.cltv_limit_max:
        raise TooLarge("lock_cltv_limit", f"a CLTV limit outside 0..{caps.cltv_limit_max} blocks")
    return offer


def _read_rung(index: int, text: str, offer: Offer, work: EscrowLock, caps: Caps) -> Rung:
    invoice = bolt11.decode(text)
    expected = (
        ("lock_network", invoice.network, caps.network),
        ("lock_hash", invoice.payment_hash.hex(), offer.reward_hashes[index]),
        ("lock_amount", invoice.amount_msat, offer.amounts_msat[index]),
        ("lock_payee", invoice.payee.hex(), work.payee),
    )
    for code, found, wanted in expected:
        if found != wanted:
            raise Conflict(code, f"invoice {index} says {found}, the offer {wanted}")
    if not offer.cltv_min <= invoice.min_final_cltv <= offer.cltv_max:
        raise Conflict(
            "lock_cltv",
            f"invoice {index} has a final CLTV of {invoice.min_final_cltv}, not {offer.cltv_min}..{offer.cltv_max}",
        )
    return Rung(index=index, payment_hash=invoice.payment_hash, bolt11=text, amount_msat=offer.amounts_msat[index])
