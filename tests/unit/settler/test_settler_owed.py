"""What is decided and not deliverable: owed in the books, offered anew when the old rungs are back, paid once."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from l402_settler.adapters import books, journal
from l402_settler.adapters.tables import outbox
from l402_settler.admission import room_of
from l402_settler.config import Config
from l402_settler.exposure import Exposure
from l402_settler.owed import ASKS_MAX, pause_ms
from l402_settler.submissions import Room
from l402core import bolt11
from l402core.documents import Accepted, Offer, mask_indices
from l402core.errors import Conflict, Contradiction, Malformed, TooEarly, TooLate
from l402core.events import (
    CancelRequested,
    EscrowLock,
    EscrowLocked,
    GradientScored,
    OfferMade,
    OfferMake,
    RegisterAccepted,
    RegisterLocks,
    RewardOwed,
    RewardRevealed,
)
from l402core.lnd.port import PaymentStatus
from l402core.outbox import Transaction

from tests.support.settler import NODE_KEY, NODE_PUBLIC, PEER, Stage, sha

MASK, UNIT = 0b101001, 100_000  # 1 + 8 + 32 units
OWED = 41 * UNIT
INDICES = mask_indices(MASK, 6)


def withheld(stage: Stage, attempt: int = 1) -> GradientScored:
    """The oracle decides, and says that this offer's preimages stay."""
    return msgspec.structs.replace(stage.decision("a", MASK), withheld=True, attempt=attempt)


def revealed(stage: Stage, attempt: int) -> GradientScored:
    """The same decision, with the preimages of a later offer."""
    return msgspec.structs.replace(stage.decision("a", MASK), attempt=attempt, sealed_preimages=("00",) * 3)


def new_offer(stage: Stage, attempt: int = 2, **other: Any) -> OfferMade:
    """The oracle's offer of what is owed, as it was asked."""
    asked = stage.said(OfferMake)[-1]
    values: dict[str, Any] = {
        "attempt": attempt, "amounts_msat": tuple(UNIT << index for index in INDICES),
        "reward_hashes": tuple(sha(f"rung a#{attempt} {index}") for index in INDICES),
        "lock_by_ms": asked.lock_by_ms, "reveal_by_height": asked.reveal_by_height, **other,
    }  # fmt: skip
    return stage.offer("a", **values)


def invoices(attempt: int = 2) -> RegisterLocks:
    """The peer's invoices on it."""
    made = [
        bolt11.encode(
            NODE_KEY, payment_hash=bytes.fromhex(sha(f"rung a#{attempt} {index}")), payment_secret=bytes(32),
            timestamp=1_000_000, amount_msat=UNIT << index, description="", expiry=86_400, min_final_cltv=80,
            network="simnet",
        )
        for index in INDICES
    ]  # fmt: skip
    return RegisterLocks(round=1, commitment=sha("a"), peer=PEER.public, bolt11s=tuple(made))


def arrived(attempt: int = 2) -> RegisterAccepted:
    """The peer's word."""
    hashes = tuple(sha(f"rung a#{attempt} {index}") for index in INDICES)
    claim = Accepted(commitment=sha("a"), round=1, peer=PEER.public, payment_hashes=hashes, expiry_heights=(180,) * 3)
    return RegisterAccepted(round=1, commitment=sha("a"), peer=PEER.public, accepted=PEER.sign(Accepted.tag, claim))


async def all_back(stage: Stage, name: str = "a", indices: tuple[int, ...] = tuple(range(6))) -> None:
    """LND says FAILED of each."""
    for index in indices:
        await stage.seen(name, index, PaymentStatus.FAILED)


async def state(stage: Stage) -> str:
    return (await stage.office.view(sha("a"))).state


async def relocked(stage: Stage, attempt: int = 2) -> None:
    """From OWED, with the old rungs back, to the new ladder locked at both ends."""
    await stage.settler.on_offer(new_offer(stage, attempt))
    await stage.desk.register_locks(invoices(attempt))
    for index in INDICES:
        await stage.seen(f"a#{attempt}", index, PaymentStatus.IN_FLIGHT)
    await stage.desk.register_accepted(arrived(attempt))


