"""What may be locked at most: a round's budget, a day's cap, our own node's means, and what one peer leaves hanging."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from l402_settler.watch import Watch
from l402core.documents import Receipt
from l402core.errors import Contradiction, Exhausted
from l402core.events import CreditIssued, GradientScored, ReadRound, ReadStanding
from l402core.lnd.port import ChannelView, NodeInfo, PaymentStatus
from l402core.signing import SigningKey

from tests.support.settler import ATTESTOR, NODE_PUBLIC, PEER, Stage, sha

LADDER = 6_300_000
ROUTED = LADDER + 6 * 10_000
"""With the most that its routes may cost by default."""


async def hanging(stage: Stage, name: str, round_: int) -> None:
    """A ladder that is locked, and that the peer neither accepts nor cancels: its rungs hang."""
    await stage.open_round(round_)
    await stage.fee(name)
    await stage.desk.open(stage.opening(name, round_=round_))
    await stage.settler.on_offer(stage.offer(name, round_))
    await stage.desk.register_locks(stage.locks(name, round_))
    for index in range(6):
        await stage.seen(name, index, PaymentStatus.IN_FLIGHT)
    stage.now_ms = stage.terms(round_).upload_until_ms
    await stage.turn()


async def test_a_peer_that_leaves_two_rounds_hanging_gets_no_new_challenge(make_stage: Callable[..., Stage]) -> None:
    """Its rungs count while they are out, whatever became of the escrow; a paid fee is kept; when they return it is let in."""
    stage = make_stage()
    for round_, name in enumerate("ab", start=1):
        assert (await stage.desk.read_standing(ReadStanding(peer=PEER.public))).available
        await hanging(stage, name, round_)
    standing = await stage.desk.read_standing(ReadStanding(peer=PEER.public))
    assert (standing.available, standing.exposed_rungs, standing.exposed_msat) == (False, 12, 2 * LADDER)
    await stage.open_round(3)
    await stage.fee("c")
    with pytest.raises(Exhausted, match="kept for you as a credit") as caught:
        await stage.desk.open(stage.opening("c", round_=3))
    assert caught.value.code == "peer_exposure"
    assert [said.payment_hash for said in stage.said(CreditIssued)] == [sha("fee c")]
    other = SigningKey(b"\x07" * 32)
    assert (await stage.desk.read_standing(ReadStanding(peer=other.public))).available
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    assert (await stage.desk.read_standing(ReadStanding(peer=PEER.public))).available


async def test_the_rungs_of_one_payees_node_count_whoever_its_peers_are(make_stage: Callable[..., Stage]) -> None:
    """A dozen keys on one node are one debtor: the third ladder is too much, and the fee is kept."""
    stage = make_stage(places=8, payee_rungs=12)
    await stage.open_round()
    keys = [SigningKey(bytes([n]) * 32) for n in (11, 12, 13)]
    for name, key in zip("ab", keys, strict=False):
        await stage.desk.open(stage.opening(name, peer=key))
    with pytest.raises(Exhausted) as caught:
        await stage.desk.open(stage.opening("c", peer=keys[2]))
    assert caught.value.code == "payee_exposure"
    assert not (await stage.desk.read_standing(ReadStanding(peer=keys[0].public))).available


async def test_a_shared_channel_without_slots_for_a_ladder_is_promised_nothing(stage: Stage) -> None:
    """Eleven HTLC slots are left to the payee's node, one ladder is promised there already: the next fee is kept."""
    stage.office.sight.slots_to = {NODE_PUBLIC: 11}
    await stage.desk.open(stage.opening("a"))
    with pytest.raises(Exhausted) as caught:
        await stage.desk.open(stage.opening("b", peer=SigningKey(b"\x07" * 32)))
    assert caught.value.code == "channel_slots"
    assert not (await stage.desk.read_standing(ReadStanding(peer=PEER.public))).available, "no challenge for that node"
    assert (await stage.desk.read_round(ReadRound())).available, "for whoever is paid over another channel"


