"""A peer's agent that can be started as often as one likes, and killed at any of its calls, on a simulated node."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from l402_peer_agent.adapters.journal import Journal
from l402_peer_agent.agent import Agent
from l402_peer_agent.app import Keys, Parts
from l402_peer_agent.config import Config
from l402_peer_agent.fees import Fees
from l402_peer_agent.outcome import Outcome
from l402_peer_agent.patience import Patience
from l402_peer_agent.policy import SpendingCaps
from l402core.documents import Terms
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.sealing import UnsealingKey
from l402core.signing import SigningKey
from lndsim import Simulation

from tests.support.coordinators import Coordinator, now_ms

KEYS = Keys(SigningKey(b"\x11" * 32), UnsealingKey(b"\x12" * 32))
RUNGS = 6


class Killed(BaseException):
    """The process ends here, as by SIGKILL: nothing of ours may catch it."""


class Mortal:
    """Passes calls on to `inner`; the process dies before or after the effect of call number `dies_at`."""

    def __init__(
        self, inner: Any, count: "itertools.count[int]", dies_at: int | None, *, after: bool, named: str = ""
    ) -> None:
        self._inner, self._count, self._dies_at, self._after, self._named = inner, count, dies_at, after, named

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name in {"watch_invoice", "listen"}:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            dies = next(self._count) == self._dies_at
            if dies and not self._after:
                raise Killed
            answer = await method(*args, **kwargs)
            if dies or name == self._named:
                raise Killed
            return answer

        return call


class StubWork:
    """A payload that needs no training."""

    def __init__(self) -> None:
        self.concluded: list[tuple[int, bool]] = []

    async def packed(self, terms: Terms, checkpoint: bytes) -> bytes:
        return b"packed for round %d" % terms.round

    def opened(self, terms: Terms, packed: bytes) -> None:
        pass

    async def sent(self, terms: Terms, sealed: bytes) -> bytes:
        return sealed

    def conclude(self, round_: int, *, accepted: bool) -> None:
        self.concluded.append((round_, accepted))


@asynccontextmanager
async def staged(
    simulation: Simulation,
    folder: Path,
    *,
    peer: str = "peer",
    coordinator: str = "coordinator",
    plays: Callable[[GrpcNode], Coordinator] = Coordinator,
) -> "AsyncIterator[Stage]":
    """Two new nodes with one channel between them, and a round that is open."""
    for name in (coordinator, peer):
        await simulation.add_node(name)
    simulation.network.open_channel(coordinator, peer, 2_000_000_000, 1_000_000_000)
    await asyncio.to_thread(folder.mkdir)
    stage = Stage(simulation, folder, peer=peer, coordinator=coordinator)
    stage.coordinator = plays(stage.ours)
    stage.coordinator.open_round(1)
    try:
        yield stage
    finally:
        await stage.close()


class Stage:
    """A coordinator, a peer's node, and a peer that can be started as often as one likes."""

    def __init__(
        self, simulation: Simulation, folder: Path, *, peer: str = "peer", coordinator: str = "coordinator"
    ) -> None:
        self.simulation, self.folder = simulation, folder
        self.ours: GrpcNode = connect(simulation.endpoint(coordinator))
        self.theirs: GrpcNode = connect(simulation.endpoint(peer))
        self.coordinator = Coordinator(self.ours)

    async def run(
        self, *, rounds: int = 1, dies_at: int | None = None, after: bool = False, dies_after: str = "", **knobs: Any
    ) -> None:
        """Run the agent to its end, or to its death at a call of this number or after one of this name."""
        config = Config(data_dir=self.folder, rounds=rounds, **{"poll_s": 0.05, "grace_s": 1.0, **knobs})
        count = itertools.count()
        gateway: Any = Mortal(self.coordinator, count, dies_at, after=after, named=dies_after)
        node: Any = Mortal(self.theirs, count, dies_at, after=after)
        journal = Journal(self.folder / "journal.sqlite3")
        caps = SpendingCaps(round_msat=config.fee_cap_msat, total_msat=config.total_cap_msat)
        fees = Fees(node, gateway, journal, caps=caps, routing_fee_max_msat=1_000, look_s=5, now_ms=now_ms)
        info = await self.theirs.info()
        parts = Parts(
            config=config, keys=KEYS, gateway=gateway, node=node, fees=fees, memory=journal, work=StubWork(),
            patience=Patience(config.poll_s, now_ms), payout_node=info.pubkey, now_ms=now_ms,
        )  # fmt: skip
        try:
            await Agent(parts).run()
        finally:
            journal.close()

    def outcomes(self) -> list[Outcome]:
        """What the peer wrote down."""
        lines = (self.folder / "rounds.jsonl").read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Outcome) for line in lines]

    async def fees_paid_msat(self) -> int:
        """What left the peer's node."""
        payments = await self.theirs.list_payments()
        return sum(payment.amount_msat for payment in payments if payment.status is PaymentStatus.SETTLED)

    async def rewards(self) -> dict[InvoiceState, int]:
        """msat at the peer's node by the state of the rung."""
        totals: dict[InvoiceState, int] = {}
        for view in await self.theirs.list_invoices():
            totals[view.state] = totals.get(view.state, 0) + view.amount_msat
        return totals

    async def close(self) -> None:
        """Nothing is left running."""
        for task in self.coordinator.paying:
            task.cancel()
        await asyncio.gather(*self.coordinator.paying, return_exceptions=True)
        await self.ours.close()
        await self.theirs.close()