async def test_what_came_too_late_is_owed_and_paid_through_a_new_offer(stage: Stage) -> None:
    """Decided inside the margin: the old ladder returns, the same sum is locked anew, revealed and paid, once."""
    await stage.fee("a")
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    assert await state(stage) == "owed"
    assert (await stage.ledger())[f"owed:{PEER.public}"] == OWED
    assert [said.amount_msat for said in stage.said(RewardOwed)] == [OWED]
    assert stage.said(RewardRevealed) == []
    assert len(stage.said(CancelRequested)[-1].payment_hashes) == 6
    await all_back(stage)
    assert await state(stage) == "due"
    asked = stage.said(OfferMake)[-1]
    assert (asked.attempt, asked.message_id[-2:]) == (2, ":1")
    assert asked.lock_by_ms > stage.now_ms
    assert asked.reveal_by_height > stage.office.sight.height
    await relocked(stage)
    assert await state(stage) == "relocked"
    lock = stage.said(EscrowLock)[-1]
    assert (len(lock.bolt11s), lock.not_after_ms) == (3, stage.now_ms + 120_000)
    assert len({said.message_id for said in stage.said(EscrowLocked)}) == 2
    assert await stage.pending_msat() == OWED
    await stage.settler.on_scored(revealed(stage, 2))
    view = await stage.office.view(sha("a"))
    assert (view.state, view.owed_msat, len(view.sealed_preimages), view.cancel) == ("scored", 0, 3, ())
    for index in INDICES:
        await stage.seen("a#2", index, PaymentStatus.SETTLED)
    assert await state(stage) == "ended"
    assert await stage.ledger() == {"fees:earned": 500_000, "lightning": OWED - 500_000, "rewards": -OWED}
    assert await stage.pending_msat() == 0


async def test_no_new_offer_is_asked_while_an_old_rung_is_out(stage: Stage) -> None:
    """Two ladders of one reward are never out at once: the last rung to return asks for the offer, nothing before it."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage, indices=(0, 1, 2, 3, 4))
    await stage.turn()
    assert {said.attempt for said in stage.said(OfferMake)} == {1}
    with pytest.raises(Conflict):
        await stage.desk.register_locks(invoices())
    await stage.seen("a", 5, PaymentStatus.FAILED)
    assert stage.said(OfferMake)[-1].attempt == 2


async def test_a_rung_of_the_withheld_ladder_that_is_paid_is_a_contradiction(stage: Stage) -> None:
    """Its preimages never left the oracle: whoever has one would be paid twice. No new offer is asked."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await stage.seen("a", 0, PaymentStatus.SETTLED)
    await all_back(stage, indices=(1, 2, 3, 4))
    with pytest.raises(Contradiction, match="paid"):
        await stage.seen("a", 5, PaymentStatus.FAILED)
    await stage.turn()
    assert {said.attempt for said in stage.said(OfferMake)} == {1}


async def test_a_peer_that_collected_is_owed_nothing(stage: Stage) -> None:
    """The word that a paid reward is withheld cannot be true, whoever says it: the books stay as they are."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", MASK))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.SETTLED if index in INDICES else PaymentStatus.FAILED)
    ledger = await stage.ledger()
    await stage.settler.on_scored(withheld(stage))
    await stage.settler.on_scored(withheld(stage, 2))
    with pytest.raises(Conflict):
        await stage.desk.register_locks(invoices())
    assert await stage.ledger() == ledger
    assert await state(stage) == "ended"


async def test_another_decision_is_never_joined_to_the_first(stage: Stage) -> None:
    """One decision, for good: the second lap pays the same rungs, or it is a contradiction."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    await relocked(stage)
    more = msgspec.structs.replace(stage.decision("a", 0b111111), attempt=2, sealed_preimages=("00",) * 6)
    with pytest.raises(Contradiction) as caught:
        await stage.settler.on_scored(more)
    assert caught.value.code == "decision_twice"
    assert await state(stage) == "relocked"


