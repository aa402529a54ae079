"""Histories by the thousand: drawn from seeds, told here or in other processes, and counted."""

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Protocol, TypeVar

import msgspec

from tests.simulation import cast as casts
from tests.simulation import faults as misfortunes
from tests.simulation.cast import Cast
from tests.simulation.chance import Chance
from tests.simulation.faults import Fault
from tests.simulation.silence import simulated
from tests.simulation.story import Told, tell

T = TypeVar("T")
R = TypeVar("R")


class Trial(msgspec.Struct, frozen=True):
    """One history to be told."""

    seed: int
    cast: Cast
    faults: tuple[Fault, ...] = ()
    name: str = ""


class Brief(Protocol):
    """What of a telling is counted."""

    @property
    def wrong(self) -> str: ...

    @property
    def effects(self) -> int: ...

    @property
    def steps(self) -> int: ...

    @property
    def seconds(self) -> float: ...


class Count(msgspec.Struct):
    """What a run came to."""

    histories: int = 0
    effects: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    seconds: float = 0.0
    wrong: list[tuple[Trial, str]] = []

    def add(self, trial: Trial, told: Brief) -> None:
        """One more."""
        self.histories += 1
        self.effects += told.effects
        self.steps += told.steps
        self.virtual_s += told.seconds
        if told.wrong:
            self.wrong.append((trial, told.wrong))

    def join(self, other: "Count") -> None:
        """Both together, told one after the other."""
        self.histories += other.histories
        self.effects += other.effects
        self.steps += other.steps
        self.virtual_s += other.virtual_s
        self.seconds += other.seconds
        self.wrong += other.wrong

    def sentence(self) -> str:
        """For people."""
        rate = self.histories / self.seconds if self.seconds else 0.0
        return (
            f"{self.histories} histories, {self.effects} effects, {self.steps} steps, {self.virtual_s / 3600:.1f} simulated "
            f"hours in {self.seconds:.1f} s ({rate:.1f} histories/s): {len(self.wrong)} wrong"
        )


def drawn(seed: int) -> Trial:
    """The history of a seed."""
    faults = misfortunes.draw(Chance(seed, "faults")) + misfortunes.draw_rotations(Chance(seed, "keys"))
    faults += misfortunes.draw_freezes(Chance(seed, "freezes"))
    return Trial(seed, casts.draw(Chance(seed, "cast")), tuple(faults), f"seed {seed}")


def tell_trial(trial: Trial) -> Told:
    """The history, told. It can run in any process."""
    with simulated():
        return tell(trial.seed, trial.cast, trial.faults)


def _brief(trial: Trial) -> tuple[Trial, Told]:
    return trial, msgspec.structs.replace(tell_trial(trial), lines=[], labels=[])


def run(
    trials: Iterable[Trial], *, jobs: int = 1, seconds_max: float = 0.0, heard: Callable[[Count], None] = lambda _: None
) -> Count:
    """Tell them all, or as many as fit the time. `heard` is told how far it is after each."""
    count, began = Count(wrong=[]), time.monotonic()
    for trial, told in _spread(_brief, trials, jobs):
        count.add(trial, told)
        count.seconds = time.monotonic() - began
        heard(count)
        if seconds_max and time.monotonic() - began > seconds_max:
            break
    return count


def _spread(work: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[R]:
    """In this process, or over several; never more than a few are waiting."""
    if jobs <= 1:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(jobs) as pool:
        todo = iter(items)
        waiting = [pool.submit(work, item) for item in itertools.islice(todo, 4 * jobs)]
        while waiting:
            first = waiting.pop(0)
            waiting += [pool.submit(work, item) for item in itertools.islice(todo, 1)]
            try:
                yield first.result()
            except GeneratorExit:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def cores() -> int:
    """As many processes as there are cores, four at most."""
    return min(4, os.cpu_count() or 1)
