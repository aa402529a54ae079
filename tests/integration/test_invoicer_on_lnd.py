"""The invoicer against a simulated LND and a real NATS server: fees, locks, redeliveries, and everything that is down."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from l402_invoicer.adapters.cursor import FileCursor
from l402_invoicer.adapters.tally import FileTally
from l402_invoicer.app import CONSUMERS, Invoicer
from l402_invoicer.config import Config
from l402core.bus import Bus, migrate
from l402core.delivering import Consumer
from l402core.documents import LADDER, Offer
from l402core.errors import Malformed, TooLarge, Unavailable
from l402core.events import DispatchedRung, EscrowDispatched, EscrowLock, EscrowRefused, FeeMint, FeeMinted, FeeSettled
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.secret import Secret
from l402core.signing import SigningKey
from lndsim import Simulation

from tests.support.nats import running_nats
from tests.support.watching import until

ATTESTOR = SigningKey(b"\x02" * 32)
PATIENCE_S = 20.0
UNIT_MSAT = 1_000
WATCHED = tuple(Consumer("test", event) for event in (FeeSettled, EscrowDispatched, EscrowRefused))


def now_ms() -> int:
    """The clock of every part here."""
    return time.time_ns() // 1_000_000


class World:
    """A coordinator's node, a peer's node with a channel in between, a bus, and what was said on it."""

    def __init__(self, simulation: Simulation, nats_url: str, folder: Path) -> None:
        self.simulation, self.nats_url, self.folder = simulation, nats_url, folder
        self.ours: GrpcNode = connect(simulation.endpoint("coordinator"))
        self.theirs: GrpcNode = connect(simulation.endpoint("peer"))
        self.said: list[Any] = []
        self.bus = Bus(nats_url, "test")

    @asynccontextmanager
    async def invoicer(self, **overrides: Any) -> AsyncIterator[Invoicer]:
        """A running invoicer: consuming, answering, watching."""
        config = Config(attestor=ATTESTOR.public, **{"retry_max_s": 0.5, **overrides})
        bus = Bus(self.nats_url, "invoicer")
        cursor = FileCursor(self.folder / "cursor")
        tally = FileTally(self.folder / "tally")
        invoicer = Invoicer(config, self.ours, bus, cursor, tally, now_ms=now_ms)
        bus.consume(CONSUMERS[0], invoicer.lock_ladder)
        bus.answer(FeeMint, invoicer.mint_fee)
        await bus.start()
        watching = asyncio.create_task(invoicer.watch_fees())
        try:
            yield invoicer
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await bus.stop()
            tally.close()

    async def listen(self) -> None:
        """Collect every fact of the invoicer."""

        async def on_fact(event: Any) -> None:
            self.said.append(event)

        for consumer in WATCHED:
            self.bus.consume(consumer, on_fact)
        await self.bus.start()

    def facts(self, kind: type) -> list[Any]:
        """What was said of one kind."""
        return [event for event in self.said if isinstance(event, kind)]

    async def close(self) -> None:
        """Nothing is left running."""
        await self.bus.stop()
        await self.ours.close()
        await self.theirs.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A coordinator and a peer, joined by one channel."""
    with running_nats(tmp_path / "nats") as url:
        await migrate(url, (*CONSUMERS, *WATCHED))
        async with await Simulation.start(tmp_path / "lnd") as simulation:
            for name in ("coordinator", "peer"):
                await simulation.add_node(name)
            simulation.network.open_channel("coordinator", "peer", 2_000_000_000, 1_000_000_000)
            world = World(simulation, url, tmp_path)
            await world.listen()
            yield world
            await world.close()


