"""A failing history in its shortest form, told so that a person can read it. It draws nothing and counts nothing."""

import itertools
from collections.abc import Iterator

import msgspec

from tests.simulation.cast import Cast
from tests.simulation.runs import Trial, tell_trial
from tests.simulation.story import Told

DULL = ("acks ", "commits Database.publish batch", "notes its attempt")
"""Of a line: it goes without saying."""


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


def written(trial: Trial) -> str:
    """A history as one word of a command line: all that its telling depends on."""
    return msgspec.json.encode(trial).decode().replace("'", "\\u0027")


def read(text: str) -> Trial:
    """What `written` wrote. Raises SystemExit for anything else."""
    try:
        return msgspec.json.decode(text, type=Trial)
    except msgspec.DecodeError as error:
        raise SystemExit(f"--history: this is no history that a failing run printed: {error}") from error


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
