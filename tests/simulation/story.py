"""One history from its seed: the stage is set, everybody starts, faults strike, and in the end all comes to rest.

The same seed, cast and faults tell the same history to the byte.
"""

import asyncio
import contextlib
import gc
import tempfile
from functools import cache
from pathlib import Path
from typing import Protocol

import msgspec
from l402_oracle.adapters import tables as oracle_tables
from l402_settler.adapters import books as settler_books
from l402_settler.adapters import tables as settler_tables
from l402core.events import GradientScored
from l402core.signing import SigningKey
from lndsim.network import Network

from tests.simulation import sponsor
from tests.simulation.bench import REFERENCE
from tests.simulation.broker import Broker
from tests.simulation.cast import Cast, Manner
from tests.simulation.chance import key_of, seeded
from tests.simulation.disk import Disk, SimDatabase
from tests.simulation.faults import Fault, Plan
from tests.simulation.invariants import Steps, Wrong
from tests.simulation.loop import Deadlock
from tests.simulation.node import Calls
from tests.simulation.overdue import Overdue
from tests.simulation.peers import Peer
from tests.simulation.quiet import Quiet, balance_of
from tests.simulation.services import CONSUMERS, COORDINATOR, SERVICES, WATCHER, Coordinator, settler_config
from tests.simulation.silence import telling
from tests.simulation.sponsor import SPONSOR, Sponsor
from tests.simulation.weather import Weather
from tests.simulation.web import Web
from tests.simulation.world import World

CAPACITY_MSAT, PUSHED_MSAT = 100_000_000, 20_000_000
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

    def __init__(self, seed: int, cast: Cast, faults: tuple[Fault, ...]) -> None:
        self.cast, self.faults = cast, faults
        self.world = world = World(seed, Plan(faults))
        self.network = Network(seed=key_of("network"), clock=world.now_ns)
        self._open_channels()
        self.calls, self.web = Calls(world, self.network), Web(world)
        self.broker = Broker(world, CONSUMERS)
        books, decisions = _databases()
        for disk in disks():
            disk.wipe(world)
        expected = tuple(SigningKey(key_of(f"peer {part.name}")).public for part in cast.parts)
        config = settler_config(expected, cast.rounds, (sponsor.KEY.public,) if cast.margin else ())
        self.coordinator = Coordinator(world, self.broker, self.calls, self.web, config, books, decisions)
        self.weather = Weather(world, self.network, self.calls, self.broker, self.coordinator)
        world.on_leave = self._left
        world.leaves = {
            part.name: part.when for part in cast.parts if part.manner in (Manner.VANISHES, Manner.LEAVES_THE_NETWORK)
        }
        self.peers = [Peer(world, self.broker, self.calls, self.web, part, cast) for part in cast.parts]
        if cast.margin:
            Sponsor(world, self.web, self.calls, cast.margin)
        keys = {peer.keys.identity.public: peer.keys.sealing for peer in self.peers}
        self.steps = Steps(*disks(), self.network, self.coordinator, keys)
        self.overdue = Overdue(world, self.network, self.calls, self.broker, self.steps.waiting)
        self.quiet = Quiet(world, self.network, self.broker, self.steps, self.peers)
        for peer in self.peers:
            peer.brought_msat = balance_of(self.network, peer.part.name)
        world.check = self.steps
        world.mine = self.network.mine
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
        world.loop.create_task(self.weather.mine())
        world.loop.create_task(self.weather.strike())
        for _ in range(int(PLAYED_AT_MOST_S / LOOK_S)):
            await self._look()
            if self._played():
                break
        await self._rest()

    async def _look(self) -> None:
        """A while later: is anything overdue?"""
        await asyncio.sleep(LOOK_S)
        overdue = self.overdue.wrong()
        if overdue:
            self.world.fail(overdue)

    def _played(self) -> bool:
        """Whether every peer has played its rounds, or will never come back, and a sponsor knows how its tranche ended."""
        world = self.world
        return (not self.cast.margin or SPONSOR in world.ended) and all(
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
            await self._look()
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
def disks() -> tuple[Disk, Disk]:
    """The settler's and the attestor's, for all histories of this process."""
    return Disk("l402_settler"), Disk("l402_oracle", FIRST_REFERENCE)


@cache
def _databases() -> tuple[SimDatabase, SimDatabase]:
    books, decisions = disks()
    return SimDatabase(books, settler_tables.outbox, settler_books.read_ahead), SimDatabase(
        decisions, oracle_tables.outbox
    )


class Splits(Protocol):
    """Who makes copies of a history while it is told: see `forks`."""

    def watch(self, world: World) -> None: ...

    def over(self, told: Told) -> None: ...

    def contained(self) -> contextlib.AbstractContextManager[None]: ...


def tell(seed: int, cast: Cast, faults: tuple[Fault, ...] = (), *, splits: Splits | None = None) -> Told:
    """One history, which writes below a folder of its own. Call inside `simulated`."""
    shm = Path("/dev/shm")  # noqa: S108 - memory, where there is such a place
    gc.disable()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="history-", dir=shm if shm.is_dir() else None) as folder,
            contextlib.chdir(folder),
            splits.contained() if splits else contextlib.nullcontext(),
        ):
            history = History(seed, cast, faults)
            telling.append(history.world)
            if splits:
                splits.watch(history.world)
            with seeded(history.world.entropy):
                told = history.tell()
            if splits:
                splits.over(told)
            return told
    finally:
        telling.clear()
        gc.enable()
