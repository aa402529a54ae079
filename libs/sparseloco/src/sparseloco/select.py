"""Which entries of each block are the largest, ties to the lower position: the same answer on every device.

Two stages, because a full selection reads everything many times: the maxima of groups of up to eight entries say which
k groups can hold the k largest entries, and only those are ordered, by a key that no two entries share. Where group
maxima tie, the block is ordered whole. It refuses to know tensors' names, bytes, or what the values mean.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

MAX_GROUP = 8
POSITION_BITS = 12
_LAST = (1 << POSITION_BITS) - 1
BLOCK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Elements looked at together: a few megabytes for a CPU, and what fills a GPU."""


def top_positions(
    matrix: Tensor,  # (height, width) float32, a value that is not finite is always kept
    rows: int,
    columns: int,
    k: int,
) -> Tensor:  # (chunks, min(k, rows · columns)) int16
    """The k largest magnitudes of each block of rows · columns, as positions inside the block, ascending."""
    height, width = matrix.shape
    blocks = matrix.view(height // rows, rows, width // columns, columns)
    kept = min(k, rows * columns)
    found = torch.empty(blocks.shape[0], blocks.shape[2], kept, dtype=torch.int16, device=matrix.device)
    at_once = max(1, BLOCK_ELEMENTS[matrix.device.type] // (rows * columns))
    across = min(at_once, blocks.shape[2])
    down = max(1, at_once // across)
    # fresh memory for every block would cost more than the absolute values themselves
    scratch = matrix.new_empty(min(matrix.numel(), down * across * rows * columns))
    for top in range(0, blocks.shape[0], down):
        for left in range(0, blocks.shape[2], across):
            some = blocks[top : top + down, :, left : left + across]
            strips, _, wide, _ = some.shape
            magnitudes = torch.abs(some, out=scratch[: some.numel()].view(some.shape))
            found[top : top + down, left : left + across] = _of_blocks(magnitudes, kept).view(strips, wide, kept)
    return found.view(-1, kept)


def _of_blocks(magnitudes: Tensor, k: int) -> Tensor:  # (strips, rows, across, columns) → (blocks, k)
    _, rows, _, columns = magnitudes.shape
    group = _group_height(rows, columns, k)
    if group == 1:
        return _positions(_largest(_keys(_by_block(magnitudes)), k))
    return _in_groups(magnitudes, k, group)


def _group_height(rows: int, columns: int, k: int) -> int:
    """Rows that form one group: as many as leave at least k groups."""
    fitting = (g for g in range(min(MAX_GROUP, rows), 1, -1) if rows % g == 0 and rows // g * columns >= k)
    return next(fitting, 1)


def _in_groups(magnitudes: Tensor, k: int, group: int) -> Tensor:
    strips, rows, across, columns = magnitudes.shape
    tall = rows // group
    groups = tall * columns
    # row a·tall + b belongs to group b of its column, so an entry's position is a·groups + its group's number
    maxima = magnitudes.view(strips, group, tall, across, columns).amax(1)
    # a maximum that is not a number may come with a sign, and would then order below all others
    per_block = maxima.permute(0, 2, 1, 3).reshape(strips * across, groups).abs_()
    chosen, tied = _top_groups(per_block.view(torch.int32), k)
    first, last = _places(strips, rows, across, columns, groups, magnitudes.device)
    member = torch.arange(group, device=magnitudes.device)[None, :, None]
    bits = _taken(magnitudes.view(torch.int32), _taken(first, chosen)[:, None, :] + member * (tall * across * columns))
    low = _taken(last, chosen)[:, None, :] - member * groups
    keys = (bits.long() << POSITION_BITS).bitwise_or_(low).view(strips * across, group * k)
    found = _positions(_largest(keys, k))
    if bool(tied.any()):
        found[tied] = _positions(_largest(_keys(_by_block(magnitudes)[tied]), k))
    return found


@lru_cache(maxsize=8)
def _places(
    strips: int, rows: int, across: int, columns: int, groups: int, device: torch.device
) -> tuple[Tensor, Tensor]:  # (blocks · groups,) int64 each
    """Of each group: where its first entry lies among the magnitudes, and _LAST minus that entry's position."""
    block = torch.arange(strips * across, device=device)
    corner = (block // across * (rows * across) + block % across) * columns
    group = torch.arange(groups, device=device)
    first = corner[:, None] + (group // columns * (across * columns) + group % columns)
    return first.view(-1), (_LAST - group).repeat(strips * across)


def _by_block(magnitudes: Tensor) -> Tensor:  # (strips, rows, across, columns) → (blocks, entries)
    return magnitudes.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)


def _keys(entries: Tensor) -> Tensor:  # (blocks, entries) float32 → int64
    """Magnitude first, then the lower position: the bits of floats that are not negative order as they do."""
    positions = torch.arange(entries.shape[1], device=entries.device)
    return (entries.contiguous().view(torch.int32).long() << POSITION_BITS).bitwise_or_(_LAST - positions)


def _top_groups(maxima: Tensor, k: int) -> tuple[Tensor, Tensor]:  # (blocks, groups) int32 → (blocks, k), (blocks,)
    """k groups of each block, numbered through all blocks, and in which blocks more than k had an equal claim."""
    blocks, groups = maxima.shape
    if maxima.device.type != "cpu":
        best = torch.topk(maxima, k, dim=1, sorted=False)
        tied = (maxima >= best.values.amin(1, keepdim=True)).sum(1) > k
        return best.indices + torch.arange(blocks, device=maxima.device)[:, None] * groups, tied
    array = maxima.numpy()
    reaching = array >= np.partition(array, groups - k, axis=1)[:, groups - k, None]
    tied = reaching.sum(axis=1) > k
    if tied.any():
        reaching[tied] = np.arange(groups) < k
    return torch.from_numpy(np.flatnonzero(reaching).reshape(-1, k)), torch.from_numpy(tied)


def _taken(source: Tensor, index: Tensor) -> Tensor:
    """source[index] over the flat source; numpy does it in little more than half of torch's time on a CPU."""
    if source.device.type != "cpu":
        return torch.take(source, index)
    return torch.from_numpy(source.view(-1).numpy().take(index.numpy()))


def _largest(keys: Tensor, k: int) -> Tensor:  # (blocks, keys) → (blocks, k), in no order
    if keys.device.type != "cpu":
        return torch.topk(keys, k, dim=1, sorted=False).values
    # torch.topk needs 15 ns an element here, numpy's vectorised partition less than one
    array = keys.numpy()
    cut = array.shape[1] - k
    return torch.from_numpy(np.partition(array, cut, axis=1)[:, cut:])


def _positions(keys: Tensor) -> Tensor:  # (blocks, k) int64 → int16, ascending
    positions = (_LAST - (keys & _LAST)).to(torch.int16)
    if positions.device.type != "cpu":
        return positions.sort(dim=1).values
    return torch.from_numpy(np.sort(positions.numpy(), axis=1))
