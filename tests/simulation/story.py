"""One history from its seed: the stage is set, everybody starts, faults strike, and in the end all comes to rest.

The same seed, cast and faults tell the same history to the byte.
"""

import asyncio
import contextlib
import gc
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextvars import Context
from functools import cache
from pathlib import Path
from unittest import mock

import msgspec
import structlog
from l402_oracle.adapters import tables as oracle_tables
from l402_settler import app as settler_app
from l402_settler import tending as settler_tending
from l402_settler import watch as settler_watch
from l402_settler.adapters import tables as settler_tables
from l402core import telemetry
from l402core.events import GradientScored
from l402core.signing import SigningKey
from lndsim.network import Network
from opentelemetry.trace import INVALID_SPAN, Span

from tests.simulation import sponsor
from tests.simulation.bench import REFERENCE
from tests.simulation.bus import Broker
from tests.simulation.cast import Cast, Manner
from tests.simulation.chance import key_of, seeded
from tests.simulation.disk import Disk, SimDatabase
from tests.simulation.faults import Fault, Kind, Plan
from tests.simulation.invariants import Steps, Wrong
from tests.simulation.loop import Deadlock
from tests.simulation.node import Calls
from tests.simulation.peers import Peer
from tests.simulation.quiet import Quiet, balance_of
from tests.simulation.services import CONSUMERS, COORDINATOR, WATCHER, Coordinator, settler_config
from tests.simulation.sponsor import SPONSOR, Sponsor
from tests.simulation.web import Web
from tests.simulation.world import World

SERVICES = ("settler", "invoicer", "attestor", "worker", "gateway")
CAPACITY_MSAT, PUSHED_MSAT = 100_000_000, 20_000_000
BLOCK_EVERY_S = 60.0
PLAYED_AT_MOST_S, REST_WITHIN_S, LOOK_S = 900.0, 2_400.0, 5.0
STEPS_AT_MOST = 400_000
FIRST_REFERENCE = f"""create trigger first_reference after insert on rounds when new.round = 0
begin update rounds set reference = {REFERENCE} where round = 0; end"""  # noqa: S608 - a number of ours
"""Round 1's terms name a last reference, so that one peer alone can earn anything."""


class Told(msgspec.Struct, kw_only=True):
    """What came of a history. `wrong` is '' where everything held."""

    seed: int
    cast: Cast
    faults: tuple[Fault, ...]
    wrong: str
    digest: str
    effects: int
    steps: int
    seconds: float
    lines: list[str]
    labels: list[str]


