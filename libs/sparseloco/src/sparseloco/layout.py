"""Where chunks lie: the map between (chunk, position) and the flat parameter vector. It knows shapes, never values.

Chunks as in SparseLoCo (https://arxiv.org/abs/2508.15706): a 2-D tensor falls into blocks whose sides are its largest
divisors up to 64; a 1-D tensor into contiguous runs of up to 4,096, of which the last may be shorter.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sparseloco.spec import ModelSpec

MAX_SIDE = 64
MAX_CHUNK = MAX_SIDE * MAX_SIDE
"""4,096 entries: a position fits 12 bits."""


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`: (100, 16) → 10, (64, 7) → 4."""
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


@dataclass(frozen=True, eq=False)
class Layout:
    """All chunks of a model, tensor after tensor, as parallel arrays of length (chunks,)."""

    tensor: NDArray[np.int64]
    size: NDArray[np.int64]
    base: NDArray[np.int64]  # flat index of position 0
    width: NDArray[np.int64]  # columns of the block
    stride: NDArray[np.int64]  # flat distance between two rows of the block
    tensors: int

    @property
    def chunks(self) -> int:
        """How many chunks the model has."""
        return len(self.size)

    def kept(self, k: int) -> NDArray[np.int64]:
        """Entries kept of each chunk, (chunks,): k, or all of a chunk smaller than that."""
        return np.minimum(self.size, k)

    def kept_per_tensor(self, k: int) -> NDArray[np.int64]:
        """Entries kept of each tensor, (tensors,)."""
        totals = np.zeros(self.tensors, dtype=np.int64)
        np.add.at(totals, self.tensor, self.kept(k))
        return totals

    def chunk_of_entry(self, k: int) -> NDArray[np.int64]:
        """The chunk of each kept entry, (entries,)."""
        return np.repeat(np.arange(self.chunks), self.kept(k))

    def flat_index(self, chunk: NDArray[np.int64], position: NDArray[np.uint16]) -> NDArray[np.int64]:
        """Flat indices (entries,) of positions inside their chunks."""
        inside, width = position.astype(np.int64), self.width[chunk]
        flat: NDArray[np.int64] = self.base[chunk] + inside // width * self.stride[chunk] + inside % width
        return flat


@lru_cache(maxsize=8)
def layout_of(spec: ModelSpec) -> Layout:
    """The chunks of `spec`, computed once."""
    rows: list[tuple[int, int, int, int, int]] = []  # tensor, size, base, width, stride
    offset = 0
    for number, ((_, shape), numel) in enumerate(zip(spec.tensors, spec.sizes, strict=True)):
        blocks = _runs(numel) if len(shape) == 1 else _blocks(shape[0], shape[1])
        rows += [(number, size, offset + base, width, stride) for size, base, width, stride in blocks]
        offset += numel
    columns = np.array(rows, dtype=np.int64).T
    return Layout(columns[0], columns[1], columns[2], columns[3], columns[4], tensors=len(spec.tensors))


def _runs(numel: int) -> list[tuple[int, int, int, int]]:
    starts = range(0, numel, MAX_CHUNK)
    return [(size := min(MAX_CHUNK, numel - start), start, size, 0) for start in starts]


def _blocks(height: int, width: int) -> list[tuple[int, int, int, int]]:
    side_rows, side_columns = largest_divisor(height, MAX_SIDE), largest_divisor(width, MAX_SIDE)
    return [
        (side_rows * side_columns, row * width + column, side_columns, width)
        for row in range(0, height, side_rows)
        for column in range(0, width, side_columns)
    ]
