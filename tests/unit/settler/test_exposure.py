"""The caps on what one peer and one payee may have out: the limit itself is allowed, the next rung or msat is not."""

from typing import Any

import msgspec
import pytest
from l402_settler.config import Config
from l402_settler.exposure import Cap, Exposure, Left, Need, over_cap, over_channels

CAP = Cap(msat=100, rungs=12)


@pytest.mark.parametrize(
    ("msat", "rungs", "allowed"),
    [(0, 0, True), (50, 6, True), (51, 6, False), (50, 7, False), (100, 12, False), (51, 0, False), (0, 7, False)],
)
def test_one_more_ladder_fits_up_to_the_cap_itself(msat: int, rungs: int, allowed: bool) -> None:
    """Money and rungs, each by itself."""
    refusal = over_cap("peer", Exposure(msat=msat, rungs=rungs, promised_rungs=0, promised_msat=0), CAP, 50, 6)
    assert (refusal is None) is allowed
    assert refusal is None or refusal.code == "peer_exposure"


def test_by_default_a_peer_may_have_two_rounds_out_and_a_node_sixteen_ladders() -> None:
    """In money they follow the ladder, unless the operator says otherwise."""
    caps = Config().exposure_caps(6_300)
    assert (caps.peer.msat, caps.peer.rungs, caps.payee.msat, caps.payee.rungs) == (12_600, 12, 100_800, 96)
    caps = Config(peer_exposure_msat=5, payee_exposure_msat=7).exposure_caps(6_300)
    assert (caps.peer.msat, caps.payee.msat) == (5, 7)


@pytest.mark.parametrize(
    ("short", "code"),
    [
        ({}, ""),
        ({"day_msat": 49}, "day_cap"),
        ({"liquidity_msat": 67}, "liquidity"),
        ({"slots": 5}, "slots"),
        ({"node_trouble": "it is locked"}, "node"),
        ({"node_trouble": "it is locked", "day_msat": 0, "liquidity_msat": 0, "slots": 0}, "node"),
    ],
)
def test_our_node_takes_what_it_has_left_to_the_last_msat_and_slot(short: dict[str, Any], code: str) -> None:
    """Exactly enough of everything, six routes included, is enough; one less of anything is refused by its name."""
    enough = Left(day_msat=50, liquidity_msat=68, fee_limit_msat=3, slots=6, node_trouble="")
    refusal = msgspec.structs.replace(enough, **short).refusal(Need(50, 6))
    assert (refusal.code if refusal else "") == code


@pytest.mark.parametrize(
    ("sendable_msat", "slots", "code"),
    [
        (108, 13, ""),
        (107, 13, "channel_liquidity"),
        (108, 12, "channel_slots"),
        (0, 0, "channel_slots"),
        (None, 13, ""),
        (108, None, ""),
        (None, None, ""),
    ],
)
def test_the_channels_to_a_payees_node_carry_what_is_promised_there_and_one_more_ladder(
    sendable_msat: int | None, slots: int | None, code: str
) -> None:
    """Seven rungs of 58 msat are promised, 500 more are out and off the balance already; six rungs of 50 msat are to come, and
    cost nothing on a channel of our own. A node that is no neighbour is somebody else's to reach."""
    held = Exposure(msat=558, rungs=17, promised_rungs=7, promised_msat=58)
    refusal = over_channels(held, Need(50, 6), sendable_msat=sendable_msat, slots=slots)
    assert (refusal.code if refusal else "") == code