@pytest.mark.parametrize(
    "change",
    [
        {"amounts_msat": tuple(UNIT << index for index in range(3))},
        {"amounts_msat": tuple(UNIT << index for index in range(6)), "reward_hashes": ("00" * 32,) * 6},
        {"attempt": 3},
        {"peer": "00" * 32},
    ],
)
async def test_an_offer_of_anything_but_what_is_owed_is_a_contradiction(stage: Stage, change: dict[str, Any]) -> None:
    """More, less, other rungs, another number or another peer: nothing is locked for it."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    with pytest.raises(Contradiction):
        await stage.settler.on_offer(new_offer(stage, **change))
    assert await state(stage) == "due"


async def test_the_first_offer_told_again_changes_nothing(stage: Stage) -> None:
    """A redelivery is not the new offer."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    await stage.settler.on_offer(stage.offer("a"))
    await stage.settler.on_scored(withheld(stage))
    assert await state(stage) == "due"
    with pytest.raises(TooEarly):
        await stage.desk.register_locks(stage.locks("a"))


async def test_an_offer_that_nobody_takes_lapses_and_comes_again_until_it_stays_in_the_books(
    make_stage: Callable[..., Stage],
) -> None:
    """Two offers, neither taken: the escrow ends, and the sum stays owed for a person to see."""
    stage = make_stage(owed_offers=2)
    await stage.open_round()
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    for attempt in (2, 3):
        assert stage.said(OfferMake)[-1].attempt == attempt
        await stage.settler.on_offer(new_offer(stage, attempt))
        assert await state(stage) == "reoffered"
        stage.now_ms = stage.said(OfferMake)[-1].lock_by_ms
        with pytest.raises(TooLate):
            await stage.desk.register_locks(invoices(attempt))
        await stage.turn()
    assert await state(stage) == "ended"
    assert (await stage.ledger())[f"owed:{PEER.public}"] == OWED


async def test_a_new_ladder_that_cannot_be_locked_comes_back_and_is_offered_again(stage: Stage) -> None:
    """A rung that fails, a word that does not come, an oracle that stays silent: the debt stays through all of them."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    await stage.settler.on_offer(new_offer(stage))
    await stage.desk.register_locks(invoices())
    await all_back(stage, "a#2", INDICES)
    await stage.turn()
    assert stage.said(OfferMake)[-1].attempt == 2  # no way was found a moment ago: the next try waits
    await stage.turn(now_ms=stage.now_ms + pause_ms(2))
    assert stage.said(OfferMake)[-1].attempt == 3
    await stage.settler.on_offer(new_offer(stage, 3))
    await stage.desk.register_locks(invoices(3))
    for index in INDICES:
        await stage.seen("a#3", index, PaymentStatus.IN_FLIGHT)
    stage.now_ms += 200_000
    await stage.turn()
    assert await state(stage) == "owed"
    await all_back(stage, "a#3", INDICES)
    await relocked(stage, 4)
    await all_back(stage, "a#4", INDICES)
    await stage.turn(now_ms=stage.now_ms + pause_ms(4))
    assert stage.said(OfferMake)[-1].attempt == 5
    assert (await stage.ledger())[f"owed:{PEER.public}"] == OWED
    assert await stage.pending_msat() == 0


def test_a_way_that_is_missing_for_a_day_costs_no_reward() -> None:
    """What our node cannot pay now is tried ever more rarely: the offers last longer than an outage."""
    pauses_ms = [pause_ms(attempt) for attempt in range(2, Config().owed_offers + 1)]
    assert pauses_ms == sorted(pauses_ms)
    assert sum(pauses_ms) > 24 * 3_600_000


async def test_a_reveal_that_is_heard_when_the_rungs_are_back_counts_as_revealed(stage: Stage) -> None:
    """The oracle had revealed the second offer, we heard it late: not collected is forfeited, and not offered again."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    await relocked(stage)
    await all_back(stage, "a#2", INDICES)
    assert await state(stage) == "due"
    await stage.settler.on_scored(revealed(stage, 2))
    assert await state(stage) == "ended"
    assert f"owed:{PEER.public}" not in await stage.ledger()
    assert f"peer:{PEER.public}" not in await stage.ledger()


