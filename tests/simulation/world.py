"""The world of a history: its clock, its processes and the effects they have. It knows no service and no money.

An effect is a call that lnd acts upon, a commit, a publish, an ack, an object or a line of a journal. A process dies
between two of them or at one, and what it had begun never goes on.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context, copy_context

from tests.simulation.chance import Chance
from tests.simulation.faults import Fault, Kind, Plan
from tests.simulation.loop import OWNER, SimLoop

START_S = 1_700_000_000
"""The unix second at which every history begins."""


Moment = Callable[["World", int, str], None]
"""Told the number and the label of what is about to happen."""


class Killed(BaseException):
    """The process is dead at this very line."""


class Process:
    """One incarnation: what it starts belongs to its context, and ends with it."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number, self.alive = name, number, True
        self.context: Context = copy_context()
        self.context.run(OWNER.set, self)

    def __repr__(self) -> str:
        return self.name


class World:
    """One history. `check` is called after each effect and says what is wrong; '' where nothing is."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.seed, self.plan = seed, plan
        order = Chance(seed, "order")
        self.loop = SimLoop(order.below)
        self.pace = Chance(seed, "pace")
        self.entropy = Chance(seed, "entropy")
        self.lines: list[str] = []
        self.effects = 0
        self.labels: list[str] = []
        """What each effect was, from the first."""
        self.alarms: list[str] = []
        self.calm = False
        """From here on nothing strikes any more."""
        self.violation = ""
        self.check: Callable[[], str] = str
        self.at_effect: Moment = _unheard
        """Told of each effect that is about to happen."""
        self.at_call: Moment = _unheard
        """Told of each call to a node that is about to be made, as long as it may be lost."""
        self.at_publish: Moment = _unheard
        """Told of each publish that is about to be made, as long."""
        self.on_death: list[Callable[[Process], None]] = []
        self.processes: dict[str, Process] = {}
        self.ended: set[str] = set()
        """Processes that had nothing more to do."""
        self._starters: dict[str, Callable[[Process], Awaitable[None]]] = {}
        self.waiting_to_start: set[str] = set()
        self.leaves: dict[str, int] = {}
        """Processes that vanish for good after so many effects of their own."""
        self.mine: Callable[[int], object] = lambda _: None
        """Blocks, at once."""
        self.on_leave: Callable[[str], None] = lambda _: None

    # --- clocks ---------------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self.loop.time()

    def now_ns(self) -> int:
        """Unix nanoseconds, whole milliseconds."""
        return self.now_ms() * 1_000_000

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return START_S * 1_000 + int(self.loop.time() * 1_000)

    async def pause(self, longest_s: float = 0.01) -> None:
        """A moment of any length: others may come first."""
        await asyncio.sleep(self.pace.between(0.0005, longest_s))

    # --- what is told ---------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """One line of the history."""
        owner = OWNER.get()
        self.lines.append(f"{self.loop.time():9.3f}  {owner or 'world'!s:9}  {text}")

    def digest(self) -> str:
        """What two tellings of the same history have in common."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()

    def fail(self, what: str) -> None:
        """The history ends here: something is wrong."""
        if not self.violation:
            self.violation = what
            self.say(f"WRONG: {what}")
            self.loop.stop()

    # --- processes ------------------------------------------------------------------------------------------------

    def add(self, name: str, starter: Callable[[Process], Awaitable[None]]) -> None:
        """A process that can be started, and again after each death."""
        self._starters[name] = starter

    def start(self, name: str) -> None:
        """A new incarnation."""
        self.waiting_to_start.discard(name)
        known = self.processes.get(name)
        if known is not None and known.alive:
            return
        process = Process(name, known.number + 1 if known else 1)
        self.processes[name] = process
        self.say(f"{name} starts" + (f" again ({process.number})" if known else ""))
        self.spawn(process, self._live(process))

    async def _live(self, process: Process) -> None:
        await self._starters[process.name](process)
        self.ended.add(process.name)
        self.say(f"{process.name} has nothing more to do")

    def spawn(self, process: Process, story: Awaitable[None]) -> None:
        """A task of this process; that it raises is a defect."""

        async def run() -> None:
            await story

        task = self.loop.create_task(run(), context=process.context.copy())
        task.add_done_callback(lambda done: self._ended(process, done), context=Context())

    def _ended(self, process: Process, done: "asyncio.Task[None]") -> None:
        if done.cancelled() or not process.alive:
            return
        error = done.exception()
        if error is not None and not isinstance(error, Killed):
            self.fail(f"{process.name} broke down: {type(error).__name__}: {error}")

    def kill(self, process: Process, back_s: float) -> None:
        """Nothing of it goes on. It comes back after so long; never where that is negative."""
        process.alive = False
        for hook in self.on_death:
            hook(process)
        if back_s >= 0:
            self.waiting_to_start.add(process.name)
            self.loop.call_later(back_s, self.start, process.name, context=Context())

    # --- effects --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def effect(self, label: str) -> Iterator[None]:
        """What happens inside is one effect of the current process, which may die right before or right after it."""
        self.begin(label)
        yield
        self.done(label)

    def begin(self, label: str) -> None:
        """An effect is about to happen. Raises Killed where its process dies first."""
        process = self.living()
        if process is None:
            return
        self.effects += 1
        self.labels.append(f"{process.name} {label}")
        self.at_effect(self, self.effects, self.labels[-1])
        if process.name in self.leaves:
            self._count_down(process)
        strike = None if self.calm else self.plan.take(self.effects, Kind.KILL_BEFORE)
        if strike is not None:
            self._strike(process, strike, label)

    def done(self, label: str) -> None:
        """It has happened. Raises Killed where its process dies of it, or where something is wrong now."""
        process = self.living()
        if process is None:
            return
        self.say(label)
        trouble = self.check()
        if trouble:
            self.fail(trouble)
            raise Killed
        strike = None if self.calm else self.plan.take(self.effects, Kind.KILL_AFTER)
        if strike is not None:
            self._strike(process, strike, label)

    def _count_down(self, process: Process) -> None:
        self.leaves[process.name] -= 1
        if self.leaves[process.name] < 0:
            self.say(f"{process.name} vanishes")
            self.kill(process, -1.0)
            self.on_leave(process.name)
            raise Killed

    def _strike(self, process: Process, strike: Fault, label: str) -> None:
        where = "before" if strike.kind is Kind.KILL_BEFORE else "after"
        self.say(f"{process.name} is killed {where} effect {strike.at}: {label}")
        self.kill(process, strike.amount)
        if strike.blocks:
            self.loop.call_later(strike.amount / 2, self.mine, strike.blocks, context=Context())
        raise Killed

    def living(self) -> Process | None:
        """The current process; None for the world itself. Raises Killed in one that is dead, or when all is over."""
        process = OWNER.get()
        if process is not None and (not process.alive or self.violation):
            raise Killed
        assert process is None or isinstance(process, Process)
        return process

    def strikes(self, number: int, *kinds: Kind) -> Fault | None:
        """The fault that meets this call or message, told in the history."""
        fault = None if self.calm else self.plan.take(number, *kinds)
        if fault is not None:
            self.say(f"fault: {fault}")
        return fault


def _unheard(_world: World, _number: int, _label: str) -> None:
    """Nobody makes copies of this history."""
