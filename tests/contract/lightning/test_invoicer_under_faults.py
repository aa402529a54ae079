"""The invoicer when its node misbehaves by script: a redelivered ladder resumes by hash, and each hash has one payment."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from l402_invoicer.adapters.cursor import FileCursor
from l402_invoicer.adapters.tally import FileTally
from l402_invoicer.app import Invoicer
from l402_invoicer.config import Config
from l402core.documents import LADDER, Offer
from l402core.errors import Unavailable
from l402core.events import DispatchedRung, EscrowDispatched, EscrowLock, Event
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.signing import SigningKey
from lndsim import Fault, FaultKind, Simulation

from tests.contract.lightning.backends import PATIENCE_S

ATTESTOR = SigningKey(b"\x02" * 32)
UNIT_MSAT = 1_000
PREIMAGES = [hashlib.sha256(f"rung {index}".encode()).digest() for index in range(len(LADDER))]
HASHES = [hashlib.sha256(preimage).digest() for preimage in PREIMAGES]


class Said:
    """The bus, as far as facts are concerned."""

    def __init__(self) -> None:
        self.facts: list[Event] = []

    async def publish(self, event: Event, *, parent: str = "") -> None:
        self.facts.append(event)


class World:
    """Our node, a peer's, a channel between them, and one ladder to lock."""

    def __init__(self, simulation: Simulation, folder: Path) -> None:
        self.simulation, self.folder = simulation, folder
        self.ours = connect(msgspec.structs.replace(simulation.endpoint("coordinator"), deadline_s=1.0))
        self.theirs: GrpcNode = connect(simulation.endpoint("peer"))
        self.said = Said()

    def invoicer(self) -> Invoicer:
        """A new one: it remembers nothing, as after a restart."""
        config = Config(attestor=ATTESTOR.public, pay_timeout_s=1)
        cursor, tally = FileCursor(self.folder / "cursor"), FileTally(self.folder / "tally")
        return Invoicer(config, self.ours, self.said, cursor, tally, now_ms=now_ms)

    def plan(self, kind: FaultKind, method: str, **more: Any) -> None:
        self.simulation.faults.plan(Fault(kind=kind, method=method, node="coordinator", **more))

    async def states(self) -> list[InvoiceState]:
        """The rungs at the peer's node."""
        views = [await self.theirs.lookup_invoice(payment_hash) for payment_hash in HASHES]
        return [view.state for view in views if view is not None]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A coordinator and a peer, joined by one channel."""
    async with await Simulation.start(tmp_path / "lnd") as simulation:
        for name in ("coordinator", "peer"):
            await simulation.add_node(name)
        simulation.network.open_channel("coordinator", "peer", 2_000_000_000, 1_000_000_000)
        world = World(simulation, tmp_path)
        yield world
        await world.ours.close()
        await world.theirs.close()


def now_ms() -> int:
    """The clock of every part here."""
    return time.time_ns() // 1_000_000


async def a_ladder(world: World) -> EscrowLock:
    """Six rungs, offered by the attestor and invoiced by the peer's node."""
    amounts = tuple(UNIT_MSAT * rung for rung in LADDER)
    views = [
        await world.theirs.add_hold_invoice(h, amount_msat=amount, memo="rung", expiry_s=600, cltv_expiry=60)
        for h, amount in zip(HASHES, amounts, strict=True)
    ]
    offer = Offer(
        commitment="ab" * 32, round=1, seq=1, peer="aa" * 32, seal_to="bb" * 32, terms="cc" * 32, key_id="k1",
        amounts_msat=amounts, attempt=1, lock_by_ms=now_ms() + 60_000, upload_until_ms=now_ms() + 70_000,
        judge_by_ms=now_ms() + 80_000, reveal_by_height=1_000, cltv_min=40, cltv_max=100,
        reward_hashes=tuple(h.hex() for h in HASHES),
    )  # fmt: skip
    return EscrowLock(
        id="lock", occurred_at_ms=now_ms(), round=1, commitment="ab" * 32, offer=ATTESTOR.sign(Offer.tag, offer),
        bolt11s=tuple(view.bolt11 for view in views), payee=(await world.theirs.info()).pubkey,
        not_after_ms=now_ms() + 30_000, fee_limit_msat=1_000, cltv_limit=400,
    )  # fmt: skip


async def delivered(
    world: World, work: EscrowLock, *, new_each_time: bool, until: Callable[[], Awaitable[bool]]
) -> int:
    """As the bus delivers: again after each Unavailable, to the same process or to a new one. Answers how often."""
    invoicer, deliveries = world.invoicer(), 0
    async with asyncio.timeout(PATIENCE_S):
        while True:
            deliveries += 1
            try:
                await invoicer.lock_ladder(work)
                if await until():
                    return deliveries
            except Unavailable:
                pass
            if new_each_time:
                invoicer = world.invoicer()
            await asyncio.sleep(0.1)


async def up_again(world: World) -> None:
    """After a while, the node listens again and its channel has found it."""
    await asyncio.sleep(0.5)
    await world.simulation.set_listening("coordinator", True)


