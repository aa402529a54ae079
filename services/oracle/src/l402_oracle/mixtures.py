"""Updates that are patched together of many earlier ones, none of which is repeated for the most part.

Where works are independent, an entry that one earlier work has says nothing about another's having it: together they
hold about 1 - Π(1 - o) of a later one's entries, o being the share that each of them holds; less where honest peers
have the same entries in common. Who takes each entry from one of them holds more: of n sources 1 instead of 1 - 1/e.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

EXCESS_LIMIT = 0.1


@dataclass(frozen=True)
class Cover:
    """The share of a work's entries that earlier works hold together, and the share that chance would have."""

    actual: float
    expected: float

    @property
    def is_mixture(self) -> bool:
        """Chance does not avoid holding the same entry twice."""
        return self.actual - self.expected >= EXCESS_LIMIT


def cover(together: float, each: Sequence[float]) -> Cover:
    """From the share that earlier works hold together, and the share that each of them holds."""
    return Cover(together, 1 - math.prod(1 - one for one in each))
