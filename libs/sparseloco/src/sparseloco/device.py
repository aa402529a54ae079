"""A payload as an update on a GPU: its bits are taken apart there, and only its header and scales on the host.

Whether anything is wrong is one answer from the device; what is wrong, and where, `wire.unpack` says. It knows no
model, no money, and no payload that it has not checked whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseloco import wire
from sparseloco.layout import layout_of
from sparseloco.spec import ModelSpec

KEPT_PLANS = 2
"""Models whose chunks are remembered on a device: some 30 bytes for each 4,096 parameters."""


@dataclass(frozen=True, eq=False)
class _Run:
    """Consecutive chunks that keep the same number of entries, as columns to compute with: (chunks, 1) each."""

    chunks: int
    kept: int
    base: Tensor  # int64: flat index of the first element
    columns: Tensor  # int32
    skip: Tensor  # int32: from the end of one row of the block to the beginning of the next
    size: Tensor  # int32
    table: Tensor  # int64: 4 · tensor

    @property
    def entries(self) -> int:
        """Of all its chunks."""
        return self.chunks * self.kept


@dataclass(frozen=True, eq=False)
class DeviceUpdate:
    """Unique flat indices and what each one's code means; clipping scales the tables, never the entries."""

    indices: Tensor  # (entries,) int64
    codes: Tensor  # (entries,) uint8
    tables: NDArray[np.float32]  # (tensors, 4)
    runs: tuple[_Run, ...]

    @cached_property
    def values(self) -> Tensor:
        """What each entry moves, (entries,) float32."""
        tables = torch.from_numpy(self.tables.reshape(-1)).to(self.codes.device)
        return tables[self._table_entries()]

    def norms(self) -> tuple[float, ...]:
        """L2 norm per tensor, (tensors,), in float64 from how often each code comes."""
        used = torch.bincount(self._table_entries(), minlength=self.tables.size)
        squares = used.view(-1, 4).cpu().numpy() * self.tables.astype(np.float64) ** 2
        return tuple(np.sqrt(squares.sum(axis=1)).tolist())

    def scaled(self, factors: Sequence[float]) -> "DeviceUpdate":
        """Each tensor multiplied by its factor, (tensors,): bit for bit what scaling the values gives."""
        scale = np.asarray(factors, dtype=np.float32)[:, None]
        return DeviceUpdate(self.indices, self.codes, self.tables * scale, self.runs)

    def handed_over(self) -> "DeviceUpdate":
        """Finished on the caller's stream, for use on the device's default one."""
        if self.values.is_cuda:
            for each in (self.indices, self.values):
                each.record_stream(torch.cuda.default_stream(each.device))
            torch.cuda.current_stream(self.indices.device).synchronize()
        return self

    def _table_entries(self) -> Tensor:  # (entries,) int64: 4 · tensor + code
        parts = zip(self.runs, torch.split(self.codes, [run.entries for run in self.runs]), strict=True)
        return _joined([(run.table + codes.view(run.chunks, run.kept)).view(-1) for run, codes in parts])


def unpack_on(
    device: torch.device | str,
    data: bytes,
    spec: ModelSpec,
    binding: wire.Binding,
    limits: wire.Limits | None = None,
) -> DeviceUpdate:
    """The update in `data`, on `device`. Raises PayloadError with the offset and reason that `wire.unpack` gives."""
    frame = wire.read_frame(data, spec, binding, limits)
    raw = _moved(data, torch.device(device))
    middle = frame.positions_at + len(frame.positions)
    positions, positions_clean = _positions(raw[frame.positions_at : middle], frame.entries)
    codes, codes_clean = _codes(raw[middle:], frame.entries)
    runs = _runs(spec, binding.k, torch.device(device))
    holds, indices = [positions_clean, codes_clean], []
    for run, part in zip(runs, torch.split(positions, [run.entries for run in runs]), strict=True):
        inside = part.view(run.chunks, run.kept)
        holds += [(inside[:, 1:] > inside[:, :-1]).all(), (inside[:, -1:] < run.size).all()]
        # row · width + column, where column = position - row · columns
        flat = torch.div(inside.to(torch.int32), run.columns, rounding_mode="floor").mul_(run.skip).add_(inside)
        indices.append((run.base + flat).view(-1))
    if not bool(torch.stack(holds).all()):
        wire.unpack(data, spec, binding, limits)
        raise AssertionError("the device refuses a payload that the host accepts")
    return DeviceUpdate(_joined(indices), codes, frame.tables, runs)


@lru_cache(maxsize=KEPT_PLANS)
def _runs(spec: ModelSpec, k: int, device: torch.device) -> tuple[_Run, ...]:
    layout = layout_of(spec)
    kept = layout.kept(k)
    edges = [*np.flatnonzero(np.diff(kept, prepend=-1)).tolist(), layout.chunks]
    return tuple(_run(spec, slice(start, end), int(kept[start]), device) for start, end in pairwise(edges))


def _run(spec: ModelSpec, chunks: slice, kept: int, device: torch.device) -> _Run:
    layout = layout_of(spec)

    def column(numbers: NDArray[np.int64], kind: torch.dtype = torch.int32) -> Tensor:
        return torch.from_numpy(numbers[chunks]).to(device, kind)[:, None]

    return _Run(
        chunks=chunks.stop - chunks.start,
        kept=kept,
        base=column(layout.base, torch.int64),
        columns=column(layout.width),
        skip=column(layout.stride - layout.width),
        size=column(layout.size),
        table=column(4 * layout.tensor, torch.int64),
    )


def _moved(data: bytes, device: torch.device) -> Tensor:  # (bytes,) uint8
    """Through pinned memory to a GPU, which reads it itself then."""
    staged = torch.empty(len(data), dtype=torch.uint8, pin_memory=device.type == "cuda")
    np.copyto(staged.numpy(), np.frombuffer(data, dtype=np.uint8))
    return staged.to(device, non_blocking=True)


def _positions(raw: Tensor, entries: int) -> tuple[Tensor, Tensor]:  # (bytes,) uint8 → (entries,) int16, ()
    missing = -(-entries // 2) * 3 - len(raw)
    low, middle, high = (torch.nn.functional.pad(raw, (0, missing)) if missing else raw).view(-1, 3).unbind(1)
    both = torch.empty(len(low), 2, dtype=torch.int16, device=raw.device)
    both[:, 0] = (middle & 0xF).to(torch.int16).bitwise_left_shift_(8).bitwise_or_(low)
    both[:, 1] = high.to(torch.int16).bitwise_left_shift_(4).bitwise_or_(middle >> 4)
    flat = both.view(-1)
    return flat[:entries], (flat[entries:] == 0).all()


def _codes(raw: Tensor, entries: int) -> tuple[Tensor, Tensor]:  # (bytes,) uint8 → (entries,) uint8, ()
    codes = torch.stack([raw >> shift & 3 for shift in (0, 2, 4, 6)], dim=1).view(-1)
    return codes[:entries], (codes[entries:] == 0).all()


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
