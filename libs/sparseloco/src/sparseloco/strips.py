"""The largest entries of each block on a CPU, a few strips of blocks at a time, so that they stay near a core.

The k-th largest of the maxima of groups of entries is a bound that each of a block's k largest entries reaches, and few
others do: of 4,096 normal values 68, for k = 64. Only those are ordered, by magnitude, then by position. Floats without
their sign order as their bits do, which puts what is not finite above all else. It refuses to know torch, tensors'
names, and what the values mean.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

TILE_ELEMENTS = 1 << 18
"""Elements that are compared with their bounds together: whole strips, and at least one."""
PIECE_ELEMENTS = 1 << 16
"""Elements that one call works on: what it reads and writes fits the cache of a core."""
MAX_GROUP = 16
CROWD = 2
"""So many times the entries wanted may reach the bound; where more do, most are equal to it and are counted, not ordered."""
_MAGNITUDE_BITS = 31
_MAGNITUDE = (1 << _MAGNITUDE_BITS) - 1

Fill = Callable[[slice], object]


class Scratch:
    """Memory that every tile is worked on in, so that the system is not asked for it again and again."""

    def __init__(self) -> None:
        self._magnitudes = np.empty(0, dtype=np.int32)
        self._reaching = np.empty(0, dtype=np.bool_)

    def of(self, elements: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """For so many elements: their magnitudes, and which of them reach their bound."""
        if len(self._magnitudes) < elements:
            self._magnitudes, self._reaching = np.empty(elements, np.int32), np.empty(elements, np.bool_)
        return self._magnitudes[:elements], self._reaching[:elements]


def top_positions(
    matrix: NDArray[np.float32],  # (height, width), contiguous
    rows: int,
    columns: int,
    k: int,
    fill: Fill | None = None,
    scratch: Scratch | None = None,
) -> NDArray[np.int32]:  # (chunks, min(k, rows · columns))
    """The k largest magnitudes of each block of rows · columns, as positions inside the block, ascending.

    `fill` writes a piece of the flat matrix, and is called for each just before it is read.
    """
    height, width = matrix.shape
    kept, across = min(k, rows * columns), width // columns
    indices, magnitudes = _candidates(matrix.reshape(-1), width, rows, columns, kept, fill, scratch or Scratch())
    # a key is a block, then what the magnitude lacks, then a position: the canonical order
    bits = (rows * columns - 1).bit_length()
    row, column = np.arange(height), np.arange(width)
    of_row = (row // rows * across << bits + _MAGNITUDE_BITS) + row % rows * columns + (_MAGNITUDE << bits)
    of_column = (column // columns << bits + _MAGNITUDE_BITS) + column % columns
    in_row = indices // width
    keys = of_row.take(in_row)
    in_row *= width
    indices -= in_row
    keys += of_column.take(indices)
    keys -= magnitudes.astype(np.int64) << bits
    keys.sort()
    first = np.searchsorted(keys, np.arange(height // rows * across) << bits + _MAGNITUDE_BITS)
    positions = keys.take(first[:, None] + np.arange(kept)) & ((1 << bits) - 1)
    # numpy sorts int32 vectorised everywhere, and int16 only on newer processors
    found: NDArray[np.int32] = positions.astype(np.int32)
    found.sort(axis=1)
    return found


def _candidates(
    flat: NDArray[np.float32], width: int, rows: int, columns: int, kept: int, fill: Fill | None, scratch: Scratch
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Flat indices and magnitudes of at least `kept` entries of each block, its largest among them; in no order."""
    tile = max(1, TILE_ELEMENTS // (rows * width)) * rows * width
    found_indices, found_magnitudes = [], []
    for start in range(0, len(flat), tile):
        bits = flat[start : start + tile].view(np.int32)
        magnitudes, reaching = scratch.of(len(bits))
        for piece in range(0, len(bits), PIECE_ELEMENTS):
            end = min(piece + PIECE_ELEMENTS, len(bits))
            if fill:
                fill(slice(start + piece, start + end))
            np.bitwise_and(bits[piece:end], _MAGNITUDE, out=magnitudes[piece:end])
        blocks = magnitudes.reshape(-1, rows, width // columns, columns)
        here = _where(_reaching(blocks, kept, reaching))
        if len(here) > CROWD * kept * (len(bits) // (rows * columns)):
            here = _where(_exactly(blocks, kept).reshape(-1))
        found_magnitudes.append(magnitudes.take(here))
        here += start
        found_indices.append(here)
    return np.concatenate(found_indices), np.concatenate(found_magnitudes)


def _reaching(blocks: NDArray[np.int32], kept: int, into: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which entries of `blocks`, (strips, rows, across, columns), reach their block's bound, as (entries,)."""
    strips, rows, across, columns = blocks.shape
    group = _group_height(rows, columns, kept)
    grouped = blocks.reshape(strips, group, rows // group * across * columns)
    maxima = _by_block(np.maximum.reduce(grouped, axis=1).reshape(strips, rows // group, across, columns))
    cut = maxima.shape[1] - kept
    maxima.partition(cut, axis=1)
    bounds = np.repeat(maxima[:, cut].reshape(strips, 1, across), columns, axis=2)
    wide = (strips, rows, across * columns)
    np.greater_equal(blocks.reshape(wide), bounds, out=into.reshape(wide))
    return into


def _group_height(rows: int, columns: int, k: int) -> int:
    """Rows that form one group: as many as leave two groups for each entry, so that their maxima bound closely."""
    fitting = (g for g in range(min(MAX_GROUP, rows), 1, -1) if rows % g == 0 and rows // g * columns >= 2 * k)
    return next(fitting, 1)


def _exactly(blocks: NDArray[np.int32], kept: int) -> NDArray[np.bool_]:  # (strips, rows, across, columns), both
    """Which are the largest, of those that equal the least of them the first ones."""
    strips, rows, across, columns = blocks.shape
    entries = _by_block(blocks)
    cut = entries.shape[1] - kept
    least = np.partition(entries, cut, axis=1)[:, cut, None]
    chosen, equal = entries > least, entries == least
    equal &= np.cumsum(equal, axis=1, dtype=np.int16) <= kept - chosen.sum(axis=1)[:, None]
    chosen |= equal
    return chosen.reshape(strips, across, rows, columns).transpose(0, 2, 1, 3)


def _by_block(blocks: NDArray[np.int32]) -> NDArray[np.int32]:  # (strips, rows, across, columns) → (blocks, entries)
    strips, rows, across, columns = blocks.shape
    return blocks.transpose(0, 2, 1, 3).copy().reshape(strips * across, rows * columns)


def _where(flat: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices of what is true, ascending: by words of eight first, of which most are zero where little is true."""
    if len(flat) % 8:
        return np.flatnonzero(flat)
    words = flat.view(np.uint64)
    some = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words.take(some).view(np.bool_))
    return (some.take(inside >> 3) << 3) + (inside & 7)
