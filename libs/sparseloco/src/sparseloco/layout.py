"""Where chunks lie: the map between (chunk, position) and the flat parameter vector. It knows shapes, never values.

Chunks as in SparseLoCo (https://arxiv.org/abs/2508.15706): a 2-D tensor falls into blocks whose sides are its largest
divisors up to 64; a 1-D tensor into contiguous runs of up to 4,096, of which the last may be shorter.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Grid:
    """A part of the flat vector as a matrix (height, width) that falls into equal blocks, row of blocks after row."""

    tensor: int
    offset: int
    """Flat index of the matrix's first element."""
    height: int
    width: int
    rows: int
    columns: int

    @property
    def numel(self) -> int:
        """Elements of the matrix."""
        return self.height * self.width

    @property
    def size(self) -> int:
        """Elements of one block."""
        return self.rows * self.columns

    @property
    def chunks(self) -> int:
        """Blocks of the matrix."""
        return self.numel // self.size

    @property
    def across(self) -> int:
        """Blocks side by side."""
        return self.width // self.columns

    def corners(self) -> NDArray[np.int64]:  # (chunks,)
        """Flat index of each block's first element."""
        number = np.arange(self.chunks)
        return self.offset + number // self.across * (self.rows * self.width) + number % self.across * self.columns

    def bands(self, elements: int) -> Iterator["Grid"]:
        """The matrix from top to bottom in bands of whole blocks: of about so many elements, or one row of blocks."""
        tall = max(1, elements // (self.rows * self.width)) * self.rows
        for top in range(0, self.height, tall):
            yield replace(self, offset=self.offset + top * self.width, height=min(tall, self.height - top))


@lru_cache(maxsize=8)
def grids_of(spec: ModelSpec) -> tuple[Grid, ...]:
    """The model as matrices of equal blocks, in the order of the chunks."""
    grids: list[Grid] = []
    offset = 0
    for number, ((_, shape), numel) in enumerate(zip(spec.tensors, spec.sizes, strict=True)):
        grids += _of_vector(number, offset, numel) if len(shape) == 1 else [_of_matrix(number, offset, *shape)]
        offset += numel
    return tuple(grids)


def _of_vector(tensor: int, offset: int, numel: int) -> list[Grid]:
    """Whole runs as squares, which a run of 4,096 is when its rows follow each other; a shorter last one by itself."""
    rest = numel % MAX_CHUNK
    whole = numel - rest
    grids = [Grid(tensor, offset, whole // MAX_SIDE, MAX_SIDE, MAX_SIDE, MAX_SIDE)] if whole else []
    return grids + ([Grid(tensor, offset + whole, 1, rest, 1, rest)] if rest else [])


def _of_matrix(tensor: int, offset: int, height: int, width: int) -> Grid:
    return Grid(tensor, offset, height, width, largest_divisor(height, MAX_SIDE), largest_divisor(width, MAX_SIDE))


@lru_cache(maxsize=16)
def kept_per_tensor(spec: ModelSpec, k: int) -> tuple[int, ...]:
    """Entries kept of each tensor, (tensors,)."""
    counts = [0] * len(spec.tensors)
    for grid in grids_of(spec):
        counts[grid.tensor] += grid.chunks * min(k, grid.size)
    return tuple(counts)


@dataclass(frozen=True, eq=False)
class Layout:
    """All chunks of a model, tensor after tensor, as parallel arrays of length (chunks,)."""

    tensor: NDArray[np.int64]
    size: NDArray[np.int64]
    base: NDArray[np.int64]  # flat index of position 0
    width: NDArray[np.int64]  # columns of the block
    stride: NDArray[np.int64]  # flat distance between two rows of the block

    @property
    def chunks(self) -> int:
        """How many chunks the model has."""
        return len(self.size)

    def kept(self, k: int) -> NDArray[np.int64]:
        """Entries kept of each chunk, (chunks,): k, or all of a chunk smaller than that."""
        return np.minimum(self.size, k)

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
    columns = np.concatenate([_chunks(grid) for grid in grids_of(spec)], axis=1)
    return Layout(columns[0], columns[1], columns[2], columns[3], columns[4])


def _chunks(grid: Grid) -> NDArray[np.int64]:  # (5, chunks): tensor, size, base, width, stride
    fixed = np.array([grid.tensor, grid.size, 0, grid.columns, grid.width], dtype=np.int64)
    table = np.repeat(fixed[:, None], grid.chunks, axis=1)
    table[2] = grid.corners()
    return table
