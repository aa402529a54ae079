"""A death before and after every effect of a story, and at each reveal of every decision that there can be.

Each story is told once: where somebody may die, a copy of it goes on with that death.
"""

import time
from collections.abc import Callable, Iterable

from tests.simulation.cast import Cast, Manner, Part
from tests.simulation.faults import Fault, Kind
from tests.simulation.forks import Forks
from tests.simulation.runs import Count, Trial
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
MASKS = 64
BACK_S = 1.5
"""How long after its death a process of these stories starts again."""
REVEALS = ("Delivery.say all", "publishes gradient.scored", "Settler.on scored", "SettleInvoice")
"""What of a label says that preimages, or what they open, are on their way."""
AWAY_S = 20.0
AWAY = {"away past the last height of a reveal": 50, "away past the expiry of every HTLC": 100}
"""The main story, in which whoever dies is away for so long that so many blocks come meanwhile."""
Where = Callable[[str], bool]


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

    began, forks, count = time.monotonic(), Forks(wanted, jobs=jobs), Count(wrong=[])
    with simulated():
        told = tell(SEED, cast, splits=forks)
    count.add(Trial(SEED, cast, (), name), told)
    for end in forks.endings:
        count.add(Trial(SEED, cast, (end.fault,), f"{name}: {end.fault}: {told.labels[end.fault.at - 1]}"), end)
    count.seconds = time.monotonic() - began
    return count


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
