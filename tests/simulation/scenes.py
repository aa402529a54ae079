"""Histories in which a planted bug is looked for: who plays, and which misfortune brings it to light. It plants nothing."""

from collections.abc import Callable

from tests.simulation.cast import Cast, Part
from tests.simulation.faults import Fault, Kind
from tests.simulation.runs import Trial

ADA = Part("ada", 31)
AGAIN = tuple(Fault(Kind.DELIVERY_AGAIN, number, 3.0) for number in range(1, 80))
"""The bus tells everything four times."""


def plain(*parts: Part, hub: bool = False, faults: tuple[Fault, ...] = ()) -> Callable[[int], Trial]:
    """These peers in any order of events."""
    cast = Cast(parts=parts or (ADA,), hub=hub)
    return lambda seed: Trial(seed, cast, faults, f"seed {seed}")


def struck(
    kind: Kind, first: int, last: int, amount: float = 1.5, also: tuple[Fault, ...] = (), margin: int = 0
) -> Callable[[int], Trial]:
    """One fault of a kind, somewhere in this span, beside others that are always there."""
    cast = Cast(parts=(ADA,), margin=margin)

    def trial(seed: int) -> Trial:
        at = first + (seed * 7) % (last - first + 1)
        return Trial(seed, cast, (Fault(kind, at, amount), *also), f"seed {seed}, {kind} {at}")

    return trial


def hurried(low: int, high: int) -> Callable[[int], Trial]:
    """So many blocks at once, soon after the ladder is locked."""

    def trial(seed: int) -> Trial:
        burst = Fault(Kind.BLOCKS, 4 + seed % 4, float(low + seed % (high - low + 1)))
        late = Fault(Kind.DELIVERY_LATE, 30 + seed % 10, 6.0)
        return Trial(seed, Cast(parts=(ADA,)), (burst, late), f"seed {seed}, {burst}")

    return trial


def stopped(seed: int) -> Trial:
    """An operator freezes an escrow while its lock is in the invoicer's hands: our node is away for a while."""
    at = 4  # the ladder is handed in about then, a little before or after
    faults = (Fault(Kind.NODE_AWAY, at, 6.0), Fault(Kind.FROZEN, at + 1 + seed % 3, 15.0))
    return Trial(seed, Cast(parts=(ADA,)), faults, f"seed {seed}, frozen after {at}")


def stopped_while_away(seed: int) -> Trial:
    """The invoicer dies with a lock in hand, an operator freezes its escrow meanwhile, and the word of it comes late."""
    kill = Fault(Kind.KILL_BEFORE, 53 + seed % 6, 4.0)  # about where the ladder is counted, and its rungs are sent
    late = tuple(Fault(Kind.DELIVERY_LATE, number, 45.0) for number in range(9, 40))
    faults = (kill, Fault(Kind.FROZEN, 4, 60.0), *late)
    return Trial(seed, Cast(parts=(ADA,)), faults, f"seed {seed}, frozen while the invoicer is away")