async def a_lock(world: World, *, name: str = "c", **changes: Any) -> EscrowLock:
    """Work for one ladder of six rungs, offered by the attestor and invoiced by the peer's node."""
    commitment = hashlib.sha256(name.encode()).hexdigest()
    hashes = [hashlib.sha256(preimage).digest() for preimage in preimages(name)]
    amounts = tuple(UNIT_MSAT * rung for rung in LADDER)
    views = [
        await world.theirs.add_hold_invoice(h, amount_msat=amount, memo="rung", expiry_s=600, cltv_expiry=60)
        for h, amount in zip(hashes, amounts, strict=True)
    ]
    offer = Offer(
        commitment=commitment, round=1, seq=1, peer="aa" * 32, seal_to="bb" * 32, terms="cc" * 32, key_id="k1",
        amounts_msat=amounts, attempt=1, lock_by_ms=now_ms() + 60_000, upload_until_ms=now_ms() + 70_000,
        judge_by_ms=now_ms() + 80_000, reveal_by_height=1_000, cltv_min=40, cltv_max=100,
        reward_hashes=tuple(h.hex() for h in hashes),
    )  # fmt: skip
    work = EscrowLock(
        id=f"lock-{name}", occurred_at_ms=now_ms(), round=1, commitment=commitment,
        offer=ATTESTOR.sign(Offer.tag, offer), bolt11s=tuple(view.bolt11 for view in views),
        payee=(await world.theirs.info()).pubkey, not_after_ms=now_ms() + 30_000, fee_limit_msat=1_000, cltv_limit=400,
    )  # fmt: skip
    return msgspec.structs.replace(work, **changes)


def preimages(name: str) -> list[bytes]:
    """The oracle's, of one submission."""
    return [hashlib.sha256(f"{name}{index}".encode()).digest() for index in range(len(LADDER))]


async def states(world: World, name: str = "c") -> list[InvoiceState]:
    """The rungs at the peer's node."""
    views = [await world.theirs.lookup_invoice(hashlib.sha256(p).digest()) for p in preimages(name)]
    return [view.state for view in views if view is not None]


def a_fee(**changes: Any) -> FeeMint:
    """A question for a fee invoice."""
    return msgspec.structs.replace(FeeMint(round=1, commitment="ab" * 32, amount_msat=500_000, expiry_s=60), **changes)


async def test_a_fee_is_minted_paid_and_told_once(world: World) -> None:
    """The invoice asks what was asked for, and its payment becomes one fact."""
    async with world.invoicer():
        minted = await world.bus.ask(a_fee(), FeeMinted)
        assert minted.expires_at_ms > now_ms()
        paid = await world.theirs.pay_and_wait(minted.bolt11, timeout_s=10, fee_limit_msat=1_000)
        assert paid.status is PaymentStatus.SETTLED
        await until(lambda: len(world.facts(FeeSettled)) == 1)
    (fact,) = world.facts(FeeSettled)
    assert (fact.payment_hash, fact.amount_msat) == (minted.payment_hash, 500_000)


async def test_fees_that_settled_meanwhile_are_told_after_a_restart(world: World) -> None:
    """Neither a restart with a cursor, nor one that has lost it, misses a fee; another's invoice is never told."""
    async with world.invoicer():
        minted = [await world.bus.ask(a_fee(commitment=f"{n:064x}"), FeeMinted) for n in range(4)]
        await world.theirs.pay_and_wait(minted[0].bolt11, timeout_s=10, fee_limit_msat=1_000)
        await until(lambda: len(world.facts(FeeSettled)) == 1)
    foreign = await world.ours.add_invoice(amount_msat=7_000, memo="a coffee", expiry_s=600, cltv_expiry=80)
    for bolt11 in (minted[1].bolt11, foreign.bolt11, minted[2].bolt11):
        await world.theirs.pay_and_wait(bolt11, timeout_s=10, fee_limit_msat=1_000)
    async with world.invoicer():
        await until(lambda: len(world.facts(FeeSettled)) == 3)
    (world.folder / "cursor").unlink()
    await world.theirs.pay_and_wait(minted[3].bolt11, timeout_s=10, fee_limit_msat=1_000)
    async with world.invoicer():
        await until(lambda: len({fact.payment_hash for fact in world.facts(FeeSettled)}) == 4)
    assert {fact.payment_hash for fact in world.facts(FeeSettled)} == {fee.payment_hash for fee in minted}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"amount_msat": 0}, Malformed),
        ({"amount_msat": 10**12}, TooLarge),
        ({"expiry_s": 10**6}, TooLarge),
        ({"commitment": "AB" * 32}, Malformed),
    ],
)
async def test_a_fee_outside_the_limits_is_refused(
    world: World, changes: dict[str, Any], error: type[Exception]
) -> None:
    """The asker gets an error of its own fault, and our node no invoice."""
    async with world.invoicer():
        with pytest.raises(error):
            await world.bus.ask(a_fee(**changes), FeeMinted)
    assert await world.ours.list_invoices() == []