async def test_a_channel_without_the_money_for_a_ladder_is_promised_nothing(stage: Stage) -> None:
    """Our node has plenty, and the channel to this payee lacks one msat for the second ladder that it may have to send: no
    challenge for a peer on that node, a paid fee is a credit; with the msat it opens. A payee elsewhere is not held up."""
    stage.office.sight.msat_to = {NODE_PUBLIC: 2 * LADDER - 1}
    await stage.desk.open(stage.opening("a"))
    assert not (await stage.desk.read_standing(ReadStanding(peer=PEER.public))).available
    assert (await stage.desk.read_round(ReadRound())).available, "for whoever is paid over another channel"
    other = SigningKey(b"\x07" * 32)
    await stage.fee("b")
    with pytest.raises(Exhausted, match="kept for you as a credit") as caught:
        await stage.desk.open(stage.opening("b", peer=other))
    assert caught.value.code == "channel_liquidity"
    assert [said.payment_hash for said in stage.said(CreditIssued)] == [sha("fee b")]
    stage.office.sight.msat_to = {NODE_PUBLIC: 2 * LADDER}
    assert (await stage.desk.read_standing(ReadStanding(peer=PEER.public))).available
    await stage.desk.open(stage.opening("c", peer=other))


async def test_what_is_out_in_a_channel_is_off_its_balance_and_counts_no_second_time(
    make_stage: Callable[..., Stage],
) -> None:
    """A channel with money for two ladders: one is promised, then sent, then back, and there is room for one more all along."""
    stage = make_stage(peer_rungs=600, peer_exposure_msat=100 * LADDER)
    node = TwoRounds(local_msat=2 * LADDER)
    watch = Watch(stage.office, node)  # type: ignore[arg-type]  # nothing but its channels is asked

    async def room() -> bool:
        await watch.look()
        return (await stage.desk.read_standing(ReadStanding(peer=PEER.public))).available

    await stage.open_round()
    await stage.desk.open(stage.opening("a"))
    assert await room()
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    assert await room()
    node.local_msat -= 1
    assert not await room(), "what is registered and not sent is still to leave"
    node.local_msat += 1
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.IN_FLIGHT)
        node.local_msat -= 100_000 << index
        assert await room(), "what left the balance is promised no more"
    node.local_msat -= 1
    assert not await room()
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    node.local_msat += LADDER
    assert await room()


class TwoRounds:
    """Our node with one channel, to the payee's node; what is out in it is what a test has seen."""

    def __init__(self, *, local_msat: int = 10**10) -> None:
        self.out, self.local_msat = 0, local_msat

    async def info(self) -> NodeInfo:
        """Well."""
        return NodeInfo(pubkey="", alias="", version="0.21.0-beta", block_height=100, network="simnet", synced=True)

    async def channels(self) -> list[ChannelView]:
        """The one."""
        return [
            ChannelView(
                channel_id=1, remote_pubkey=NODE_PUBLIC, active=True, capacity_msat=10**10, local_msat=self.local_msat,
                remote_msat=0, pending_out=self.out,
            )
        ]  # fmt: skip


async def test_a_shared_channel_with_two_rounds_slots_holds_two_rounds_and_no_third_is_sold(
    make_stage: Callable[..., Stage],
) -> None:
    """Two ladders hang in its twelve slots: no challenge, a paid fee is a credit; when one is back, a third opens."""
    stage = make_stage(slots_per_channel=2 * 6, peer_rungs=600, peer_exposure_msat=100 * LADDER)
    node = TwoRounds()
    watch = Watch(stage.office, node)  # type: ignore[arg-type]  # nothing but its channels is asked

    async def available() -> bool:
        await watch.look()
        return (await stage.desk.read_standing(ReadStanding(peer=PEER.public))).available

    for round_, name in enumerate("ab", start=1):
        assert await available()
        await hanging(stage, name, round_)
        node.out += 6
    assert not await available()
    await stage.open_round(3)
    assert not (await stage.desk.read_round(ReadRound())).available, "and nobody else is sold one either"
    await stage.fee("c")
    with pytest.raises(Exhausted, match="kept for you as a credit") as caught:
        await stage.desk.open(stage.opening("c", round_=3))
    assert caught.value.code == "slots"
    assert [said.payment_hash for said in stage.said(CreditIssued)] == [sha("fee c")]
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    node.out -= 6
    assert await available()
    await stage.desk.open(stage.opening("d", round_=3))
    assert not await available(), "a ladder that is promised has its slots already"


