"""A death before and after every effect of a story, every call to lnd lost, and a death at each reveal of every decision.

Each story is told once: where something may strike, a copy of it goes on with that.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from tests.simulation import forks
from tests.simulation.cast import Cast, Manner, Part
from tests.simulation.faults import LOST_STREAMS, Fault, Kind
from tests.simulation.runs import Count, Trial, run
from tests.simulation.silence import simulated
from tests.simulation.sponsor import EARNED, UNEARNED
from tests.simulation.story import tell

SEED = 1
"""The order of events of these stories."""
STORIES: dict[str, Cast] = {
    "main": Cast(parts=(Part("ada", 31),)),
    "rejected": Cast(parts=(Part("ada", 0),)),
    "lock failure": Cast(parts=(Part("ada", 31, Manner.OUT_OF_REACH),), rounds=2),
    "sponsored and earned": Cast(parts=(Part("ada", 31),), margin=EARNED),
    "sponsored in vain": Cast(parts=(Part("ada", 31),), margin=UNEARNED),
    "refused rungs": Cast(parts=(Part("ada", 31, Manner.REFUSES_RUNGS),)),
}
ON_THE_BUS = ("main", "sponsored and earned")
DOWN_S = 6.0
"""How long the bus is away when it is restarted."""
MASKS = 64
BACK_S = 1.5
"""How long after its death a process of these stories starts again."""
REVEALS = ("Delivery.say all", "publishes gradient.scored", "Settler.on scored", "SettleInvoice")
"""What of a label says that preimages, or what they open, are on their way."""
AWAY_S = 20.0
AWAY = {"away past the last height of a reveal": 50, "away past the expiry of every HTLC": 100}
"""The main story, in which whoever dies is away for so long that so many blocks come meanwhile."""
Where = Callable[[str], bool]
Wanted = Callable[[int, str], Sequence[Fault]]
"""The faults that strike at what has this number and label."""


def deaths(
    name: str, cast: Cast, *, where: Where = lambda _: True, every: int = 1, first: int = 0, jobs: int = 1,
    back_s: float = BACK_S, blocks: int = 0,
) -> Count:  # fmt: skip
    """One death before and one after each effect with such a label, or each so many-th; `blocks` come meanwhile."""
    place = first

    def wanted(effect: int, label: str) -> list[Fault]:
        nonlocal place
        chosen: list[Fault] = []
        for kind in (Kind.KILL_BEFORE, Kind.KILL_AFTER) if where(label) else ():
            place += 1
            if place % every == 0:
                chosen.append(Fault(kind, effect, back_s, blocks))
        return chosen

    return _forked(name, cast, wanted, jobs=jobs)


def lost_calls(name: str, cast: Cast, *, every: int = 1, jobs: int = 1) -> Count:
    """Each call to any node lost before its effect, and its answer lost after it; or each so many-th of them."""
    place = 0

    def wanted(call: int, _label: str) -> list[Fault]:
        nonlocal place
        chosen: list[Fault] = []
        for kind in (Kind.LND_CALL_LOST, Kind.LND_ANSWER_LOST):
            place += 1
            if place % every == 0:
                chosen.append(Fault(kind, call))
        return chosen

    return _forked(name, cast, wanted, point="at_call", jobs=jobs)


def lost_streams(name: str, *, every: int = 1, jobs: int = 1) -> Count:
    """A stream lost right after each publish, with what it held, or after each so many-th of a story."""

    def wanted(publish: int, _label: str) -> list[Fault]:
        return [Fault(Kind.STREAM_LOST, publish)] if publish % every == 0 else []

    return _forked(name, STORIES[name], wanted, point="at_publish", jobs=jobs)


def lost_seconds(name: str, *, every: int = 1, jobs: int = 1) -> Count:
    """Each stream lost alone, and the bus restarted, at each second of a story, or at each so many-th of these."""
    cast = STORIES[name]
    with simulated():
        over_s = int(tell(SEED, cast).seconds)
    faults = [
        Fault(kind, second, amount)
        for second in range(over_s)
        for kind, amount in (*((lost, 0.0) for lost in LOST_STREAMS), (Kind.BUS_RESTARTED, DOWN_S))
    ]
    return run((Trial(SEED, cast, (one,), f"{name}: {one}") for one in faults[every - 1 :: every]), jobs=jobs)


def away(name: str, *, every: int = 1, jobs: int = 1) -> Count:
    """A death before and after each effect, and the world has gone on when its process is back."""
    return deaths(name, STORIES["main"], every=every, jobs=jobs, back_s=AWAY_S, blocks=AWAY[name])


def ladder(masks: Iterable[int], *, every: int = 1, jobs: int = 1) -> Count:
    """Each decision, with a death at each of its reveals, or at each so many-th, another one for each mask."""
    whole = Count(wrong=[])
    for mask in masks:
        cast = Cast(parts=(Part("ada", mask),))
        whole.join(deaths(f"mask {mask:06b}", cast, where=is_reveal, every=every, first=mask, jobs=jobs))
    return whole


def is_reveal(label: str) -> bool:
    """Whether preimages, or what they open, are on their way."""
    return any(word in label for word in REVEALS)


def _forked(name: str, cast: Cast, wanted: Wanted, *, point: forks.Point = "at_effect", jobs: int = 1) -> Count:
    """A story, and a copy of it with each of these faults."""
    labels: dict[int, str] = {}

    def noted(number: int, label: str) -> Sequence[Fault]:
        labels[number] = label
        return wanted(number, label)

    began, copies, count = time.monotonic(), forks.Forks(noted, point=point, jobs=jobs), Count(wrong=[])
    with simulated():
        told = tell(SEED, cast, splits=copies)
    count.add(Trial(SEED, cast, (), name), told)
    for end in copies.endings:
        count.add(Trial(SEED, cast, (end.fault,), f"{name}: {end.fault}: {labels[end.fault.at]}"), end)
    count.seconds = time.monotonic() - began
    return count