async def test_without_our_node_no_fee_is_sold_and_none_is_lost(world: World) -> None:
    """LND down is Unavailable to the asker; when it is back, fees are minted and heard of again."""
    async with world.invoicer():
        await world.bus.ask(a_fee(), FeeMinted)
        await world.simulation.set_listening("coordinator", False)
        with pytest.raises(Unavailable):
            await world.bus.ask(a_fee(), FeeMinted, timeout_s=15)
        await world.simulation.set_listening("coordinator", True)

        async def minted_again() -> bool:
            try:
                fee = await world.bus.ask(a_fee(), FeeMinted, timeout_s=15)
            except Unavailable:
                return False
            await world.theirs.pay_and_wait(fee.bolt11, timeout_s=10, fee_limit_msat=1_000)
            return True

        await until(minted_again)
        await until(lambda: len(world.facts(FeeSettled)) == 1)


def dispatched(world: World) -> list[DispatchedRung]:
    """What was told of each rung, by every delivery."""
    return [rung for fact in world.facts(EscrowDispatched) for rung in fact.rungs]


async def test_a_ladder_is_locked_and_waits_at_the_peers_node(world: World) -> None:
    """Every rung is ACCEPTED there, in flight here, and told."""
    async with world.invoicer():
        await world.bus.publish(await a_lock(world))
        await until(lambda: len(dispatched(world)) == 6)
    assert {rung.status for rung in dispatched(world)} == {"IN_FLIGHT"}
    assert await states(world) == [InvoiceState.ACCEPTED] * 6


async def test_a_redelivered_ladder_is_not_paid_again(world: World) -> None:
    """Money never moves twice: a second delivery finds what the first one sent, also when a rung is settled."""
    work = await a_lock(world)
    async with world.invoicer() as invoicer:
        await invoicer.lock_ladder(work)
        await world.theirs.settle_invoice(Secret(preimages("c")[5]))
        await invoicer.lock_ladder(work)
    async with world.invoicer() as invoicer:
        await invoicer.lock_ladder(msgspec.structs.replace(work, not_after_ms=1))
    payments = await world.ours.list_payments()
    assert len(payments) == 6
    assert sum(p.amount_msat for p in payments if p.status is PaymentStatus.SETTLED) == 32 * UNIT_MSAT


async def test_after_its_last_moment_nothing_is_sent(world: World) -> None:
    """A late delivery is refused with a hint, and LND hears of no payment."""
    async with world.invoicer():
        await world.bus.publish(await a_lock(world, not_after_ms=now_ms() - 1))
        await until(lambda: len(world.facts(EscrowRefused)) == 1)
    assert "lock_too_late" in world.facts(EscrowRefused)[0].reason
    assert await world.ours.list_payments() == []


async def test_a_failed_rung_is_never_sent_again(world: World) -> None:
    """LND's FAILED ends the hash: a redelivery says so and does not pay, though the peer would now accept."""
    work = await a_lock(world)
    hashes = [hashlib.sha256(preimage).digest() for preimage in preimages("c")]
    await world.theirs.cancel_invoice(hashes[0])
    async with world.invoicer() as invoicer:
        await invoicer.lock_ladder(work)

        async def failed() -> bool:
            known = await world.ours.lookup_payment(hashes[0])
            return known is not None and known.status is PaymentStatus.FAILED

        await until(failed)
        await invoicer.lock_ladder(work)
        assert await failed()
        await until(lambda: any(rung.index == 0 and rung.status == "FAILED" for rung in dispatched(world)))
    assert len(await world.ours.list_payments()) == 6


@pytest.mark.parametrize("cap", ["round_max_msat", "day_max_msat"])
async def test_two_signed_ladders_are_one_too_many_for_a_cap(world: World, cap: str) -> None:
    """Whatever settler and attestor sign, we send no more than our own caps, before a restart and after it."""
    ladder_msat = sum(LADDER) * UNIT_MSAT + len(LADDER) * 1_000  # with the routing fee that each rung may cost
    caps = {cap: 2 * ladder_msat - 1}
    async with world.invoicer(**caps):
        await world.bus.publish(await a_lock(world))
        await until(lambda: len(dispatched(world)) == 6)
    async with world.invoicer(**caps) as invoicer:
        await invoicer.lock_ladder(await a_lock(world, name="second"))
        await until(lambda: len(world.facts(EscrowRefused)) == 1)
    assert cap.removesuffix("_max_msat") in world.facts(EscrowRefused)[0].reason
    assert len(await world.ours.list_payments()) == 6
    async with world.invoicer(**{cap: 2 * ladder_msat}) as invoicer:
        await invoicer.lock_ladder(await a_lock(world, name="third"))
    assert len(await world.ours.list_payments()) == 12


