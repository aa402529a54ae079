"""Many endings of one history from one telling: where something may strike the process forks, and it strikes the copy.

A copy has all that the history has in memory and a folder of its own, so that it ends as a whole telling with that
fault does, to the byte. It knows no service.
"""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from tests.simulation.faults import Fault, Plan
from tests.simulation.story import Told
from tests.simulation.world import World

Point = Literal["at_effect", "at_call", "at_publish"]
"""What a world tells of, and where a copy is made."""


class Ending(msgspec.Struct, frozen=True):
    """What a copy says when it is over."""

    fault: Fault
    wrong: str
    digest: str
    effects: int
    steps: int
    seconds: float


class _Copy(msgspec.Struct, frozen=True):
    fault: Fault
    pid: int
    answer: int
    """The end of a pipe on which it will say one thing."""


class Forks:
    """`wanted`: the faults that strike at what has this number and label, one copy each; `jobs` run at once."""

    def __init__(
        self, wanted: Callable[[int, str], Sequence[Fault]], *, point: Point = "at_effect", jobs: int = 1
    ) -> None:  # fmt: skip
        self._wanted, self._point, self._jobs = wanted, point, jobs
        self._running: list[_Copy] = []
        self.endings: list[Ending] = []
        self._mine: tuple[Fault, int] | None = None
        """In a copy: what strikes here, and where to say what came of it."""

    def watch(self, world: World) -> None:
        """This is the history."""
        setattr(world, self._point, self._at)

    def over(self, told: Told) -> None:
        """The telling has ended. A copy says so and is gone; the history itself waits for its copies."""
        if self._mine is not None:
            fault, says = self._mine
            end = Ending(fault, told.wrong, told.digest, told.effects, told.steps, told.seconds)
            with contextlib.suppress(BrokenPipeError):
                os.write(says, msgspec.json.encode(end))
            shutil.rmtree(Path.cwd(), ignore_errors=True)
            os._exit(0)
        while self._running:
            self._collect()

    @contextlib.contextmanager
    def contained(self) -> Iterator[None]:
        """A copy never leaves the block: whatever is raised in it, the process ends here."""
        try:
            yield
        finally:
            if self._mine is not None:
                os._exit(1)

    def _at(self, world: World, number: int, label: str) -> None:
        """It is about to happen."""
        if self._mine is not None:
            return
        for fault in self._wanted(number, label):
            while len(self._running) >= self._jobs:
                self._collect()
            mine = _copied()
            hears, says = os.pipe()
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                os.close(hears)
                self._mine = (fault, says)
                os.chdir(mine)
                asyncio._set_running_loop(world.loop)  # asyncio takes the one of another process for none
                world.plan = Plan((fault,))
                return
            os.close(says)
            self._running.append(_Copy(fault, pid, hears))

    def _collect(self) -> None:
        """Wait for the oldest copy. One that says nothing is a failure of its own."""
        copy = self._running.pop(0)
        with os.fdopen(copy.answer, "rb") as hears:
            said = hears.read()
        os.waitpid(copy.pid, 0)
        if said:
            self.endings.append(msgspec.json.decode(said, type=Ending))
        else:
            self.endings.append(Ending(copy.fault, "the copy died without a word", "", 0, 0, 0.0))


def _copied() -> Path:
    """A copy of the current folder, below which a history writes; made before the fork, because the history goes on at once."""
    mine = Path(tempfile.mkdtemp(prefix="history-", dir=Path.cwd().parent))
    shutil.copytree(Path.cwd(), mine, dirs_exist_ok=True)
    return mine
