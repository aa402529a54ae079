"""Many sketches by the entries that they hold, so that one is compared with all others in one pass. It decides nothing.

Comparing every pair looks at every entry of both; here an entry is looked up once, and only who holds it too is seen.
Honest works share a few of a hundred entries, so nearly all pairs cost nearly nothing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sparseloco.layout import MAX_CHUNK

from l402_oracle.similarity import COSINE_LIMIT, OVERLAP_LIMIT, Sketch, entries_per_chunk

ROUNDING = 1e-6
"""Sums in another order differ by less: near the limit a pair is compared exactly."""


class Postings:
    """One sketch or more, of one model. Raises ValueError where their chunks differ in number."""

    def __init__(self, sketches: Sequence[Sketch]) -> None:
        if len({one.chunks for one in sketches}) > 1:
            raise ValueError("sketches of different numbers of chunks cannot be compared")
        self._sketches = sketches
        sizes = [len(one.keys) for one in sketches]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._values = np.concatenate([one.values for one in sketches]).astype(np.float64)
        self._weights = np.concatenate([_weights(one) for one in sketches])
        self._norms = np.array([np.linalg.norm(one.values.astype(np.float64)) for one in sketches])
        keys = np.concatenate([one.keys for one in sketches])
        self._order = np.argsort(keys, kind="stable")
        self._works = np.repeat(np.arange(len(sketches)), sizes)[self._order]
        ascending = keys[self._order]
        change = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]])[: len(keys)])
        self._first, self._held = change, np.diff(np.concatenate([change, [len(keys)]]))
        self._group = np.empty(len(keys), dtype=np.int64)
        self._group[self._order] = np.repeat(np.arange(len(change)), self._held)

    def meet(self, number: int) -> "Meeting":
        """Who holds which entries of this work; it meets itself as well."""
        mine = slice(self._starts[number], self._starts[number + 1])
        counts = self._held[self._group[mine]]
        places = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = np.repeat(self._first[self._group[mine]], counts) + within
        works, entries = self._works[at], self._order[at]
        norms = self._norms * self._norms[number]
        products = self._sum(works, self._values[mine][places] * self._values[entries])
        return Meeting(
            size=len(counts), works=works, places=places,
            overlap=self._sum(works, self._weights[mine][places] + self._weights[entries]),
            cosine=np.divide(products, norms, out=np.zeros(len(norms)), where=norms > 0),
        )  # fmt: skip

    def _sum(self, works: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(works, weights=values, minlength=len(self._sketches)).astype(np.float64)


class Meeting:
    """One work among the others: bounds on how alike each is, and what they hold of it together."""

    def __init__(
        self,
        *,
        size: int,
        works: NDArray[np.int64],  # (hits,): who holds
        places: NDArray[np.int64],  # (hits,): which of its entries
        overlap: NDArray[np.float64],  # (works,): at least the overlap, at most twice that
        cosine: NDArray[np.float64],  # (works,)
    ) -> None:
        self._size, self._works, self._places = size, works, places
        self._overlap, self._cosine = overlap, cosine

    def near(self) -> NDArray[np.bool_]:  # (works,)
        """Nobody else can be too alike: these few are worth an exact look."""
        return (self._overlap >= OVERLAP_LIMIT - ROUNDING) | (self._cosine >= COSINE_LIMIT - ROUNDING)

    def most_overlapping(self, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Among these is the allowed work with the largest overlap."""
        most = self._overlap[allowed].max(initial=0.0)
        return np.flatnonzero(allowed & (self._overlap >= most / 2 - ROUNDING))

    def held(self, allowed: NDArray[np.bool_]) -> tuple[float, list[float]]:
        """The share of its entries that the allowed works hold together, and what each of them holds, (allowed,)."""
        if not self._size:
            return 0.0, [0.0] * int(allowed.sum())
        counted = allowed[self._works]
        together = np.zeros(self._size, dtype=bool)
        together[self._places[counted]] = True
        each = np.bincount(self._works[counted], minlength=len(allowed))[allowed]
        return float(together.mean()), (each / self._size).tolist()


def _weights(one: Sketch) -> NDArray[np.float64]:
    """Of each entry in the mean over chunks: chunk by chunk, one over how many the work has there."""
    return 1.0 / (one.chunks * entries_per_chunk(one)[one.keys // MAX_CHUNK])