async def test_what_failed_at_once_counts_for_no_cap(world: World) -> None:
    """A peer that cancels its rungs leaves room for the others'."""
    ladder_msat = sum(LADDER) * UNIT_MSAT + len(LADDER) * 1_000
    work = await a_lock(world)
    for preimage in preimages("c"):
        await world.theirs.cancel_invoice(hashlib.sha256(preimage).digest())
    async with world.invoicer(round_max_msat=ladder_msat) as invoicer:

        async def all_failed() -> bool:
            await invoicer.lock_ladder(work)
            return {rung.index for rung in dispatched(world) if rung.status == "FAILED"} == set(range(6))

        await until(all_failed)
        await invoicer.lock_ladder(await a_lock(world, name="second"))
    assert await states(world, "second") == [InvoiceState.ACCEPTED] * 6


async def test_an_offer_of_nobody_is_not_paid(world: World) -> None:
    """Only the configured attestor's signature opens our purse."""
    work = await a_lock(world)
    offer = msgspec.json.decode(work.offer.body, type=Offer)
    stranger = SigningKey(b"\x07" * 32).sign(Offer.tag, offer)
    async with world.invoicer():
        await world.bus.publish(msgspec.structs.replace(work, offer=stranger))
        await until(lambda: len(world.facts(EscrowRefused)) == 1)
    assert "wrong_signer" in world.facts(EscrowRefused)[0].reason
    assert await world.ours.list_payments() == []


async def test_a_ladder_survives_that_our_node_is_down(world: World) -> None:
    """Delivered while LND is down, it is locked once LND is back, exactly once."""
    work = await a_lock(world)
    async with world.invoicer():
        await world.simulation.set_listening("coordinator", False)
        await world.bus.publish(work)
        await asyncio.sleep(0.3)
        await world.simulation.set_listening("coordinator", True)

        async def all_accepted() -> bool:
            return await states(world) == [InvoiceState.ACCEPTED] * 6

        await until(all_accepted)
    assert len(await world.ours.list_payments()) == 6
    assert world.facts(EscrowRefused) == []


async def test_an_undispatched_rung_is_unknown_and_stays_one_payment(world: World) -> None:
    """While LND has the payment and no HTLC is out, it is told as it is and not sent again."""
    world.simulation.network.set_dispatching("coordinator", False)
    work = await a_lock(world)
    async with world.invoicer(pay_timeout_s=1) as invoicer:
        first = asyncio.create_task(invoicer.lock_ladder(work))
        await until(lambda: len(world.simulation.network.nodes["coordinator"].payments) == 6)
        second = asyncio.create_task(invoicer.lock_ladder(work))
        world.simulation.network.set_dispatching("coordinator", True)
        await asyncio.gather(first, second)
    assert len(await world.ours.list_payments()) == 6
    assert await states(world) == [InvoiceState.ACCEPTED] * 6


async def test_mostro_881_and_883_a_hold_invoice_holds_up_nothing_but_itself(world: World) -> None:
    """A hold invoice as payout froze the event loop: here ladders that nobody will settle are sent and let go of, fees are
    minted and paid beside them, and the same work again finds them by their hashes."""
    async with world.invoicer(rungs_at_once=6):
        works = [await a_lock(world, name=name) for name in "cde"]
        for work in works:
            await world.bus.publish(work)
        await until(lambda: len(dispatched(world)) == 18)
        minted = await world.bus.ask(a_fee(), FeeMinted)
        paid = await world.theirs.pay_and_wait(minted.bolt11, timeout_s=10, fee_limit_msat=1_000)
        assert paid.status is PaymentStatus.SETTLED
        for name in "cde":
            assert set(await states(world, name)) == {InvoiceState.ACCEPTED}
    async with world.invoicer() as restarted:
        await restarted.lock_ladder(works[0])
    assert len(await world.ours.list_payments()) == 18, "nothing is sent twice"
