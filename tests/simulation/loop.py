"""An event loop without sockets, threads or a clock: time jumps to the next timer, and chance picks whose turn it is.

It knows processes only as names in a handle's context, and refuses to run a step of one that is dead: what a killed
process had begun simply never goes on, not even its clean-up.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar
from heapq import heappop
from typing import Any, Protocol


class Life(Protocol):
    """One incarnation of a process."""

    alive: bool


OWNER: ContextVar[Life | None] = ContextVar("OWNER", default=None)
"""Whose step this is; None for the world's own."""
LOOK_AHEAD = 12
"""So many waiting steps are looked through for other processes."""


class Deadlock(Exception):
    """Nothing is ready and nothing is timed: whoever waits would wait for ever."""


class SimLoop(asyncio.BaseEventLoop):
    """`pick(n)` answers a number below n; the same answers make the same history."""

    def __init__(self, pick: Callable[[int], int]) -> None:
        super().__init__()
        self._pick = pick
        self._now_s = 0.0
        self.steps = 0
        self.tasks: list[asyncio.Task[Any]] = []
        """All of them, so that those of a dead process are not collected in the middle of a history."""
        self.set_task_factory(self._keep_task)

    def time(self) -> float:
        """Seconds since the history began."""
        return self._now_s

    def _keep_task(self, loop: asyncio.AbstractEventLoop, coro: Any, context: Context | None = None) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, context=context)
        self.tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # done when it returns
        """At once and in place: no thread is ever started."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - an executor hands over whatever was raised
            future.set_exception(error)
        return future

    def _write_to_self(self) -> None:
        """Nobody sleeps here who would have to be woken."""

    def _run_once(self) -> None:
        """One step: of a process that chance picks among those that have one, in its own order."""
        ready: Any = self._ready  # type: ignore[attr-defined]
        timers: Any = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            self._drop_timer(timers)
        if not ready:
            if not timers:
                raise Deadlock
            self._now_s = max(self._now_s, timers[0]._when)
        while timers and timers[0]._when <= self._now_s:
            timer = self._drop_timer(timers)
            if not timer._cancelled:
                ready.append(timer)
        handle = self._take(ready)
        if handle is not None and not handle._cancelled:
            self.steps += 1
            handle._run()

    def _drop_timer(self, timers: Any) -> Any:
        timer = heappop(timers)
        timer._scheduled = False
        return timer

    def _take(self, ready: Any) -> Any:
        """The first step of one of the processes; None where it is dead."""
        if len(ready) == 1:
            handle = ready.popleft()
        else:
            firsts: dict[int, int] = {}
            for place in range(min(len(ready), LOOK_AHEAD)):
                firsts.setdefault(id(ready[place]._context.get(OWNER)), place)
            places = list(firsts.values())
            place = places[self._pick(len(places))] if len(places) > 1 else places[0]
            handle = ready[place]
            del ready[place]
        owner = handle._context.get(OWNER)
        return None if owner is not None and not owner.alive else handle
