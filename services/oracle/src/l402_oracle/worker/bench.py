"""The worker's bench: one model, one thread, every tensor. It holds no key and knows no bus."""

import asyncio
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import torch
from l402core.errors import PeerError
from l402core.events import GradientMeasure, RoundAggregate
from sparseloco.data import Corpus, held_out_windows
from sparseloco.defaults import SCORE_MIN_SHARDS
from sparseloco.model import GPTShape, checkpoint_bytes, init_parameters, load_checkpoint, sha256_of
from sparseloco.outer import aggregate, outer_step
from sparseloco.sparse import Sparse, Update, expand
from sparseloco.wire import Binding, PayloadError, unpack
from torch import Tensor

from l402_oracle.measure import Measured, Measurer, Stopping, clipped, mean_loss, screen
from l402_oracle.similarity import sketch
from l402_oracle.worker.results import Built, Compared, Measurement, Opened, Screening

R = TypeVar("R")
NANO = 1_000_000_000
PPM = 1_000_000
KEPT_CHECKPOINTS = 2
"""Measurers in memory: the round's, and the last one's for jobs that come late."""
_BOUND_TO = {8: "wrong_round", 12: "wrong_model", 44: "stale_checkpoint", 76: "wrong_peer"}
"""Header fields (by offset) that name something else; any other fault is malformed."""


class TorchBench:
    """Jobs run one after the other in one thread, off the event loop, which keeps the bus's heartbeats alive."""

    def __init__(self, *, shape: GPTShape, corpus: Corpus, chunk_k: int, threads: int = 1) -> None:
        self._shape = shape
        self._spec = shape.spec()
        self._corpus = corpus
        self._k = chunk_k
        self._thread = ThreadPoolExecutor(1, "torch", initializer=torch.set_num_threads, initargs=(threads,))
        self._measurers: dict[bytes, Measurer] = {}
        self._held_out: dict[bytes, int] = {}
        self._hardware = f"cpu {platform.machine()} torch {torch.__version__} threads {threads}"
        self.model_id: str = self._spec.model_id.hex()

    async def screen(self, opened: Opened) -> Screening:
        """Raises PeerError."""
        return await self._run(lambda: self._screen(opened))

    async def measure(self, opened: Opened, checkpoint: bytes, request: GradientMeasure) -> Measurement:
        """Raises PeerError, ValueError."""
        return await self._run(lambda: self._measure(opened, checkpoint, request))

    async def compare(self, parent: bytes, child: bytes, shards: tuple[int, ...]) -> Compared:
        """Paired loss drop from parent to child. Raises ValueError."""
        return await self._run(lambda: self._compare(parent, child, shards))

    async def first(self, init_seed: int, number: int) -> Built:
        """The first checkpoint, from a seed; its held-out loss stands for both."""
        return await self._run(lambda: self._built(None, init_parameters(init_seed, self._shape), number))

    async def step(self, checkpoint: bytes, payloads: list[Opened], request: RoundAggregate) -> Built:
        """Raises PeerError, ValueError."""
        return await self._run(lambda: self._step(checkpoint, payloads, request))

    def close(self) -> None:
        """Wait for the job in hand."""
        self._thread.shutdown(cancel_futures=True)

    async def _run(self, job: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    def _screen(self, opened: Opened) -> Screening:
        sparse = self._unpacked(opened)
        norms = expand(sparse, self._spec).norms()
        if faults := screen(norms):
            return Screening(code=faults[0].code, detail=faults[0].sentence)
        return Screening(norms=norms, sketch=sketch(sparse, self._spec).to_bytes())

    def _measure(self, opened: Opened, checkpoint: bytes, request: GradientMeasure) -> Measurement:
        update = clipped(self._update(opened), request.median_norms)
        stopping = Stopping(min_shards=min(SCORE_MIN_SHARDS, len(request.shards)))
        measurer = self._measurer(checkpoint)
        seen = measurer.measure(update, request.shards, stopping, alpha=request.outer_rate_ppm / PPM)
        if not seen.is_finite:
            return Measurement(failure="not_finite: It breaks the model: the loss is no longer a number.")
        span = seen.interval
        return Measurement(
            drop_mean=_nano(span.mean),
            drop_low=_nano(span.lo),
            drop_high=_nano(span.hi),
            sequences=span.n,
            tokens=seen.tokens,
            losses=_losses(seen),
            hardware=self._hardware,
        )

    def _compare(self, parent: bytes, child: bytes, shards: tuple[int, ...]) -> Compared:
        # One after the other: the round's own measurer is the one that is kept for the next round's jobs.
        before = tuple(loss for shard in shards for loss in self._measurer(parent).baseline(shard))
        after = tuple(loss for shard in shards for loss in self._measurer(child).baseline(shard))
        seen = Measured(shards, before, after)
        if not seen.is_finite:
            return Compared(failure="not_finite: The new checkpoint's loss is not a number.")
        span = seen.interval
        return Compared(
            drop_mean=_nano(span.mean),
            drop_low=_nano(span.lo),
            drop_high=_nano(span.hi),
            sequences=span.n,
            losses=_losses(seen),
            hardware=self._hardware,
        )

    def _step(self, checkpoint: bytes, payloads: list[Opened], request: RoundAggregate) -> Built:
        _, theta = load_checkpoint(checkpoint, self._spec)
        updates = {
            bytes.fromhex(opened.peer + item.commitment): clipped(self._update(opened), request.median_norms)
            for opened, item in zip(payloads, request.items, strict=True)
        }
        mean = aggregate(updates, self._spec.numel)
        return self._built(theta, outer_step(theta, mean, request.outer_rate_ppm / PPM), request.round + 1)

    def _built(self, before: Tensor | None, after: Tensor, number: int) -> Built:
        held_out = self._held_out_loss(after)
        return Built(
            checkpoint=checkpoint_bytes(after, self._spec, number),
            held_out_before=held_out if before is None else self._held_out_loss(before),
            held_out_after=held_out,
        )

    def _held_out_loss(self, theta: Tensor) -> int:
        name = sha256_of(theta.numpy().tobytes())
        if name not in self._held_out:
            loss = mean_loss(theta, held_out_windows(self._corpus), self._shape)
            _keep(self._held_out, name, _nano(loss))
        return self._held_out[name]

    def _measurer(self, checkpoint: bytes) -> Measurer:
        name = sha256_of(checkpoint)
        if name not in self._measurers:
            _, theta = load_checkpoint(checkpoint, self._spec)
            _keep(self._measurers, name, Measurer(theta, self._corpus, self._shape))
        return self._measurers[name]

    def _update(self, opened: Opened) -> Update:
        return expand(self._unpacked(opened), self._spec)

    def _unpacked(self, opened: Opened) -> Sparse:
        try:
            binding = Binding(opened.round, bytes.fromhex(opened.checkpoint), bytes.fromhex(opened.peer), self._k)
            return unpack(opened.packed, self._spec, binding).sparse
        except PayloadError as error:
            code = _BOUND_TO.get(error.offset, "malformed")
            raise PeerError(code, f"The payload is not one for this submission ({error})") from error


def _keep(cache: dict[bytes, R], name: bytes, value: R) -> None:
    while len(cache) >= KEPT_CHECKPOINTS:
        del cache[next(iter(cache))]
    cache[name] = value


def _losses(seen: Measured) -> bytes:
    return msgspec.json.encode({"shards": seen.shards, "before": seen.losses_before, "after": seen.losses_after})


def _nano(nats: float) -> int:
    return round(nats * NANO)
