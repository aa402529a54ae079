"""The worker's bench: one model, one thread for it, one that opens what comes next. It holds no key and knows no bus."""

import asyncio
import math
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import msgspec
import structlog
import torch
from l402core.documents import Conditions
from l402core.errors import PeerError
from l402core.events import GradientMeasure, RoundAggregate, YardstickMake
from sparseloco.data import Corpus, assigned_windows, held_out_windows
from sparseloco.defaults import CONTEXT, SCORE_MIN_SHARDS, SHARD_WINDOWS
from sparseloco.device import DeviceUpdate, unpack_on
from sparseloco.model import GPTShape, checkpoint_bytes, init_parameters, load_checkpoint, sha256_of
from sparseloco.outer import aggregate, outer_step
from sparseloco.sparse import Sparse, Update, expand
from sparseloco.wire import Binding, PayloadError, unpack
from torch import Tensor

from l402_oracle.code import measuring_code
from l402_oracle.measure import Measured, Measurer, Stopping, clipped, mean_loss, screen
from l402_oracle.scoring import excess_milli, interval
from l402_oracle.similarity import sketch
from l402_oracle.turns import MEASURED_AT_ONCE, Turn
from l402_oracle.worker.metrics import WORKED
from l402_oracle.worker.results import Built, Compared, Measurement, Opened, Screening, Worked
from l402_oracle.worker.yardstick import worked

log = structlog.get_logger()
R = TypeVar("R")
AnyUpdate = Update | DeviceUpdate
NANO = 1_000_000_000
PPM = 1_000_000
KEPT_CHECKPOINTS = {"cpu": 2, "cuda": 1}
"""Measurers in memory: the round's and, where memory is plenty, the last one's for jobs that come late."""
_BOUND_TO = {8: "wrong_round", 12: "wrong_model", 44: "stale_checkpoint", 76: "wrong_peer"}
"""Header fields (by offset) that name something else; any other fault is malformed."""