async def test_what_is_paid_before_the_reveal_is_heard_waits_for_it(stage: Stage) -> None:
    """The peer had its preimages from the oracle itself: paid, then heard, and never offered again."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    await relocked(stage)
    for index in INDICES:
        await stage.seen("a#2", index, PaymentStatus.SETTLED)
    assert await state(stage) == "relocked"
    await stage.settler.on_scored(revealed(stage, 2))
    assert await state(stage) == "ended"
    assert f"peer:{PEER.public}" not in await stage.ledger()


async def test_a_decision_that_is_withheld_after_everything_ended_is_owed_all_the_same(stage: Stage) -> None:
    """The oracle was away for an hour: its late decision is still a promise to the peer."""
    await stage.uploaded()
    await stage.turn(now_ms=stage.terms().judge_by_ms + 60_000)
    await all_back(stage)
    assert await state(stage) == "ended"
    await stage.settler.on_scored(withheld(stage))
    assert await state(stage) == "due"
    assert (await stage.ledger())[f"owed:{PEER.public}"] == OWED


async def test_a_restart_goes_on_wherever_the_debt_is(stage: Stage) -> None:
    """In each state of the second lap the table's RECOVER column is said again, under the same message ids."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await stage.settler.recover()
    assert len({said.message_id for said in stage.said(CancelRequested)}) == 1
    await all_back(stage)
    await stage.settler.recover()
    assert [said.attempt for said in stage.said(OfferMake)] == [1, 2, 2]
    await stage.settler.on_offer(new_offer(stage))
    await stage.desk.register_locks(invoices())
    await stage.settler.recover()
    assert stage.said(EscrowLock)[-1] == msgspec.structs.replace(
        stage.said(EscrowLock)[-2], id=stage.said(EscrowLock)[-1].id
    )
    for index in INDICES:
        await stage.seen("a#2", index, PaymentStatus.IN_FLIGHT)
    await stage.desk.register_accepted(arrived())
    await stage.settler.recover()
    assert len({said.message_id for said in stage.said(EscrowLocked)}) == 2
    assert await state(stage) == "relocked"


async def test_no_new_offer_while_our_node_could_not_pay_it(stage: Stage) -> None:
    """What is promised again must be payable: short of liquidity, the debt waits, and the next turn looks again."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    routed_msat = OWED + 3 * stage.config.fee_limit_msat
    stage.office.sight.liquidity_msat = routed_msat - 1
    await all_back(stage)
    assert await state(stage) == "owed"
    stage.office.sight.liquidity_msat = routed_msat
    await stage.turn()
    assert await state(stage) == "due"


async def test_a_debt_is_offered_whatever_the_channel_to_its_peer_holds(stage: Stage) -> None:
    """Where nothing else is promised there: no time brings a balance back, and a debt that waited for it would never end."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    stage.office.sight.msat_to = {NODE_PUBLIC: 0}
    await all_back(stage)
    assert await state(stage) == "due"


async def test_an_offer_that_another_followed_stays_as_evidence(stage: Stage) -> None:
    """What the oracle signed first can still be shown."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    kept = await stage.database.read(lambda tx: books.past_offers_of(tx, sha("a")))
    assert [
        (row.attempt, msgspec.json.decode(msgspec.json.decode(row.offer)["body"], type=Offer).attempt) for row in kept
    ] == [(1, 1)]
    assert kept[0].locked is not None


async def test_invoices_unlike_what_is_owed_are_refused(stage: Stage) -> None:
    """The whole ladder's invoices, or one too few."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    await stage.settler.on_offer(new_offer(stage))
    for wrong in (stage.locks("a"), msgspec.structs.replace(invoices(), bolt11s=invoices().bolt11s[:2])):
        with pytest.raises(Malformed, match="ladder_length"):
            await stage.desk.register_locks(wrong)
    assert await state(stage) == "reoffered"


