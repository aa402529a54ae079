"""Which entries of each block are the largest, ties to the lower position: the same answer on every device.

Two stages, because a full selection reads everything many times: the maxima of groups of up to eight entries say which
k groups can hold the k largest entries, and only those are ordered, by a key that no two entries share. Where group
maxima tie, the block is ordered whole. On a CPU `strips` answers, and this is what other devices do. It refuses to know
tensors' names, bytes, or what the values mean.
"""

from functools import lru_cache

import torch
from torch import Tensor

from sparseloco import strips

MAX_GROUP = 8
POSITION_BITS = 12
_LAST = (1 << POSITION_BITS) - 1
_MAGNITUDE = 0x7FFF_FFFF


def top_positions(
    matrix: Tensor,  # (height, width) float32; a value that is not finite is always kept
    rows: int,
    columns: int,
    k: int,
) -> Tensor:  # (chunks, min(k, rows · columns)) int16
    """The k largest magnitudes of each block of rows · columns, as positions inside the block, ascending.

    What it holds meanwhile is of the matrix's size: hand it a band of a large one.
    """
    if matrix.device.type == "cpu":
        return torch.from_numpy(strips.top_positions(matrix.contiguous().numpy(), rows, columns, k)).to(torch.int16)
    return top_positions_there(matrix, rows, columns, k)


def top_positions_there(matrix: Tensor, rows: int, columns: int, k: int) -> Tensor:
    """The same with torch alone, fast where thousands of threads are."""
    height, width = matrix.shape
    kept = min(k, rows * columns)
    group = _group_height(rows, columns, kept)
    blocks = matrix.view(height // rows, rows, width // columns, columns)
    if group == 1:
        return _positions(_largest(_keys(_by_block(blocks)), kept))
    return _in_groups(blocks, kept, group)


def _group_height(rows: int, columns: int, k: int) -> int:
    """Rows that form one group: as many as leave at least k groups."""
    fitting = (g for g in range(min(MAX_GROUP, rows), 1, -1) if rows % g == 0 and rows // g * columns >= k)
    return next(fitting, 1)


def _in_groups(blocks: Tensor, k: int, group: int) -> Tensor:  # (strips, rows, across, columns) → (blocks, k)
    strips, rows, across, columns = blocks.shape
    tall = rows // group
    groups = tall * columns
    # row a·tall + b belongs to group b of its column, so an entry's position is a·groups + its group's number
    grouped = blocks.view(strips, group, tall, across, columns)
    extremes = torch.maximum(grouped.amax(1), grouped.amin(1).neg_())
    # a maximum that is not a number may come with a sign, and would then order below all others
    maxima = extremes.permute(0, 2, 1, 3).reshape(strips * across, groups).abs_()
    chosen, tied = _top_groups(maxima.view(torch.int32), k)
    first, last = _places(strips, rows, across, columns, groups, blocks.device)
    member = torch.arange(group, device=blocks.device)[None, :, None]
    entries = torch.take(
        blocks.view(torch.int32), torch.take(first, chosen)[:, None, :] + member * (tall * across * columns)
    )
    low = torch.take(last, chosen)[:, None, :] - member * groups
    found = _positions(_largest(_key(entries, low).view(strips * across, group * k), k))
    if bool(tied.any()):
        found[tied] = _positions(_largest(_keys(_by_block(blocks)[tied]), k))
    return found


@lru_cache(maxsize=4)
def _places(
    strips: int, rows: int, across: int, columns: int, groups: int, device: torch.device
) -> tuple[Tensor, Tensor]:  # (blocks · groups,) int64 each
    """Of each group: where its first entry lies in the matrix, and _LAST minus that entry's position."""
    block = torch.arange(strips * across, device=device)
    corner = (block // across * (rows * across) + block % across) * columns
    group = torch.arange(groups, device=device)
    first = corner[:, None] + (group // columns * (across * columns) + group % columns)
    return first.view(-1), (_LAST - group).repeat(strips * across)


def _by_block(blocks: Tensor) -> Tensor:  # (strips, rows, across, columns) → (blocks, entries)
    return blocks.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)


def _keys(entries: Tensor) -> Tensor:  # (blocks, entries) float32 → int64
    return _key(entries.contiguous().view(torch.int32), _LAST - torch.arange(entries.shape[1], device=entries.device))


def _key(bits: Tensor, low: Tensor) -> Tensor:
    """Magnitude first, then the lower position: the bits of floats without their sign order as they do."""
    return ((bits & _MAGNITUDE).long() << POSITION_BITS).bitwise_or_(low)


def _top_groups(maxima: Tensor, k: int) -> tuple[Tensor, Tensor]:  # (blocks, groups) int32 → (blocks, k), (blocks,)
    """k groups of each block, numbered through all blocks, and in which blocks more than k had an equal claim."""
    blocks, groups = maxima.shape
    best = torch.topk(maxima, k, dim=1, sorted=False)
    tied = (maxima >= best.values.amin(1, keepdim=True)).sum(1) > k
    return best.indices + torch.arange(blocks, device=maxima.device)[:, None] * groups, tied


def _largest(keys: Tensor, k: int) -> Tensor:  # (blocks, keys) → (blocks, k), in no order
    return torch.topk(keys, k, dim=1, sorted=False).values


def _positions(keys: Tensor) -> Tensor:  # (blocks, k) int64 → int16, ascending
    return (_LAST - (keys & _LAST)).to(torch.int16).sort(dim=1).values
