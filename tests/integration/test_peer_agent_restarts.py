"""A peer's agent against a scripted coordinator and simulated nodes: the whole story, cut off anywhere and told on."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from l402_peer_agent.adapters.journal import Journal
from l402_peer_agent.agent import Agent
from l402_peer_agent.app import Keys, Parts
from l402_peer_agent.config import Config
from l402_peer_agent.fees import Fees
from l402_peer_agent.outcome import Outcome
from l402_peer_agent.patience import Patience
from l402_peer_agent.policy import SpendingCaps
from l402core.documents import Terms
from l402core.errors import Unavailable
from l402core.events import SubmissionView
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.sealing import UnsealingKey, unseal_payload
from l402core.signing import SigningKey
from lndsim import Simulation

from tests.support.coordinators import ACCEPTED_UNITS, FEE_MSAT, READING, UNIT_MSAT, Coordinator, now_ms

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

    def conclude(self, round_: int, *, accepted: bool) -> None:
        self.concluded.append((round_, accepted))


class Stage:
    """A coordinator, a peer's node, and a peer that can be started as often as one likes."""

    def __init__(self, simulation: Simulation, folder: Path, *, peer: str = "peer") -> None:
        self.simulation, self.folder = simulation, folder
        self.ours: GrpcNode = connect(simulation.endpoint("coordinator"))
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


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A coordinator and a peer, joined by one channel."""
    async with await Simulation.start(tmp_path / "lnd") as simulation:
        for name in ("coordinator", "peer"):
            await simulation.add_node(name)
        simulation.network.open_channel("coordinator", "peer", 2_000_000_000, 1_000_000_000)
        stage = Stage(simulation, tmp_path / "peer")
        stage.folder.mkdir()
        stage.coordinator.open_round(1)
        yield stage
        await stage.close()


async def all_went_well(stage: Stage) -> None:
    """One fee paid, the earned rungs settled, the others back, the gradient delivered once, one line written."""
    assert await stage.fees_paid_msat() == FEE_MSAT
    earned = ACCEPTED_UNITS * UNIT_MSAT
    assert await stage.rewards() == {
        InvoiceState.SETTLED: earned,
        InvoiceState.CANCELED: 63 * UNIT_MSAT - earned,
    }
    (outcome,) = stage.outcomes()
    assert (outcome.verdict, outcome.reward_msat) == ("accepted", earned)
    (sealed,) = stage.coordinator.uploads.values()
    assert unseal_payload(sealed, READING)[0] == b"packed for round 1"


async def test_a_round_from_the_terms_to_the_last_rung(stage: Stage) -> None:
    """The story without accidents."""
    await stage.run()
    await all_went_well(stage)


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
async def test_a_peer_killed_at_any_call_is_paid_once_and_pays_once(tmp_path: Path, after: bool) -> None:
    """Killed at each call it makes, to its node or the coordinator, the next start ends the round as if nothing was."""
    async with await Simulation.start(tmp_path / "lnd") as simulation:
        await simulation.add_node("coordinator")
        for dies_at in range(1_000):
            folder = tmp_path / str(dies_at)
            folder.mkdir()
            await simulation.add_node(name := f"peer{dies_at}")
            simulation.network.open_channel("coordinator", name, 2_000_000_000, 1_000_000_000)
            stage = Stage(simulation, folder, peer=name)
            stage.coordinator.open_round(1)
            try:
                await stage.run(dies_at=dies_at, after=after)
            except Killed:
                await stage.run()
                await all_went_well(stage)
            else:
                assert dies_at > 3 * RUNGS
                return
            finally:
                await stage.close()
    pytest.fail("the agent never came to an end")


class Recovering(Coordinator):
    """Does not answer the first look after a restart, and takes no upload any more."""

    silent = 0

    async def submission(self, round_: int, commitment: str) -> SubmissionView:
        self.silent -= 1
        if self.silent >= 0:
            raise Unavailable("gateway", "restarting")
        return await super().submission(round_, commitment)


async def test_a_payload_that_may_have_left_is_collected_on(stage: Stage) -> None:
    """Killed right after the upload and back after its deadline, with nobody answering at first: the reward is taken."""
    stage.coordinator = Recovering(stage.ours, seconds=1.0)
    stage.coordinator.open_round(1)
    with pytest.raises(Killed):
        await stage.run(dies_after="upload")
    await asyncio.sleep((stage.coordinator.rounds[1].upload_until_ms - now_ms()) / 1_000)
    stage.coordinator.silent = 2
    await stage.run()
    await all_went_well(stage)


async def test_a_rejected_gradient_returns_every_rung(stage: Stage) -> None:
    """The fee is spent, nothing is earned, and the coordinator has its money back at once."""
    stage.coordinator = Coordinator(stage.ours, units=0)
    stage.coordinator.open_round(1)
    await stage.run()
    assert await stage.rewards() == {InvoiceState.CANCELED: 63 * UNIT_MSAT}
    assert stage.outcomes()[0].verdict == "rejected"


async def test_a_fee_that_bought_nothing_opens_a_later_round(stage: Stage) -> None:
    """No offer came: the round is missed, the credit is claimed, and no second fee is paid."""
    stage.coordinator = Coordinator(stage.ours, seconds=1.0)
    stage.coordinator.serves_offers = False
    stage.coordinator.open_round(1)
    await stage.run()
    (missed,) = stage.outcomes()
    assert missed.verdict == "missed"
    (payment,) = await stage.theirs.list_payments()
    later = Coordinator(stage.ours)
    later.credits[payment.payment_hash.hex()] = "ee" * 32
    later.open_round(2)
    stage.coordinator = later
    await stage.run(rounds=2)
    assert await stage.fees_paid_msat() == FEE_MSAT
    assert stage.outcomes()[1].verdict == "accepted"
    assert stage.outcomes()[1].fee_msat == 0


async def test_a_fee_above_the_cap_is_not_paid(stage: Stage) -> None:
    """The owner's cap wins over signed terms: the round is missed and no money moves."""
    await stage.run(fee_cap_msat=FEE_MSAT - 1)
    assert stage.outcomes()[0].verdict == "missed"
    assert await stage.theirs.list_payments() == []


async def test_keys_seen_first_are_the_keys_for_good(stage: Stage) -> None:
    """Another settler later on is refused, although its terms are signed well."""
    await stage.run()
    journal = Journal(stage.folder / "journal.sqlite3")
    assert journal.pinned("settler") == stage.coordinator.rounds[1].settler
    journal._db.execute("UPDATE pins SET value = ? WHERE name = 'settler'", ("ab" * 32,))
    journal.close()
    stage.coordinator.open_round(2)
    await stage.run(rounds=2)
    assert stage.outcomes()[1].verdict == "missed"
    assert "wrong_signer" in stage.outcomes()[1].reasons[0]
    assert await stage.fees_paid_msat() == FEE_MSAT
