"""A compressed update in memory, and its expansion to flat indices and values. It knows numpy, not torch, not bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from sparseloco.layout import grids_of, kept_per_tensor
from sparseloco.spec import ModelSpec


class Quantiser(IntEnum):
    """How two bits stand for a value."""

    SIGN_TWO = 1
    """Ours: a sign and one of two magnitudes per tensor; code bit 0 = the larger magnitude, bit 1 = negative."""
    PUBLISHED = 2
    """SparseLoCo's: four bins of 1.5 standard deviations around the mean, decoded by the bins' means."""


@dataclass(frozen=True, eq=False)
class Sparse:
    """Top-k entries of every chunk, chunk after chunk, positions ascending inside a chunk."""

    k: int
    quantiser: Quantiser
    positions: NDArray[np.uint16]  # (entries,), inside the chunk
    codes: NDArray[np.uint8]  # (entries,), 0..3
    tables: NDArray[np.float32]  # (tensors, 4): what each code means


@dataclass(frozen=True, eq=False)
class Update:
    """An update as unique flat indices and values, tensor after tensor: what is applied, clipped and averaged."""

    indices: NDArray[np.int64]  # (entries,)
    values: NDArray[np.float32]  # (entries,)
    bounds: tuple[int, ...]  # (tensors + 1,): entries of tensor t are bounds[t]:bounds[t + 1]

    def norms(self) -> tuple[float, ...]:
        """L2 norm per tensor, (tensors,), summed in float64."""
        squares = self.values.astype(np.float64) ** 2
        pairs = zip(self.bounds, self.bounds[1:], strict=False)
        return tuple(float(np.sqrt(squares[start:end].sum())) for start, end in pairs)

    def scaled(self, factors: Sequence[float]) -> "Update":
        """Each tensor multiplied by its factor, (tensors,)."""
        per_entry = np.repeat(np.asarray(factors, dtype=np.float32), np.diff(self.bounds))
        return Update(self.indices, self.values * per_entry, self.bounds)


def expand(sparse: Sparse, spec: ModelSpec) -> Update:
    """Decode `sparse` once; everything later works on the flat form."""
    counts = kept_per_tensor(spec, sparse.k)
    indices, values = np.empty(sum(counts), dtype=np.int64), np.empty(sum(counts), dtype=np.float32)
    start = 0
    for grid in grids_of(spec):
        end = start + grid.chunks * min(sparse.k, grid.size)
        inside = sparse.positions[start:end].reshape(grid.chunks, -1)
        flat = indices[start:end].reshape(inside.shape)
        # row · width + column, where column = position - row · columns
        np.multiply(inside // np.uint16(grid.columns), grid.width - grid.columns, out=flat, dtype=np.int64)
        flat += inside
        flat += grid.corners()[:, None]
        np.take(sparse.tables[grid.tensor], sparse.codes[start:end], out=values[start:end], mode="clip")
        start = end
    return Update(indices, values, (0, *np.cumsum(counts).tolist()))
