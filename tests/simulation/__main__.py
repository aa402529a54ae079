"""Histories from the command line: `python -m tests.simulation`. Exit code 1 where one went wrong."""

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation import exhaustive, planted, runs
from tests.simulation.runs import Count, Trial
from tests.simulation.shortening import read, shortened, story, written

SHOWN = 3
HEARD_EVERY_S = 60.0


def main() -> int:
    """Tell one history, many, or the exhaustive ones."""
    parser = argparse.ArgumentParser(prog="make simulate")
    parser.add_argument("--seed", type=int, help="tell this one history, whole")
    parser.add_argument("--history", default="", help="tell this one, which a failing run has printed")
    parser.add_argument("--seeds", type=int, default=1_000, help="tell so many random ones")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seconds-max", type=float, default=0.0, help="stop after so long, and say how many they were")
    parser.add_argument("--jobs", type=int, default=runs.cores())
    parser.add_argument("--exhaustive", action="store_true", help="a death at every effect of every story, and more")
    parser.add_argument("--only", default="", help="of the exhaustive ones those with this in their name")
    parser.add_argument("--planted", action="store_true", help="look for bugs that are planted on purpose")
    asked = parser.parse_args()
    if asked.planted:
        return _planted(asked.jobs)
    if asked.history:
        return _tell(read(asked.history))
    if asked.seed is not None:
        return _tell(runs.drawn(asked.seed))
    failed = False
    if asked.exhaustive:
        for name, count in _exhaustive(asked.jobs, asked.only):
            failed |= _report(name, count)
    else:
        seeds = range(asked.first, asked.first + asked.seeds)
        count = runs.run(map(runs.drawn, seeds), jobs=asked.jobs, seconds_max=asked.seconds_max, heard=_progress())
        failed = _report(f"random, seeds from {asked.first} on", count)
    return 1 if failed else 0


def _tell(trial: Trial) -> int:
    """One history, whole."""
    told = runs.tell_trial(trial)
    _say(story(trial, told))
    return 1 if told.wrong else 0


def _planted(jobs: int) -> int:
    """Every planted bug, found or not, as a table."""
    with ProcessPoolExecutor(jobs) as pool:
        found = list(pool.map(planted.look_for_number, range(len(planted.PLANTED))))
    for line in planted.table(found):
        _say(line)
    missed = sum(not one.after for one in found)
    _say(f"{len(found) - missed} of {len(found)} planted bugs were found")
    return 1 if missed else 0


def _exhaustive(jobs: int, only: str) -> Iterator[tuple[str, Count]]:
    for name, cast in exhaustive.STORIES.items():
        if only in name:
            yield f"{name}, killed before and after each effect", exhaustive.deaths(name, cast, jobs=jobs)
            yield f"{name}, each call to lnd lost, and each answer", exhaustive.lost_calls(name, cast, jobs=jobs)
    for name in exhaustive.ON_THE_BUS:
        if only in name:
            yield f"{name}, its stream lost after each publish", exhaustive.lost_streams(name, jobs=jobs)
            yield (
                f"{name}, each stream lost, and the bus restarted, at each second",
                exhaustive.lost_seconds(name, jobs=jobs),
            )
    for name in exhaustive.AWAY:
        if only in name:
            yield f"main, killed before and after each effect, {name}", exhaustive.away(name, jobs=jobs)
    if only in "masks":
        yield "64 masks, killed at each reveal", exhaustive.ladder(range(exhaustive.MASKS), jobs=jobs)


def _report(name: str, count: Count) -> bool:
    """How many they were, and the shortest form of some that went wrong."""
    _say(f"{name}: {count.sentence()}")
    for trial, wrong in count.wrong[SHOWN:]:
        _say(f"  {trial.name}: {wrong}")
    for trial, wrong in count.wrong[:SHOWN]:
        _say(f"\n{trial.name}: {wrong}")
        best, told = shortened(trial)
        _say(story(best, told))
        _say(f"tell it again: make simulate HISTORY='{written(best)}'")
    return bool(count.wrong)


def _progress() -> Callable[[Count], None]:
    """A line now and then, and one as soon as a history goes wrong: a long run is read while it lasts."""
    told, wrong = 0.0, 0

    def heard(count: Count) -> None:
        nonlocal told, wrong
        for trial, what in count.wrong[wrong:]:
            _say(f"  {trial.name}: {what}")
        wrong = len(count.wrong)
        if count.seconds - told > HEARD_EVERY_S:
            told = count.seconds
            _say(f"  so far {count.sentence()}")

    return heard


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