class History:
    """One world with everybody in it."""

    def __init__(self, seed: int, cast: Cast, faults: tuple[Fault, ...], folder: Path) -> None:
        self.cast, self.faults = cast, faults
        self.world = world = World(seed, Plan(faults))
        self.network = Network(seed=key_of("network"), clock=world.now_ns)
        self._open_channels()
        self.calls, self.web = Calls(world, self.network), Web(world)
        self.broker = Broker(world, CONSUMERS)
        books, decisions = _databases()
        for disk in _disks():
            disk.wipe(world)
        expected = tuple(SigningKey(key_of(f"peer {part.name}")).public for part in cast.parts)
        config = settler_config(expected, cast.rounds, (sponsor.KEY.public,) if cast.margin else ())
        self.coordinator = Coordinator(world, self.broker, self.calls, self.web, config, books, decisions)
        world.on_leave = self._left
        world.leaves = {
            part.name: part.when for part in cast.parts if part.manner in (Manner.VANISHES, Manner.LEAVES_THE_NETWORK)
        }
        self.peers = [Peer(world, self.calls, self.web, part, cast, folder) for part in cast.parts]
        if cast.margin:
            Sponsor(world, self.broker, self.calls, cast.margin)
        keys = {peer.keys.identity.public: peer.keys.sealing for peer in self.peers}
        self.steps = Steps(*_disks(), self.network, self.coordinator, keys)
        self.quiet = Quiet(world, self.network, self.broker, self.steps, self.peers)
        for peer in self.peers:
            peer.brought_msat = balance_of(self.network, peer.part.name)
        world.check = self.steps
        self.coordinator.on_reveal = self._watch_door

    def _left(self, name: str) -> None:
        """A peer is gone; some take their node with them."""
        if any(part.name == name and part.manner is Manner.LEAVES_THE_NETWORK for part in self.cast.parts):
            self.network.set_online(name, False)

    def _watch_door(self, scored: GradientScored) -> None:
        try:
            self.steps.check_reveal(scored)
        except Wrong as wrong:
            self.world.fail(str(wrong))

    def _open_channels(self) -> None:
        network, cast = self.network, self.cast
        for name in (COORDINATOR, WATCHER, "hub", *(part.name for part in cast.parts)):
            network.add_node(name)
        if cast.hub:
            network.open_channel(COORDINATOR, "hub", 3 * CAPACITY_MSAT, CAPACITY_MSAT)
        if cast.margin:
            network.add_node(SPONSOR)
            network.open_channel(SPONSOR, COORDINATOR, CAPACITY_MSAT, PUSHED_MSAT)
        for part in cast.parts:
            network.open_channel("hub" if cast.hub else COORDINATOR, part.name, CAPACITY_MSAT, PUSHED_MSAT)

    def tell(self) -> Told:
        """Play it to its end."""
        world = self.world
        loop = world.loop
        asyncio.set_event_loop(loop)
        loop.set_exception_handler(lambda _loop, _context: None)
        try:
            loop.run_until_complete(self._play())
        except (RuntimeError, Deadlock) as stopped:
            if not world.violation:
                world.fail(f"the history came to a halt: {type(stopped).__name__}: {stopped}")
        finally:
            told = Told(
                seed=world.seed, cast=self.cast, faults=self.faults, wrong=world.violation, digest=world.digest(),
                effects=world.effects, steps=loop.steps, seconds=loop.time(), lines=world.lines, labels=world.labels,
            )  # fmt: skip
            self._leave(loop)
        return told

    async def _play(self) -> None:
        world = self.world
        for name in (*SERVICES, *(part.name for part in self.cast.parts), *([SPONSOR] if self.cast.margin else [])):
            world.start(name)
        world.loop.create_task(self._mine())
        world.loop.create_task(self._misfortune())
        for _ in range(int(PLAYED_AT_MOST_S / LOOK_S)):
            await asyncio.sleep(LOOK_S)
            if self._played():
                break
        await self._rest()

    async def _mine(self) -> None:
        while True:
            await asyncio.sleep(BLOCK_EVERY_S)
            self.network.mine()

    async def _misfortune(self) -> None:
        """What strikes by the clock."""
        world = self.world
        for fault in world.plan.timed():
            await asyncio.sleep(max(0.0, fault.at - world.monotonic()))
            if world.calm:
                return
            world.say(f"fault: {fault}")
            if fault.kind is Kind.BLOCKS:
                self.network.mine(int(fault.amount))
            elif fault.kind is Kind.REDIS_WIPED:
                self.coordinator.shelf.wipe()
            elif fault.kind is Kind.NODE_AWAY:
                self.calls.set_away(COORDINATOR, True)
                world.loop.call_later(fault.amount, self.calls.set_away, COORDINATOR, False, context=Context())
            else:
                self._delete_streams(fault.amount)

    def _delete_streams(self, back_s: float) -> None:
        """The streams vanish; as the manual says, the services are started again."""
        self.broker.delete_streams()
        for name in SERVICES:
            process = self.world.processes[name]
            if process.alive:
                self.world.kill(process, back_s)

    def _played(self) -> bool:
        """Whether every peer has played its rounds, or will never come back."""
        world = self.world
        return all(
            part.name in world.ended
            or (not world.processes[part.name].alive and part.name not in world.waiting_to_start)
            for part in self.cast.parts
        )

    async def _rest(self) -> None:
        """No more faults; everybody lives who should; time and blocks pass until nothing is open."""
        world, ends_at = self.world, self.world.monotonic() + REST_WITHIN_S
        world.calm = True
        world.say("from here on nothing strikes any more")
        self.calls.set_away(COORDINATOR, False)
        while (unrest := self.quiet.unrest()) and world.monotonic() < ends_at:
            await asyncio.sleep(LOOK_S)
            if world.loop.steps > STEPS_AT_MOST:
                break
            if self._played() and unrest.startswith("rungs"):
                self.network.mine(4)
        if unrest:
            world.fail(f"it does not come to rest: {unrest}")
            return
        wrong = self.quiet.wrong()
        if wrong:
            world.fail(wrong)

    def _leave(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Let go of every task, without a word from any of them."""
        self.world.violation = self.world.violation or "over"
        for task in self.world.loop.tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with contextlib.suppress(BaseException):
                    task.get_coro().close()
        self.world.loop.tasks.clear()
        asyncio.set_event_loop(None)
        loop.close()


@cache
def _disks() -> tuple[Disk, Disk]:
    return Disk("l402_settler"), Disk("l402_oracle", FIRST_REFERENCE)


@cache
def _databases() -> tuple[SimDatabase, SimDatabase]:
    books, decisions = _disks()
    return SimDatabase(books, settler_tables.outbox), SimDatabase(decisions, oracle_tables.outbox)


@contextlib.contextmanager
def simulated() -> Iterator[None]:
    """Inside the block histories can be told: logs are silent, and idle loops look around less often."""
    before = structlog.get_config()
    structlog.configure(
        processors=[_note_alarm],
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    with (
        mock.patch.object(settler_app, "TICK_S", 2.0),
        mock.patch.object(settler_watch, "SIGHT_EVERY_S", 10.0),
        mock.patch.object(settler_tending, "TEND_EVERY_S", 5.0),
        mock.patch.object(telemetry, "span", _no_span),
        mock.patch.object(telemetry, "traceparent", str),
        mock.patch.object(sys, "unraisablehook", _unheard),
    ):
        try:
            yield
        finally:
            structlog.configure(**before)


def _unheard(_: object) -> None:
    """A coroutine that is let go of in the middle may complain."""


@contextlib.contextmanager
def _no_span(_name: str, **_about: object) -> Iterator[Span]:
    yield INVALID_SPAN


def _note_alarm(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Alarms belong to the history; nothing else is logged."""
    if _telling:
        about = " ".join(f"{name}={str(value)[:40]}" for name, value in sorted(event.items()) if name != "event")
        _telling[-1].say(f"ALARM {event['event']} {about}")
        _telling[-1].alarms.append(str(event["event"]))
    raise structlog.DropEvent


_telling: list[World] = []
"""The world of the history that is being told."""


def tell(seed: int, cast: Cast, faults: tuple[Fault, ...] = ()) -> Told:
    """One history. Call inside `simulated`."""
    shm = Path("/dev/shm")  # noqa: S108 - memory, where there is such a place
    folder = Path(tempfile.mkdtemp(prefix="history-", dir=shm if shm.is_dir() else None))
    gc.disable()
    try:
        history = History(seed, cast, faults, folder)
        _telling.append(history.world)
        with seeded(history.world.entropy):
            return history.tell()
    finally:
        _telling.clear()
        gc.enable()
        shutil.rmtree(folder, ignore_errors=True)