FAULTS: dict[str, list[tuple[FaultKind, str, dict[str, Any]]]] = {
    "every first payment's answer is lost": [(FaultKind.LOST_ANSWER, "SendPaymentV2", {"times": 6})],
    "half of the payments are lost on the way": [(FaultKind.LOST_CALL, "SendPaymentV2", {"times": 3})],
    "payments answer too late": [(FaultKind.DELAY, "SendPaymentV2", {"times": 2, "seconds": 30})],
    "streams are cut after their first update": [(FaultKind.CUT, "SendPaymentV2", {"times": 6, "messages": 1})],
    "look-ups are lost": [(FaultKind.LOST_CALL, "TrackPaymentV2", {"skip": 2, "times": 5})],
    "everything at once": [
        (FaultKind.LOST_ANSWER, "SendPaymentV2", {"times": 2}),
        (FaultKind.LOST_CALL, "SendPaymentV2", {"times": 2}),
        (FaultKind.CUT, "SendPaymentV2", {"times": 2, "messages": 1}),
        (FaultKind.LOST_ANSWER, "TrackPaymentV2", {"times": 4}),
    ],
}


@pytest.mark.parametrize("new_each_time", [False, True], ids=["same process", "restarted"])
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
async def test_whatever_is_lost_each_rung_is_paid_once(
    world: World, faults: list[tuple[FaultKind, str, dict[str, Any]]], *, new_each_time: bool
) -> None:
    """All rungs are held at the peer's in the end, each by the only payment and the only HTLC on its hash."""
    work = await a_ladder(world)
    for kind, method, more in faults:
        world.plan(kind, method, **more)

    async def all_held() -> bool:
        return await world.states() == [InvoiceState.ACCEPTED] * 6

    await delivered(world, work, new_each_time=new_each_time, until=all_held)
    assert len(world.simulation.faults.happened) >= 2
    assert only_payments(world) == 6


async def test_a_node_that_goes_down_and_comes_back_gets_each_rung_once(world: World) -> None:
    """Down before, during and after: redelivered until it listens, paid once."""
    work = await a_ladder(world)
    await world.simulation.set_listening("coordinator", False)
    back = asyncio.create_task(up_again(world))

    async def all_held() -> bool:
        return await world.states() == [InvoiceState.ACCEPTED] * 6

    assert await delivered(world, work, new_each_time=True, until=all_held) > 1
    await back
    assert only_payments(world) == 6


def told_rungs(world: World) -> list[DispatchedRung]:
    """Of every delivery."""
    return [rung for fact in world.said.facts if isinstance(fact, EscrowDispatched) for rung in fact.rungs]


async def test_a_stuck_rung_is_in_flight_however_often_it_is_delivered(world: World) -> None:
    """The peer's node hangs: nothing is sent twice, and when it goes on all rungs are held."""
    world.simulation.network.set_stuck("peer", True)
    work = await a_ladder(world)
    for _ in range(3):
        await world.invoicer().lock_ladder(work)
    assert await world.states() == [InvoiceState.OPEN] * 6
    assert {rung.status for rung in told_rungs(world)} == {"IN_FLIGHT"}
    world.simulation.network.set_stuck("peer", False)
    assert await world.states() == [InvoiceState.ACCEPTED] * 6
    assert only_payments(world) == 6


async def test_a_full_channel_fails_the_rungs_for_good(world: World) -> None:
    """LND's FAILED ends a hash: a free slot later does not make us pay it."""
    world.simulation.network.fill("coordinator", "peer")
    work = await a_ladder(world)
    await world.invoicer().lock_ladder(work)
    world.simulation.network.drain("coordinator", "peer")
    await world.invoicer().lock_ladder(work)
    assert await world.states() == [InvoiceState.OPEN] * 6
    assert {rung.status for rung in told_rungs(world)} == {"FAILED"}
    assert only_payments(world, attempts=0) == 6


async def test_a_rung_that_expired_on_chain_is_never_paid_again(world: World) -> None:
    """Stuck until its HTLC expires, the channel is closed, the payment FAILED; a redelivery leaves it there."""
    world.simulation.network.set_stuck("peer", True)
    work = await a_ladder(world)
    await world.invoicer().lock_ladder(work)
    world.simulation.network.mine(63)
    views = [await world.ours.lookup_payment(payment_hash) for payment_hash in HASHES]
    assert {view.status for view in views if view} == {PaymentStatus.FAILED}
    await world.invoicer().lock_ladder(work)
    assert only_payments(world) == 6
    assert await world.ours.channels() == []
    assert world.simulation.network.total_msat() == world.simulation.network.minted_msat


def only_payments(world: World, *, attempts: int = 1) -> int:
    """How many payments our node ever began; each is the only one on its hash, with so many attempts."""
    node = world.simulation.network.nodes["coordinator"]
    assert sorted(node.payments) == sorted(HASHES)
    assert [len(payment.attempts) for payment in node.payments.values()] == [attempts] * 6
    return node.payments_begun
