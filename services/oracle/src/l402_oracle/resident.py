"""One checkpoint resident on a device: an update goes into it, losses come out, and it is itself again to the bit.

Nothing dense is made for an update: its entries are added in place, and what was there before is written back. It knows
no shard, no statistics and no money.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import torch
from sparseloco.device import DeviceUpdate
from sparseloco.model import ByteGPT, GPTShape, sequence_losses
from sparseloco.sparse import Update
from torch import Tensor

WARM_UPS = 3
"""Forward passes before a CUDA graph is captured: libraries choose their kernels during the first ones."""
GROUP = 8
"""Batches in one graph, one after the other: launching costs the host as much for eight as for one."""
MAX_GRAPHS = 4
"""Captured graphs at most; measuring needs two, of a group and of one batch, for its one canonical shape."""
Answer = Callable[[], list[float]]
"""Losses that were asked for: calling it waits until the device has them."""


class Resident(Protocol):
    """What a measurement needs of a checkpoint."""

    @property
    def theta(self) -> Tensor:
        """The checkpoint's parameters, (numel,) float32, on the host: a copy."""
        ...

    @property
    def in_use(self) -> Tensor:
        """What the next forward pass computes with, (numel,), on the host: a copy."""
        ...

    def applied(self, update: Update | DeviceUpdate, alpha: float = 1.0) -> AbstractContextManager[None]:
        """θ - alpha·update for as long as the context lasts. Raises IndexError outside the model."""
        ...

    def losses(self, windows: Tensor) -> Tensor:  # (B, T + 1) int64 → (B,) float32, on the device
        """Mean cross-entropy per sequence, in nats per token, of the parameters as they are at this moment."""
        ...

    def asked(self, batches: Sequence[Tensor]) -> Answer:  # of (B, T + 1) int64 → sequences in order
        """The same of several batches. What is asked for later does not delay the answer."""
        ...


def resident(theta: Tensor, shape: GPTShape | None = None, device: str = "cpu") -> Resident:
    """`theta`, (numel,) float32, on `device`: computed in float32 on a CPU, in bfloat16 on a GPU."""
    return OnCpu(theta, shape) if device == "cpu" else OnCuda(theta, shape, device)


class OnCpu:
    """One float32 vector."""

    def __init__(self, theta: Tensor, shape: GPTShape | None = None) -> None:
        self._model = ByteGPT(theta.clone(), shape).requires_grad_(requires_grad=False)
        self._flat = self._model.flat.data

    @property
    def theta(self) -> Tensor:
        """A copy."""
        return self._flat.clone()

    @property
    def in_use(self) -> Tensor:
        """The same."""
        return self._flat.clone()

    @contextmanager
    def applied(self, update: Update | DeviceUpdate, alpha: float = 1.0) -> Iterator[None]:
        """In place, and written back."""
        indices, values = _tensors(update, self._flat.device)
        originals = self._flat.index_select(0, indices)
        try:
            self._flat.index_add_(0, indices, values, alpha=-alpha)
            yield
        finally:
            # writing back is exact; adding the update again would drift by a rounding
            self._flat.numpy()[indices.numpy()] = originals.numpy()

    def losses(self, windows: Tensor) -> Tensor:
        """At once."""
        with torch.no_grad():
            return sequence_losses(self._model, windows)

    def asked(self, batches: Sequence[Tensor]) -> Answer:
        """At once."""
        found: list[float] = torch.cat([self.losses(batch) for batch in batches]).tolist()
        return lambda: found


@dataclass(frozen=True, eq=False)
class _Graph:
    """Forward passes of one shape, replayed without launching their kernels one by one."""

    graph: torch.cuda.CUDAGraph
    windows: Tensor  # (group, B, T + 1)
    losses: Tensor  # (group · B,)


class OnCuda:
    """The bfloat16 parameters that are computed with, and the float32 ones that an update is exact against.

    A touched parameter is the rounding of its float32 value less the update: adding in bfloat16 would lose most of it.
    """

    def __init__(self, theta: Tensor, shape: GPTShape | None = None, device: str = "cuda") -> None:
        self._exact = theta.to(device)
        self._model = ByteGPT(self._exact.bfloat16(), shape).requires_grad_(requires_grad=False)
        self._flat = self._model.flat.data
        self._graphs: dict[tuple[int, ...], _Graph] = {}

    @property
    def theta(self) -> Tensor:
        """A copy of the float32 ones."""
        return self._exact.cpu()

    @property
    def in_use(self) -> Tensor:
        """The bfloat16 ones."""
        return self._flat.cpu()

    @contextmanager
    def applied(self, update: Update | DeviceUpdate, alpha: float = 1.0) -> Iterator[None]:
        """In place, and written back, in the order of the device's stream: nothing waits."""
        indices, values = _tensors(update, self._flat.device)
        originals = self._flat.index_select(0, indices)
        try:
            moved = self._exact.index_select(0, indices).sub_(values, alpha=alpha)
            self._flat.index_copy_(0, indices, moved.bfloat16())
            yield
        finally:
            self._flat.index_copy_(0, indices, originals)

    def losses(self, windows: Tensor) -> Tensor:
        """Queued on the device; the answer is waited for where it is read."""
        return self._replayed([windows])

    def asked(self, batches: Sequence[Tensor]) -> Answer:
        """Queued, the copy to the host included: waiting for it holds no lock of the interpreter's."""
        found = torch.cat([self._replayed(group) for group in _grouped(batches)])
        there = torch.empty(found.shape, dtype=found.dtype, pin_memory=True).copy_(found, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        done.record()

        def answer() -> list[float]:
            done.synchronize()
            losses: list[float] = there.tolist()
            return losses

        return answer

    def _replayed(self, group: Sequence[Tensor]) -> Tensor:  # of equal shapes, on the device → (sequences,)
        shape = (len(group), *group[0].shape)
        if shape not in self._graphs:
            while len(self._graphs) >= MAX_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[shape] = self._captured(group)
        graph = self._graphs[shape]
        torch.stack(list(group), out=graph.windows)
        graph.graph.replay()
        return graph.losses.clone()

    def _captured(self, group: Sequence[Tensor]) -> _Graph:
        static = torch.stack(list(group))
        aside = torch.cuda.Stream(self._flat.device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        aside.wait_stream(torch.cuda.current_stream(self._flat.device))
        with torch.no_grad(), torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                sequence_losses(self._model, static[0])
        torch.cuda.current_stream(self._flat.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # thread_local: the next payload may be unpacked by another thread meanwhile
        with torch.no_grad(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            losses = torch.cat([sequence_losses(self._model, batch) for batch in static])
        return _Graph(graph, static, losses)


def _grouped(batches: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """Eight of one shape together; what is left over one by one, so that few graphs are ever captured."""
    for _, same in groupby(batches, key=lambda batch: batch.shape):
        alike = list(same)
        whole = len(alike) - len(alike) % GROUP
        yield from (alike[start : start + GROUP] for start in range(0, whole, GROUP))
        yield from ([batch] for batch in alike[whole:])


def _tensors(update: Update | DeviceUpdate, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices and values, (entries,) each, on `device`."""
    if isinstance(update, DeviceUpdate):
        return update.indices.to(device), update.values.to(device)
    return torch.from_numpy(update.indices).to(device), torch.from_numpy(update.values).to(device)
