"""Many debts at once: together with all that is locked and promised they pass no cap, and none of them is forgotten."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from l402_settler.adapters import books, journal
from l402_settler.adapters.guards import SLOT_MS
from l402core import bolt11
from l402core.documents import Accepted, Receipt, Statement, mask_indices
from l402core.errors import Exhausted
from l402core.events import OfferMade, OfferMake, RegisterAccepted, RegisterLocks
from l402core.lnd.port import PaymentStatus
from l402core.outbox import Transaction
from l402core.signing import SigningKey

from tests.support.settler import ATTESTOR, NODE_KEY, NODE_PUBLIC, Stage, sha

UNIT, LADDER = 100_000, 63 * 100_000
MASK = 0b111100  # 4 + 8 + 16 + 32 = 60 units on four rungs
INDICES = mask_indices(MASK, 6)
DEBT, RUNGS = 60 * UNIT, len(INDICES)
TEN = tuple(f"debt {number}" for number in range(10))
KEYS = {name: SigningKey(bytes([20 + number]) * 32) for number, name in enumerate(TEN)}


class Debtor:
    """One peer's reward on a stage, from its upload to the ladder of what is owed."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name, self.key = stage, name, KEYS[name]

    async def uploaded(self) -> None:
        """Locked at both ends; the upload comes once commits are closed."""
        stage, peer = self.stage, self.key.public
        await stage.desk.open(stage.opening(self.name, peer=self.key))
        await stage.settler.on_offer(stage.offer(self.name, peer=peer))
        await stage.desk.register_locks(msgspec.structs.replace(stage.locks(self.name), peer=peer))
        await self.in_flight(self.name, range(6))

    async def in_flight(self, ladder: str, indices: Any) -> None:
        """Both ends see every rung."""
        hashes = tuple(sha(f"rung {ladder} {index}") for index in indices)
        for index in indices:
            await self.stage.seen(ladder, index, PaymentStatus.IN_FLIGHT)
        claim = Accepted(
            commitment=sha(self.name), round=1, peer=self.key.public, payment_hashes=hashes,
            expiry_heights=(180,) * len(hashes),
        )  # fmt: skip
        await self.stage.desk.register_accepted(
            RegisterAccepted(
                round=1, commitment=sha(self.name), peer=self.key.public, accepted=self.key.sign(Accepted.tag, claim)
            )
        )

    async def withheld(self) -> None:
        """The oracle decides too late to reveal."""
        stage, peer = self.stage, self.key.public
        said = stage.decision(self.name, MASK)
        receipt = msgspec.structs.replace(msgspec.json.decode(said.receipt.body, type=Receipt), peer=peer)
        signed = ATTESTOR.sign(Receipt.tag, receipt)
        await stage.settler.on_scored(msgspec.structs.replace(said, peer=peer, receipt=signed, withheld=True))

    async def back(self, ladder: str, indices: Any = range(6)) -> None:
        """Every rung of a ladder comes back."""
        for index in indices:
            await self.stage.seen(ladder, index, PaymentStatus.FAILED)

    async def relocking(self) -> None:
        """The oracle offers what it was asked to, and the peer hands in its invoices."""
        asked = next(one for one in self.stage.said(OfferMake) if one.commitment == sha(self.name) and one.attempt == 2)
        amounts = tuple(UNIT << index for index in INDICES)
        hashes = tuple(sha(f"rung {self.name}#2 {index}") for index in INDICES)
        offer: OfferMade = self.stage.offer(
            self.name, peer=self.key.public, attempt=2, amounts_msat=amounts, reward_hashes=hashes,
            lock_by_ms=asked.lock_by_ms, reveal_by_height=asked.reveal_by_height,
        )  # fmt: skip
        await self.stage.settler.on_offer(offer)
        bolt11s = tuple(
            bolt11.encode(
                NODE_KEY, payment_hash=bytes.fromhex(hash_), payment_secret=bytes(32), timestamp=1_000_000,
                amount_msat=amount, description="", expiry=10**7, min_final_cltv=80, network="simnet",
            )
            for hash_, amount in zip(hashes, amounts, strict=True)
        )  # fmt: skip
        locks = RegisterLocks(round=1, commitment=sha(self.name), peer=self.key.public, bolt11s=bolt11s)
        await self.stage.desk.register_locks(locks)


async def ten_uploads(stage: Stage) -> list[Debtor]:
    """Ten rewards are locked, and the oracle has their gradients."""
    await stage.open_round()
    debtors = [Debtor(stage, name) for name in TEN]
    for debtor in debtors:
        await debtor.uploaded()
    await stage.turn(commit=True)
    for debtor in debtors:
        await stage.desk.register_upload(msgspec.structs.replace(stage.upload(debtor.name), peer=debtor.key.public))
    return debtors


async def ten_debts(stage: Stage) -> list[Debtor]:
    """Ten rewards are decided and withheld; their old ladders are still out."""
    debtors = await ten_uploads(stage)
    for debtor in debtors:
        await debtor.withheld()
    return debtors


async def all_back(debtors: list[Debtor]) -> None:
    for debtor in debtors:
        await debtor.back(debtor.name)


def asked(stage: Stage) -> set[str]:
    """Whose new offers were asked for."""
    return {said.commitment for said in stage.said(OfferMake) if said.attempt == 2}


