"""Two bits for a value, per tensor: the codes and what they mean. It knows no index, no byte and no device.

Every sum is taken over integers, so that its order does not matter: the same values give the same codes and scales, to
the bit, on any device. A tensor's values are held as multiples of 2^-38 of the power of two above its largest one.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseloco.sparse import Quantiser

SMALLEST_SCALE = 2.0**-40
"""A tensor that did not move still needs a positive magnitude on the wire; this one changes nothing in float32."""
LLOYD_ROUNDS = 8
FRACTION_BITS = 38
_SQUARE_BITS = 30
"""Squares of so many bits are summed in two halves of int64: 2^33 of them fit."""


def quantise(values: Tensor, counts: tuple[int, ...], quantiser: Quantiser) -> tuple[Tensor, Tensor]:
    """Codes (entries,) uint8 and tables (tensors, 4) float32 of `values`, (entries,) float32: `counts` per tensor."""
    segments = Segments(counts, values.device)
    largest = torch.stack([part.abs().amax() for part in torch.split(values, list(counts))]).double()
    unit = torch.exp2(torch.frexp(largest).exponent.double() - FRACTION_BITS)
    multiples = torch.round(values.double() * segments.spread(1 / unit)).long()
    code = _sign_two if quantiser is Quantiser.SIGN_TWO else _published
    return code(values, multiples, unit, segments)


class Segments:
    """Consecutive runs of entries, one per tensor."""

    def __init__(self, counts: tuple[int, ...], device: torch.device) -> None:
        self.counts = torch.tensor(counts, device=device)
        self._plain = counts
        self._ends = torch.cumsum(self.counts, 0) - 1
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
        running = torch.cumsum(per_entry, 0, dtype=torch.int64)[self._ends]
        return torch.diff(running, prepend=running.new_zeros(1))


def _sign_two(values: Tensor, multiples: Tensor, unit: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    """A sign and one of two magnitudes: the means on either side of their midpoint (Lloyd)."""
    sizes = multiples.abs()
    sums = _OrderedSums(sizes, segments)
    low = high = threshold = sums.total // segments.counts
    for _ in range(LLOYD_ROUNDS):
        above, above_total = sums.above(threshold)
        below = segments.counts - above
        low = torch.where(below > 0, (sums.total - above_total) // below.clamp(min=1), low)
        high = torch.where(above > 0, above_total // above.clamp(min=1), low)
        threshold = (low + high) // 2
    large = sizes > segments.spread(threshold)
    codes = large.to(torch.uint8) + 2 * torch.signbit(values).to(torch.uint8)
    small, big = ((each.double() * unit).clamp(min=SMALLEST_SCALE).float() for each in (low, high))
    return codes, torch.stack([small, big, -small, -big], dim=1)


class _OrderedSums:
    """Counts and sums above any threshold, per tensor, from one sort instead of one pass for each threshold."""

    def __init__(self, sizes: Tensor, segments: Segments) -> None:
        self._first = torch.arange(len(segments.counts), device=sizes.device) << (FRACTION_BITS + 1)
        self._ordered = _ascending(sizes + segments.spread(self._first))
        self._ends = torch.cumsum(segments.counts, 0)
        # int64 wraps around and back: a difference of two running sums is exact
        running = torch.cumsum(self._ordered - segments.spread(self._first), 0)
        self._running = torch.cat([running.new_zeros(1), running])
        self._total_to_end = self._running[self._ends]
        self.total = self._total_to_end - self._running[self._ends - segments.counts]

    def above(self, threshold: Tensor) -> tuple[Tensor, Tensor]:  # (tensors,) each
        """How many sizes of each tensor exceed its threshold, and their sum."""
        cut = torch.searchsorted(self._ordered, self._first + threshold, right=True)
        return self._ends - cut, self._total_to_end - self._running[cut]


def _ascending(keys: Tensor) -> Tensor:
    # numpy's vectorised sort is several times faster than torch's on a CPU
    return torch.from_numpy(np.sort(keys.numpy())) if keys.device.type == "cpu" else keys.sort().values


def _published(values: Tensor, multiples: Tensor, unit: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    """As published: shift = mean, bin = clamp(round(x / (6 sigma/4) + 2), 0, 3), decoded by bin means."""
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
