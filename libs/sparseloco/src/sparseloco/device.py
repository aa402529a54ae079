"""A payload as an update on a GPU: its bits are taken apart there, and only its header and scales on the host.

Whether anything is wrong is one answer from the device; what is wrong, and where, `wire.unpack` says. It knows no
model, no money, and no payload that it has not checked whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseloco import wire
from sparseloco.codec import decode, flat_index, kept_per_tensor, tensor_and_code
from sparseloco.layout import Grid, grids_of
from sparseloco.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class DeviceUpdate:
    """Unique flat indices and what each one's code means; clipping scales the tables, never the entries."""

    indices: Tensor  # (entries,) int32, or int64 beyond 2^31 parameters
    codes: Tensor  # (entries,) uint8
    tables: NDArray[np.float32]  # (tensors, 4)
    counts: tuple[int, ...]  # entries per tensor

    @property
    def values(self) -> Tensor:
        """What each entry moves, (entries,) float32."""
        return decode(self.codes, torch.from_numpy(self.tables).to(self.codes.device), self.counts)

    def norms(self) -> tuple[float, ...]:
        """L2 norm per tensor, (tensors,), in float64 from how often each code comes."""
        used = torch.bincount(tensor_and_code(self.codes, self.counts), minlength=self.tables.size)
        squares = used.view(-1, 4).cpu().numpy() * self.tables.astype(np.float64) ** 2
        return tuple(np.sqrt(squares.sum(axis=1)).tolist())

    def scaled(self, factors: Sequence[float]) -> "DeviceUpdate":
        """Each tensor multiplied by its factor, (tensors,): bit for bit what scaling the values gives."""
        scale = np.asarray(factors, dtype=np.float32)[:, None]
        return DeviceUpdate(self.indices, self.codes, self.tables * scale, self.counts)


def unpack_on(
    device: torch.device | str,
    data: bytes,
    spec: ModelSpec,
    binding: wire.Binding,
    limits: wire.Limits | None = None,
) -> DeviceUpdate:
    """The update in `data`, on `device`. Raises PayloadError with the offset and reason that `wire.unpack` gives."""
    frame = wire.read_frame(data, spec, binding, limits)
    positions, positions_clean = _positions(_moved(frame.positions, device), frame.entries)
    codes, codes_clean = _codes(_moved(frame.codes, device), frame.entries)
    indices = torch.empty(frame.entries, dtype=_index_type(spec), device=device)
    holds, start = [positions_clean, codes_clean], 0
    for grid in grids_of(spec):
        end = start + grid.chunks * min(binding.k, grid.size)
        inside = positions[start:end].view(grid.chunks, -1)
        holds.append(_in_order(inside, grid))
        indices[start:end] = flat_index(grid, inside)
        start = end
    if not bool(torch.stack(holds).all()):
        wire.unpack(data, spec, binding, limits)
        raise AssertionError("the device refuses a payload that the host accepts")
    if indices.is_cuda:  # made on the caller's stream, used on the model's
        for each in (indices, codes):
            each.record_stream(torch.cuda.default_stream(each.device))
    return DeviceUpdate(indices, codes, frame.tables, kept_per_tensor(spec, binding.k))


def _index_type(spec: ModelSpec) -> torch.dtype:
    return torch.int32 if spec.numel < 1 << 31 else torch.int64


def _moved(view: memoryview, device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.frombuffer(view, dtype=np.uint8).copy()).to(device)


def _positions(raw: Tensor, entries: int) -> tuple[Tensor, Tensor]:  # (bytes,) uint8 → (entries,) int32, ()
    padded = torch.nn.functional.pad(raw, (0, -(-entries // 2) * 3 - len(raw)))
    low, middle, high = padded.view(-1, 3).to(torch.int32).unbind(1)
    both = torch.stack([low | (middle & 0xF) << 8, middle >> 4 | high << 4], dim=1).view(-1)
    return both[:entries], (both[entries:] == 0).all()


def _codes(raw: Tensor, entries: int) -> tuple[Tensor, Tensor]:  # (bytes,) uint8 → (entries,) uint8, ()
    codes = torch.stack([raw >> shift & 3 for shift in (0, 2, 4, 6)], dim=1).view(-1)
    return codes[:entries], (codes[entries:] == 0).all()


def _in_order(positions: Tensor, grid: Grid) -> Tensor:  # (chunks, kept) → ()
    """Inside the block, ascending, none twice."""
    return (positions[:, 1:] > positions[:, :-1]).all() & (positions < grid.size).all()