async def locked_today(stage: Stage) -> int:
    """What the day's cap counts, msat."""
    return await stage.database.read(lambda tx: journal.locked_since(tx, stage.now_ms - journal.DAY_MS))


def day(stage: Stage) -> None:
    """What is left of the day is set by its cap."""


def liquidity(stage: Stage) -> None:
    stage.office.sight.liquidity_msat = 100 * UNIT


def slots(stage: Stage) -> None:
    stage.office.sight.slots = 2 * RUNGS - 1


def channel(stage: Stage) -> None:
    stage.office.sight.slots_to = {NODE_PUBLIC: 2 * RUNGS - 1}


def channel_money(stage: Stage) -> None:
    stage.office.sight.msat_to = {NODE_PUBLIC: 2 * DEBT - 1}


@pytest.mark.parametrize("scarce", [day, liquidity, slots, channel, channel_money], ids=lambda one: str(one.__name__))
async def test_ten_debts_of_which_there_is_room_for_one_ask_for_one_offer(
    make_stage: Callable[..., Stage], scarce: Callable[[Stage], None]
) -> None:
    """All come back within one turn; whatever is short, the second offer is not asked for, nor once the first is locking."""
    cap = 10 * LADDER + 100 * UNIT if scarce is day else 10**12
    stage = make_stage(places=10, day_cap_msat=cap)
    debtors = await ten_debts(stage)
    scarce(stage)
    await all_back(debtors)
    await stage.turn()
    await stage.turn()
    (first,) = asked(stage)
    await next(one for one in debtors if sha(one.name) == first).relocking()
    await stage.turn()
    assert asked(stage) == {first}
    assert await locked_today(stage) <= stage.config.day_cap_msat


async def test_every_debt_has_its_turn_as_the_days_pass(make_stage: Callable[..., Stage]) -> None:
    """One today, the other nine as soon as a new day has room for them; the cap holds at each look."""
    stage = make_stage(places=10, day_cap_msat=10 * LADDER + 100 * UNIT, owed_lock_s=604_800)
    debtors = await ten_debts(stage)
    await all_back(debtors)
    for _ in range(3):
        fresh = [one for one in debtors if sha(one.name) in asked(stage)]
        for one in fresh:
            if (await stage.office.view(sha(one.name))).state == "due":
                await one.relocking()
        assert await locked_today(stage) <= stage.config.day_cap_msat
        await stage.turn(now_ms=stage.now_ms + journal.DAY_MS + SLOT_MS)
    assert len(asked(stage)) == 10


async def test_a_debt_is_not_offered_over_a_ladder_that_was_promised(make_stage: Callable[..., Stage]) -> None:
    """Both count against the day before either is locked: a round's offer first, then what is owed waits for it."""
    stage = make_stage(places=10, day_cap_msat=10 * LADDER + DEBT + LADDER - 1)
    debtors = await ten_debts(stage)
    await stage.open_round(2)
    other = SigningKey(bytes([77]) * 32)
    with pytest.raises(Exhausted):
        await stage.desk.open(stage.opening("new", peer=other, round_=2))  # ten debts come first
    await all_back(debtors[:1])
    assert len(asked(stage)) == 1


async def test_a_ladder_of_a_round_that_is_promised_leaves_less_for_a_debt(make_stage: Callable[..., Stage]) -> None:
    """It was sold before the oracle said that the reward is withheld."""
    stage = make_stage(places=11, day_cap_msat=2 * LADDER + DEBT - 1)
    await stage.open_round()
    debtor = Debtor(stage, TEN[0])
    await debtor.uploaded()
    await stage.desk.open(stage.opening("new", peer=SigningKey(bytes([77]) * 32)))
    await stage.turn(commit=True)
    await stage.desk.register_upload(msgspec.structs.replace(stage.upload(debtor.name), peer=debtor.key.public))
    await debtor.withheld()
    await debtor.back(debtor.name)
    await stage.turn()
    assert asked(stage) == set()
    await stage.turn(now_ms=stage.terms().lock_by_ms)  # what was sold came to nothing
    assert asked(stage) == {sha(debtor.name)}


async def test_debts_that_come_after_their_end_wait_for_what_their_payee_leaves_hanging(
    make_stage: Callable[..., Stage],
) -> None:
    """The oracle was away: ten escrows ended, their payee's node has nine new ladders, and room is left for one debt."""
    stage = make_stage(places=10, payee_rungs=60, day_cap_msat=10**12)
    debtors = await ten_uploads(stage)
    await stage.turn(now_ms=stage.terms().judge_by_ms + 60_000)
    await all_back(debtors)
    await stage.open_round(2)
    for number, name in enumerate(TEN[:9]):
        opening = stage.opening(f"new {number}", peer=KEYS[name], round_=2)
        assert msgspec.json.decode(opening.statement.body, type=Statement).payout_node == NODE_PUBLIC
        await stage.desk.open(opening)
    for debtor in debtors:
        await debtor.withheld()
    await stage.turn()
    assert len(asked(stage)) == 1

    def out(tx: Transaction) -> int:
        return books.exposure(tx, payee=NODE_PUBLIC, debts=False).rungs

    assert await stage.database.read(out) <= 60
    await stage.turn(now_ms=stage.terms(2).lock_by_ms)  # nobody had offered these: they come to nothing
    assert len(asked(stage)) == 10