class TorchBench:
    """Jobs run one after the other, off the event loop, which keeps the bus's heartbeats alive.

    What a measurement needs of its payload is made in a thread of its own, while the one before is measured. A GPU has
    the next measurement queued before it is through with this one; a CPU has one thread for both.
    """

    def __init__(self, *, shape: GPTShape, corpus: Corpus, chunk_k: int, threads: int = 1, device: str = "cpu") -> None:
        self._shape = shape
        self._spec = shape.spec()
        self._corpus = corpus
        self._k = chunk_k
        self._turn = Turn()
        self._threads = ThreadPoolExecutor(
            MEASURED_AT_ONCE[device], "torch", initializer=torch.set_num_threads, initargs=(threads,)
        )
        self._aside = ThreadPoolExecutor(1, "unpack")
        self._device = device
        self._stream = None if device == "cpu" else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's
        self._measurers: dict[bytes, Measurer] = {}
        self._held_out: dict[bytes, int] = {}
        self._hardware = hardware(device, threads)
        self._conditions = Conditions(
            hardware=self._hardware, dtype="float32" if device == "cpu" else "bfloat16",
            batch=(SHARD_WINDOWS, CONTEXT), shapes=tuple(dims for _, dims in self._spec.tensors),
            corpus=corpus.sha256.hex(), code=measuring_code(),
        )  # fmt: skip
        self.model_id: str = self._spec.model_id.hex()

    async def screen(self, opened: Opened) -> Screening:
        """Raises PeerError."""
        return await self._run("screen", lambda: self._screen(opened))

    async def measure(self, opened: Opened, checkpoint: bytes, request: GradientMeasure) -> Measurement:
        """Raises PeerError, ValueError."""
        loop = asyncio.get_running_loop()
        update = await loop.run_in_executor(self._aside, self._opened, opened, request)
        return await self._run("measure", lambda: self._measure(update, checkpoint, request))

    async def compare(self, parent: bytes, child: bytes, shards: tuple[int, ...]) -> Compared:
        """Paired loss drop from parent to child. Raises ValueError."""
        return await self._run("compare", lambda: self._compare(parent, child, shards))

    async def first(self, init_seed: int, number: int) -> Built:
        """The first checkpoint, from a seed; its held-out loss stands for both."""
        return await self._run("build", lambda: self._built(None, init_parameters(init_seed, self._shape), number))

    async def step(self, checkpoint: bytes, payloads: list[Opened], request: RoundAggregate) -> Built:
        """Raises PeerError, ValueError."""
        return await self._run("build", lambda: self._step(checkpoint, payloads, request))

    async def work(self, checkpoint: bytes, state: bytes, request: YardstickMake) -> Worked:
        """Raises ValueError."""
        return await self._run("work", lambda: self._work(checkpoint, state, request))

    def close(self) -> None:
        """Wait for the job in hand."""
        self._aside.shutdown(cancel_futures=True)
        self._threads.shutdown(cancel_futures=True)

    async def _run(self, name: str, job: Callable[[], R]) -> R:
        def timed() -> R:
            with self._turn, WORKED.labels(name).time():
                return job()

        return await asyncio.get_running_loop().run_in_executor(self._threads, timed)

    def _screen(self, opened: Opened) -> Screening:
        sparse = self._unpacked(opened)
        norms = expand(sparse, self._spec).norms()
        if faults := screen(norms):
            return Screening(code=faults[0].code, detail=faults[0].sentence)
        return Screening(norms=norms, sketch=sketch(sparse, self._spec).to_bytes())

    def _opened(self, opened: Opened, request: GradientMeasure) -> AnyUpdate:
        if self._device == "cpu":
            return clipped(self._update(opened), request.clip_norms)
        with torch.cuda.stream(self._stream), self._refusing():
            update = unpack_on(self._device, opened.packed, self._spec, self._binding(opened))
            return clipped(update, request.clip_norms).handed_over()

    def _measure(self, update: AnyUpdate, checkpoint: bytes, request: GradientMeasure) -> Measurement:
        stopping = Stopping(min_shards=min(SCORE_MIN_SHARDS, len(request.shards)))
        measurer = self._measurer(checkpoint)
        seen = measurer.measure(update, request.shards, stopping, alpha=request.outer_rate_ppm / PPM)
        if not seen.is_finite:
            return Measurement(failure="not_finite: It breaks the model: the loss is no longer a number.")
        span = seen.interval
        measurement = Measurement(
            drop_mean=_nano(span.mean),
            drop_low=_nano(span.lo),
            drop_high=_nano(span.hi),
            sequences=span.n,
            tokens=seen.tokens,
            losses=_losses(seen),
            conditions=self._conditions,
        )
        return self._tried(measurement, measurer, seen, update, request) if span.lo > 0 else measurement

    def _tried(
        self, measurement: Measurement, measurer: Measurer, seen: Measured, update: AnyUpdate, request: GradientMeasure
    ) -> Measurement:
        """With what it does for the data that its peer was assigned; only an improvement is worth the question."""
        if not request.own_windows:
            return measurement
        key = bytes.fromhex(request.own_key)
        windows = assigned_windows(self._corpus, key, request.round, request.own_batch, request.own_windows)
        before, after = measurer.try_on(update, windows, alpha=request.outer_rate_ppm / PPM)
        if not all(math.isfinite(loss) for loss in after):
            return measurement
        own = [b - a for b, a in zip(before, after, strict=True)]
        return msgspec.structs.replace(
            measurement, own_mean=_nano(interval(own).mean), own_excess_milli=excess_milli(own, seen.drops),
            own_sequences=len(own),
            losses=_losses(seen, own_before=before, own_after=after),
        )  # fmt: skip

    def _compare(self, parent: bytes, child: bytes, shards: tuple[int, ...]) -> Compared:
        # One after the other: the round's own measurer is the one that is kept for the next round's jobs.
        before = tuple(self._measurer(parent).baseline(shards))
        after = tuple(self._measurer(child).baseline(shards))
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

    def _work(self, checkpoint: bytes, state: bytes, request: YardstickMake) -> Worked:
        if request.recipe.sequence_length != CONTEXT or request.recipe.chunk_k != self._k:
            raise ValueError("the recipe asks for a context or a chunk that this worker does not have")
        _, theta = load_checkpoint(checkpoint, self._spec)
        return worked(
            theta, state, self._corpus, self._shape, recipe=request.recipe, round_=request.round,
            checkpoint=request.checkpoint.sha256,
        )  # fmt: skip

    def _step(self, checkpoint: bytes, payloads: list[Opened], request: RoundAggregate) -> Built:
        _, theta = load_checkpoint(checkpoint, self._spec)
        updates = {
            bytes.fromhex(opened.peer + item.commitment): clipped(self._update(opened), request.clip_norms)
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
            _make_room(self._held_out, 2)
            self._held_out[name] = _nano(loss)
        return self._held_out[name]

    def _measurer(self, checkpoint: bytes) -> Measurer:
        name = sha256_of(checkpoint)
        if name not in self._measurers:
            _, theta = load_checkpoint(checkpoint, self._spec)
            self._turn.alone()
            _make_room(self._measurers, KEPT_CHECKPOINTS[self._device])  # before the next one needs the memory
            self._measurers[name] = Measurer(theta, self._corpus, self._shape, self._device, self._turn)
        return self._measurers[name]

    def _update(self, opened: Opened) -> Update:
        return expand(self._unpacked(opened), self._spec)

    def _unpacked(self, opened: Opened) -> Sparse:
        with self._refusing():
            return unpack(opened.packed, self._spec, self._binding(opened)).sparse

    def _binding(self, opened: Opened) -> Binding:
        return Binding(opened.round, bytes.fromhex(opened.checkpoint), bytes.fromhex(opened.peer), self._k)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """What is wrong with a payload is the peer's fault."""
        try:
            yield
        except PayloadError as error:
            code = _BOUND_TO.get(error.offset, "malformed")
            raise PeerError(code, f"The payload is not one for this submission ({error})") from error


def usable_device(wanted: str) -> str:
    """`wanted`, or the CPU where no GPU answers: slower, and in float32, which the receipt says."""
    if wanted == "cuda" and not torch.cuda.is_available():
        log.warning("worker.device_missing", wanted=wanted, used="cpu")
        return "cpu"
    return wanted


def hardware(device: str, threads: int) -> str:
    """The hardware class that a receipt names: within one, results are equal to the bit."""
    if device == "cpu":
        return f"cpu {platform.machine()} torch {torch.__version__} threads {threads}"
    return f"cuda {torch.cuda.get_device_name()} torch {torch.__version__} bfloat16"


def _make_room(cache: dict[bytes, R], kept: int) -> None:
    while len(cache) >= kept:
        del cache[next(iter(cache))]


def _losses(seen: Measured, **own: tuple[float, ...]) -> bytes:
    told = {"shards": seen.shards, "before": seen.losses_before, "after": seen.losses_after}
    return msgspec.json.encode({**told, **own})


def _nano(nats: float) -> int:
    return round(nats * NANO)
