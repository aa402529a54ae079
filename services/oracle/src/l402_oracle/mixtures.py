"""Updates that are patched together of many earlier ones, none of which is repeated for the most part.

Where works are independent, an entry that one earlier work has says nothing about another's having it: together they
hold about 1 - Π(1 - o) of a later one's entries, o being the share that each of them holds; less where honest peers
have the same entries in common. Who takes each entry from one of them holds more: of n sources 1 instead of 1 - 1/e.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from l402_oracle.similarity import Sketch

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


def cover(work: Sketch, earlier: Sequence[Sketch]) -> Cover:
    """How much of a work's indices earlier ones of the same model hold."""
    held = [np.isin(work.keys, other.keys, assume_unique=True) for other in earlier]
    if not held or not len(work.keys):
        return Cover(0.0, 0.0)
    together = np.logical_or.reduce(held)
    return Cover(float(together.mean()), 1 - math.prod(1 - float(one.mean()) for one in held))
