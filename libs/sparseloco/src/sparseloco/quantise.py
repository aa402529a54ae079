"""Two bits for a value, per tensor: the codes and what they mean. It knows no index, no byte and no device.

Every sum is taken over integers, so that its order does not matter: the same values give the same codes and scales, to
the bit, on any device. A tensor's values are held as multiples of 2^-38 of the power of two above its largest one.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseloco.sparse import Quantiser

SMALLEST_SCALE = 2.0**-40
"""A tensor that did not move still needs a positive magnitude on the wire; this one changes nothing in float32."""
LLOYD_ROUNDS = 8
FRACTION_BITS = 38
_MAGNITUDE_BITS = 31
_SQUARE_BITS = 30
"""Squares of so many bits are summed in two halves of int64: 2^33 of them fit."""


_Numbers = Any
"""Whole numbers, one a tensor: numpy's on a CPU, else torch's, with the operators that they share."""


def quantise(values: Tensor, counts: tuple[int, ...], quantiser: Quantiser) -> tuple[Tensor, Tensor]:
    """Codes (entries,) uint8 and tables (tensors, 4) float32 of `values`, (entries,) float32: `counts` per tensor."""
    code = _sign_two if quantiser is Quantiser.SIGN_TWO else _published
    return code(values, Segments(counts, values.device))


def _unit(largest: Tensor) -> Tensor:  # (tensors,) float32 → float64
    return torch.exp2(torch.frexp(largest.double()).exponent.double() - FRACTION_BITS)


def _multiples(values: Tensor, unit: Tensor, segments: "Segments") -> Tensor:  # (entries,) float32 → int64
    return torch.round(segments.spread(1 / unit).mul_(values)).long()


class Segments:
    """Consecutive runs of entries, one per tensor."""

    def __init__(self, counts: tuple[int, ...], device: torch.device) -> None:
        self.counts = torch.tensor(counts, device=device)
        self._plain = counts
        self.ends = torch.cumsum(self.counts, 0)
        self._starts = np.cumsum([0, *counts[:-1]])

    def spread(self, per_tensor: Tensor) -> Tensor:  # (tensors,) → (entries,)
        """Each tensor's value for each of its entries."""
        if per_tensor.device.type == "cpu":  # filling runs, where repeat_interleave copies one by one
            return torch.cat([value.expand(count) for value, count in zip(per_tensor, self._plain, strict=True)])
        return torch.repeat_interleave(per_tensor, self.counts, output_size=sum(self._plain))

    def sums(self, per_entry: Tensor) -> Tensor:  # (entries,) integers or bool → (tensors,) int64
        """Exact, whatever the order."""
        if per_entry.device.type == "cpu":
            return torch.from_numpy(np.add.reduceat(per_entry.numpy(), self._starts, dtype=np.int64))
        running = torch.cumsum(per_entry, 0, dtype=torch.int64)[self.ends - 1]
        return torch.diff(running, prepend=running.new_zeros(1))

    def ascending(self, magnitudes: Tensor) -> Tensor:  # (entries,) float32, none negative → (entries,)
        """Each tensor's in order."""
        if magnitudes.device.type == "cpu":  # numpy's vectorised sort is several times faster than torch's
            ordered = magnitudes.numpy().copy()
            for start, count in zip(self._starts, self._plain, strict=True):
                ordered[start : start + count].sort()
            return torch.from_numpy(ordered)
        return ascending_there(magnitudes, self.spread(torch.arange(len(self.counts), device=magnitudes.device)))


def ascending_there(magnitudes: Tensor, tensor: Tensor) -> Tensor:  # (entries,) float32, (entries,) int64
    """In order by tensor, then by magnitude, with one sort: the bits of floats without a sign order as they do."""
    keys = (tensor << _MAGNITUDE_BITS) + magnitudes.view(torch.int32)
    return (keys.sort().values & ((1 << _MAGNITUDE_BITS) - 1)).to(torch.int32).view(torch.float32)


