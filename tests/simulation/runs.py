"""Histories by the thousand: drawn from seeds, shortened where they fail, and told so that a person can read them."""

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
DULL = ("acks ", "commits Database.publish batch", "notes its attempt")


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
    return Trial(
        seed, casts.draw(Chance(seed, "cast")), tuple(misfortunes.draw(Chance(seed, "faults"))), f"seed {seed}"
    )


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


def shortened(trial: Trial) -> tuple[Trial, Told]:
    """The same failure with as few faults, peers and rounds as can be: each is left out, and stays out if it can."""
    best, told = trial, tell_trial(trial)
    again = True
    while again:
        again = False
        for candidate in _simpler(best):
            other = tell_trial(candidate)
            if other.wrong:
                best, told, again = candidate, other, True
                break
    return best, told


def _simpler(trial: Trial) -> Iterator[Trial]:
    """A little less of it: half of the faults, then one of them, then a peer, a round, a manner."""
    faults, cast = trial.faults, trial.cast
    if len(faults) > 2:
        half = len(faults) // 2
        yield msgspec.structs.replace(trial, faults=faults[half:])
        yield msgspec.structs.replace(trial, faults=faults[:half])
    for place in range(len(faults)):
        yield msgspec.structs.replace(trial, faults=faults[:place] + faults[place + 1 :])
    simpler: list[Cast] = [msgspec.structs.replace(cast, hub=False)] if cast.hub else []
    if cast.margin:
        simpler.append(msgspec.structs.replace(cast, margin=0))
    if cast.rounds > 1:
        simpler.append(msgspec.structs.replace(cast, rounds=1))
    if len(cast.parts) > 1:
        simpler += [
            msgspec.structs.replace(cast, parts=cast.parts[:place] + cast.parts[place + 1 :])
            for place in range(len(cast.parts))
        ]
    for one in simpler:
        yield msgspec.structs.replace(trial, cast=one)


def story(trial: Trial, told: Told) -> str:
    """A history for people: who took part, what went wrong with the world, and what happened."""
    about = [
        f"seed {trial.seed}: {', '.join(map(str, trial.cast.parts))}; {trial.cast.rounds} round(s)"
        + (", over a hub" if trial.cast.hub else "")
        + (f", a sponsor asks for {trial.cast.margin} nano-nats" if trial.cast.margin else ""),
        *(f"  fault: {fault}" for fault in trial.faults),
    ]
    return "\n".join([*about, *_readable(told.lines), f"=> {told.wrong or 'all is well'}", f"   {told.digest}"])


def _readable(lines: list[str]) -> Iterator[str]:
    """Without what goes without saying, and with repetitions counted."""
    kept = [line for line in lines if not any(word in line for word in DULL)]
    for _, group in itertools.groupby(kept, key=lambda line: line[9:]):
        same = list(group)
        yield same[0] + (f"  (x{len(same)})" if len(same) > 1 else "")


def cores() -> int:
    """As many processes as there are cores, four at most."""
    return min(4, os.cpu_count() or 1)