@pytest.mark.parametrize(
    ("limit", "sight", "code", "opened"),
    [
        ({"places": 3}, {}, "places", 3),
        ({"day_cap_msat": 2 * LADDER}, {}, "day_cap", 2),
        ({}, {"liquidity_msat": 4 * ROUTED - 1}, "liquidity", 3),
        ({}, {"slots": 17}, "slots", 2),
        ({}, {"trouble": "asleep"}, "node", 0),
        ({"payee_exposure_msat": 5 * LADDER}, {}, "payee_exposure", 5),
        ({}, {"slots_to": {NODE_PUBLIC: 17}}, "channel_slots", 2),
        ({}, {"msat_to": {NODE_PUBLIC: 3 * LADDER - 1}}, "channel_liquidity", 2),
        ({}, {"msat_to": {"02" * 33: 0}, "slots_to": {"02" * 33: 0}}, "places", 8),
    ],
)
async def test_so_many_open_at_once_as_there_is_room_for_and_the_others_keep_their_fee(
    make_stage: Callable[..., Stage], limit: dict[str, Any], sight: dict[str, Any], code: str, opened: int
) -> None:
    """Ten paid requests at once: each limit is reserved in the same transaction that opens, or the fee is a credit."""
    stage = make_stage(**{"places": 8, **limit})
    await stage.open_round()
    for name, value in sight.items():
        setattr(stage.office.sight, name, value)
    keys = [SigningKey(bytes([20 + n]) * 32) for n in range(10)]
    requests = [stage.opening(f"n{n}", peer=key) for n, key in enumerate(keys)]
    answers = await asyncio.gather(*(stage.desk.open(one) for one in requests), return_exceptions=True)
    refused = [one for one in answers if isinstance(one, Exhausted)]
    assert len(answers) - len(refused) == opened
    assert {one.code for one in refused} == {code}
    assert len(stage.said(CreditIssued)) == len(refused)
    if opened < 8 and code not in ("payee_exposure", "channel_slots", "channel_liquidity"):
        assert not (await stage.desk.read_round(ReadRound())).available, "and no challenge is sold"


async def test_a_place_is_never_let_twice_over_its_budget(make_stage: Callable[..., Stage]) -> None:
    """Escrows that fail after they were locked keep their reservation until their rungs are back."""
    stage = make_stage(places=1)
    await stage.open_round()
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    await stage.seen("a", 0, PaymentStatus.FAILED)
    assert (await stage.office.view(sha("a"))).state == "failed"
    with pytest.raises(Exhausted) as caught:
        await stage.desk.open(stage.opening("b", peer=SigningKey(b"\x07" * 32)))
    assert caught.value.code == "budget"


# The published schedule is what is paid.


def resigned(scored: GradientScored, **changes: Any) -> GradientScored:
    """The same decision with another receipt, signed as it should be."""
    receipt = msgspec.structs.replace(msgspec.json.decode(scored.receipt.body, type=Receipt), **changes)
    kept = {name: changes[name] for name in ("mask", "reward_msat", "verdict") if name in changes}
    return msgspec.structs.replace(scored, receipt=ATTESTOR.sign(Receipt.tag, receipt), **kept)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"reward_msat": 100_001}, "reward"),
        ({"units": 2, "reward_msat": 200_000}, "mask"),
        ({"units": 2, "mask": 2, "reward_msat": 200_000}, "units"),
        ({"quality_ppm": 95_239, "units": 3, "mask": 3, "reward_msat": 300_000}, "quality"),
        ({"drop_mean": 10**9}, "quality"),
        ({"reference": 2 * 10**9}, "floor"),
        ({"drop_low": 0}, "accepted"),
        ({"reference": 0}, "accepted"),
        ({"floor": 0}, "floor"),
        ({"verdict": "rejected"}, "verdict"),
        ({"terms": "00" * 32}, "terms"),
        ({"round": 2}, "round"),
        ({"mask": 65}, "mask_bits"),
    ],
)
async def test_a_decision_that_is_not_by_the_published_schedule_is_not_paid(
    stage: Stage, changes: dict[str, Any], code: str
) -> None:
    """Base rate, normalization, unit, ladder and caps are the terms': computed again, and any difference freezes."""
    await stage.uploaded()
    wrong = resigned(stage.decision("a", 1), **changes)
    wrong = msgspec.structs.replace(wrong, round=changes.get("round", 1))
    with pytest.raises(Contradiction) as caught:
        await stage.settler.on_scored(wrong)
    assert caught.value.code == f"schedule_{code}"
    assert (await stage.office.view(sha("a"))).state == "uploaded"


@pytest.mark.parametrize("mask", [0, 1, 2, 4, 8, 16, 31, 32, 42, 63])
async def test_every_rung_of_the_ladder_is_paid_as_the_schedule_says(stage: Stage, mask: int) -> None:
    """From the score to the millisatoshi."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", mask))
    assert (await stage.ledger()).get("rewards", 0) == -mask * 100_000