async def test_nothing_is_owed_for_a_decision_that_earns_nothing(stage: Stage) -> None:
    """A rejected gradient has no preimages to withhold."""
    await stage.uploaded()
    nothing = msgspec.structs.replace(stage.decision("a", 0, verdict="rejected"), withheld=True)
    with pytest.raises(Contradiction):
        await stage.settler.on_scored(nothing)


async def test_a_request_that_the_oracle_refuses_is_made_again_soon_and_not_for_ever(stage: Stage) -> None:
    """A minute later, then ever more rarely, each time under a fresh id; in the end a person must look."""
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    first = len(stage.said(OfferMake))
    await stage.turn(now_ms=stage.now_ms + 59_999)
    assert len(stage.said(OfferMake)) == first
    await stage.turn(now_ms=stage.now_ms + 1)
    await stage.turn(now_ms=stage.now_ms + 119_999)
    assert len(stage.said(OfferMake)) == first + 1
    for _ in range(60):
        await stage.turn(now_ms=stage.now_ms + 3_600_000)
    assert len(stage.said(OfferMake)) == first + ASKS_MAX - 1
    assert await stage.is_frozen(sha("a"))
    with stage.database.engine.connect() as connection:
        ids = connection.execute(sa.select(outbox.c.message_id).where(outbox.c.subject.like("offer.make.%"))).scalars()
        assert len(set(ids)) == first + ASKS_MAX - 1
    await stage.thaw(sha("a"))
    await stage.turn(now_ms=stage.now_ms + 60_000)
    assert not await stage.is_frozen(sha("a"))
    await stage.settler.on_offer(new_offer(stage))
    assert await state(stage) == "reoffered"


async def test_what_is_owed_counts_against_every_cap_until_it_is_locked(stage: Stage) -> None:
    """Key, payee's node, day, liquidity and slots: a promise of three rungs, not of a whole ladder."""
    await stage.uploaded()

    def held(tx: Transaction) -> tuple[Exposure, Exposure, Room]:
        room = room_of(stage.office, tx, stage.terms())
        return books.exposure(tx, peer=PEER.public), books.exposure(tx, payee=NODE_PUBLIC), room

    await stage.settler.on_scored(withheld(stage))
    assert await state(stage) == "owed"
    _, _, room = await stage.database.read(held)
    routed_msat = OWED + 3 * stage.config.fee_limit_msat
    assert room.outside.liquidity_msat == 10**10 - routed_msat, "no new place takes the room that a debt will need"
    await all_back(stage)
    assert await state(stage) == "due"
    peer, payee, room = await stage.database.read(held)
    assert peer == payee == Exposure(msat=OWED, rungs=3, promised_rungs=3, promised_msat=OWED)
    day_msat = stage.config.day_cap_msat - 63 * UNIT - OWED  # what was locked today, and what will be
    assert (room.outside.day_msat, room.outside.liquidity_msat, room.outside.slots) == (
        day_msat,
        10**10 - routed_msat,
        483 - 3,
    )
    await stage.settler.on_offer(new_offer(stage))
    await stage.desk.register_locks(invoices())
    peer, _, room = await stage.database.read(held)
    assert (peer.msat, peer.rungs, room.outside.day_msat) == (OWED, 3, day_msat)


async def test_no_new_offer_beyond_the_days_cap(make_stage: Callable[..., Stage]) -> None:
    """What the first ladder took of the day is taken; the debt waits for tomorrow."""
    stage = make_stage(day_cap_msat=63 * UNIT + OWED - 1)
    await stage.open_round()
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    await stage.turn()
    assert await state(stage) == "owed"
    await stage.turn(now_ms=stage.now_ms + journal.DAY_MS + 600_000)
    assert await state(stage) == "due"