def _sign_two(values: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    """A sign and one of two magnitudes: the means on either side of their midpoint (Lloyd)."""
    magnitudes = values.abs()
    ordered = segments.ascending(magnitudes)
    unit = _unit(ordered[segments.ends - 1])
    sums = _OrderedSums(_multiples(ordered, unit, segments), segments)
    low, high, threshold = (torch.as_tensor(each, device=values.device) for each in sums.two_means())
    # larger than the threshold is what comes from the first such one on, and none where none does
    first = torch.as_tensor(sums.cut(threshold), device=values.device)
    least = torch.where(first < segments.ends, ordered[first.clamp(max=len(ordered) - 1)], torch.inf)
    codes = (magnitudes >= segments.spread(least)).to(torch.uint8)
    codes += 2 * torch.signbit(values).to(torch.uint8)
    small, big = ((each.double() * unit).clamp(min=SMALLEST_SCALE).float() for each in (low, high))
    return codes, torch.stack([small, big, -small, -big], dim=1)


class _OrderedSums:
    """Counts and sums above any threshold, per tensor, from one order instead of one pass for each threshold.

    On a CPU these few numbers are numpy's, whose calls on so little take a fraction of torch's time.
    """

    def __init__(self, sizes: Tensor, segments: Segments) -> None:
        """`sizes` (entries,) int64 ascend in each tensor."""
        first = torch.arange(len(segments.counts), device=sizes.device) << (FRACTION_BITS + 1)
        # int64 wraps around and back: a difference of two running sums is exact
        running = torch.cat([sizes.new_zeros(1), torch.cumsum(sizes, 0)])
        ordered = sizes.add_(segments.spread(first))
        arrays = (first, running, ordered, segments.counts, segments.ends)
        self._on_cpu = sizes.device.type == "cpu"
        shared: list[_Numbers] = [each.numpy() if self._on_cpu else each for each in arrays]
        self._first, self._running, self._ordered, self._counts, self._ends = shared
        self._total_to_end: _Numbers = self._running[self._ends]

    def two_means(self) -> tuple[_Numbers, _Numbers, _Numbers]:  # (tensors,) each
        """The means on either side of a threshold, and that, their midpoint, after LLOYD_ROUNDS from the mean on."""
        where: Callable[..., _Numbers] = np.where if self._on_cpu else torch.where
        total = self._total_to_end - self._running[self._ends - self._counts]
        low = high = threshold = total // self._counts
        for _ in range(LLOYD_ROUNDS):
            cut = self.cut(threshold)
            above, above_total = self._ends - cut, self._total_to_end - self._running[cut]
            low = (total - above_total) // (self._counts - above)  # the smallest is never above: it is below any mean
            high = where(above > 0, above_total // (above + (above == 0)), high)
            threshold = (low + high) // 2
        return low, high, threshold

    def cut(self, threshold: _Numbers) -> _Numbers:  # (tensors,) both
        """Where each tensor's entries that exceed its threshold begin."""
        if self._on_cpu:
            return np.searchsorted(self._ordered, self._first + np.asarray(threshold), side="right")
        return torch.searchsorted(self._ordered, self._first + threshold, right=True)


def _published(values: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    """As published: shift = mean, bin = clamp(round(x / (6 sigma/4) + 2), 0, 3), decoded by bin means."""
    unit = _unit(segments.ascending(values.abs())[segments.ends - 1])
    multiples = _multiples(values, unit, segments)
    shift, width = (torch.from_numpy(each).to(values.device) for each in _moments(multiples, unit, segments))
    bins = torch.round((values.double() - segments.spread(shift)) / segments.spread(width) + 2)
    codes = bins.clamp(0, 3).to(torch.uint8)
    columns = []
    for code in range(4):
        inside = codes == code
        count, total = segments.sums(inside), segments.sums(multiples * inside)
        mean = total.double() / count.clamp(min=1) * unit
        columns.append(torch.where(count > 0, mean, shift + (code - 2) * width))
    return codes, torch.stack(columns, dim=1).float()


def _moments(
    multiples: Tensor, unit: Tensor, segments: Segments
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # (tensors,) each
    """Mean and bin width of 1.5 standard deviations, from exact sums."""
    coarse = multiples >> (FRACTION_BITS - _SQUARE_BITS)
    squares = coarse * coarse
    high, low = segments.sums(squares >> _SQUARE_BITS), segments.sums(squares & ((1 << _SQUARE_BITS) - 1))
    sums = zip(*(each.tolist() for each in (segments.counts, segments.sums(coarse), high, low)), strict=True)
    coarse_unit = unit.cpu().numpy() * 2.0 ** (FRACTION_BITS - _SQUARE_BITS)
    shift = segments.sums(multiples).double().cpu().numpy() / segments.counts.cpu().numpy() * unit.cpu().numpy()
    deviation = [
        math.sqrt((count * ((high << _SQUARE_BITS) + low) - total * total) / (count * count))
        for count, total, high, low in sums
    ]
    return shift, np.maximum(6 * np.array(deviation) * coarse_unit / 4, SMALLEST_SCALE)
