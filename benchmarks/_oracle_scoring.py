"""The cost of scoring a peer beside that of the forward passes alone, and beside a validator that does it plainly."""

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np
import torch
from _oracle_codec import BINDING, LIMITS
from _oracle_tools import Row, Stage, human
from l402_oracle.measure import Measurer, Stopping, clipped
from l402_oracle.resident import resident
from sparseloco import wire
from sparseloco.codec import compress
from sparseloco.data import hidden_shards, load_corpus, train_batches, train_shard
from sparseloco.defaults import TOP_K
from sparseloco.device import DeviceUpdate, unpack_on
from sparseloco.layout import layout_of
from sparseloco.model import ByteGPT, GPTShape, init_parameters, sequence_losses
from sparseloco.sparse import Quantiser, Sparse, Update, expand
from sparseloco.spec import ModelSpec
from sparseloco.train import AdamState, inner_steps
from torch import Tensor

PEERS = 4
"""Peers in one timed sequence, so that unpacking the next one has something to hide behind."""
COST = "Scoring: one peer over the forward passes of the same tokens"
NAIVE = "Scoring: peers per hour beside a naive validator"


@dataclass(frozen=True)
class Case:
    """A model and the tokens that each peer is scored on."""

    shape: GPTShape
    batch: int
    batches: int

    @property
    def tokens(self) -> int:
        """Tokens predicted per peer."""
        return self.batch * self.shape.context * self.batches


CASES = {
    "cpu": (
        Case(GPTShape(), 16, 32),
        Case(GPTShape(width=1024, layers=10, heads=16), 2, 2),
    ),
    "cuda": (
        Case(GPTShape(), 16, 32),
        Case(GPTShape(width=1024, layers=10, heads=16, context=1024), 16, 1),
        Case(GPTShape(width=2048, layers=20, heads=16, context=1024), 16, 1),
    ),
}


def scoring(stage: Stage) -> None:
    """Each case, while time lasts."""
    for case in CASES["cuda" if stage.is_cuda else "cpu"]:
        if stage.left_s < 20:
            print("(the time is up)", flush=True)
            return
        _one_case(stage, case)


def _one_case(stage: Stage, case: Case) -> None:
    spec = case.shape.spec()
    theta, windows = a_checkpoint(spec, stage.device), some_windows(case, stage.device)
    payloads = [a_payload(spec, seed) for seed in range(PEERS)]
    stage.fresh_memory()
    ours = Ours(stage, theta, case, spec)
    bits = ours.parameters_hash()
    jobs: dict[str, Callable[[], object]] = {
        "pure": lambda: ours.pure(windows), "ours": lambda: ours.score(payloads, windows),
    }  # fmt: skip
    taken = _interleaved(stage, jobs, budget_s=min(60.0, stage.left_s / 3))
    memory = stage.memory_mb()
    apply_s = _seconds(stage, lambda: ours.apply_and_undo(payloads[0]))
    unpack_s = _seconds(stage, lambda: ours.unpacked(payloads[0]))
    if ours.parameters_hash() != bits:
        raise SystemExit("the checkpoint was not restored to the bit")
    ratios = [b / a for a, b in zip(taken["pure"], taken["ours"], strict=True)]
    row: Row = {
        "parameters": human(spec.numel), "tokens": case.tokens, "forward passes, ms": 1e3 * median(taken["pure"]) / PEERS,
        "a peer, ms": 1e3 * median(taken["ours"]) / PEERS, "ratio": median(ratios), "best": min(ratios),
        "worst": max(ratios), "apply and undo, ms": 1e3 * apply_s, "unpack (hidden), ms": 1e3 * unpack_s,
        "repeats": len(ratios), "peak MB": memory, "payload MB": len(payloads[0]) / 1e6,
    }  # fmt: skip
    stage.add(COST, row)
    _beside_naive(stage, case, theta, windows, payloads, ours)


def _beside_naive(
    stage: Stage, case: Case, theta: Tensor, windows: list[Tensor], payloads: list[bytes], ours: "Ours"
) -> None:
    naive = Naive(stage, theta, case)
    jobs: dict[str, Callable[[], object]] = {
        "naive": lambda: naive.score(payloads[0], windows),
        "ours": lambda: ours.score(payloads, windows),
        "one plain forward": lambda: naive.forward(windows),
        "dense apply and restore": lambda: naive.dense_apply_and_restore(payloads[0]),
        "sparse apply and undo": lambda: ours.apply_and_undo(payloads[0]),
    }
    taken = {name: median(each) for name, each in _interleaved(stage, jobs, min(60.0, stage.left_s / 3)).items()}
    ours_s, naive_s, forward_s = taken["ours"] / PEERS, taken["naive"], taken["one plain forward"]
    row: Row = {
        "parameters": human(theta.numel()), "ours, peers per hour": round(3600 / ours_s),
        "naive, peers per hour": round(3600 / naive_s), "gain": naive_s / ours_s,
        "saved by the shared baseline, ms": 1e3 * forward_s, "by no third pass, ms": 1e3 * forward_s,
        "by applying in place, ms": 1e3 * (taken["dense apply and restore"] - taken["sparse apply and undo"]),
        "by the rest (graph, hidden unpacking), ms":
            1e3 * (naive_s - ours_s - 2 * forward_s - taken["dense apply and restore"] + taken["sparse apply and undo"]),
    }  # fmt: skip
    stage.add(NAIVE, row)


def agreement(stage: Stage) -> None:
    """An honest update's loss drop, as the worker measures it on this device and on a CPU in float32."""
    corpus, spec, theta = load_corpus(), GPTShape().spec(), init_parameters(1)
    state, nothing, shards = AdamState.fresh(spec.numel), torch.zeros(spec.numel), hidden_shards(load_corpus(), b"s", 8)
    for number in range(2):
        batches = train_batches(train_shard(corpus, b"peer"), b"peer", number, 15)
        sparse, _ = compress(inner_steps(theta, batches, state).delta, nothing, spec)
        update = expand(sparse, spec)
        whole = Stopping(len(shards))
        here, there = (
            Measurer(theta, corpus, device=device).measure(update, shards, whole) for device in ("cpu", stage.device)
        )
        apart = [a - b for a, b in zip(here.drops, there.drops, strict=True)]
        row: Row = {
            "round": number, "CPU, float32: drop": here.interval.mean, "± SE": here.interval.se,
            f"{stage.device}: drop": there.interval.mean, "difference of the means": abs(sum(apart)) / len(apart),
            "largest of one sequence": max(map(abs, apart)),
        }  # fmt: skip
        stage.add("Scoring: the same update on both devices, nats per token", row)
        theta = theta.index_add(0, torch.from_numpy(update.indices), torch.from_numpy(update.values), alpha=-1.0)


class Ours:
    """What the worker does: unpack the next payload aside, apply in place, forward passes, write back."""

    def __init__(self, stage: Stage, theta: Tensor, case: Case, spec: ModelSpec) -> None:
        self._stage, self._case, self._spec = stage, case, spec
        self._resident = resident(theta, case.shape, stage.device)
        self._aside = torch.cuda.Stream() if stage.is_cuda else None  # type: ignore[no-untyped-call]  # torch's

    def parameters_hash(self) -> str:
        """Of the bytes that are computed with."""
        return hashlib.sha256(self._resident.in_use.view(torch.uint8).numpy().tobytes()).hexdigest()

    def pure(self, windows: list[Tensor]) -> list[float]:
        """The forward passes of PEERS peers, and nothing else."""
        return [loss for _ in range(PEERS) for loss in self._forward(windows)]

    def score(self, payloads: list[bytes], windows: list[Tensor]) -> list[float]:
        """Every peer from its bytes to its losses."""
        losses = []
        with ThreadPoolExecutor(1) as aside:
            coming = aside.submit(self.unpacked, payloads[0])
            for number in range(len(payloads)):
                update = coming.result()
                if number + 1 < len(payloads):
                    coming = aside.submit(self.unpacked, payloads[number + 1])
                with self._resident.applied(update):
                    losses += self._forward(windows)
        return losses

    def unpacked(self, payload: bytes) -> Update | DeviceUpdate:
        """Checked, and clipped to the round's medians."""
        medians = [1e-2] * len(self._spec.tensors)
        if not self._stage.is_cuda:
            return clipped(expand(wire.unpack(payload, self._spec, BINDING, LIMITS).sparse, self._spec), medians)
        with torch.cuda.stream(self._aside):
            return clipped(unpack_on(self._stage.device, payload, self._spec, BINDING, LIMITS), medians)

    def apply_and_undo(self, payload: bytes) -> None:
        """Without a forward pass between."""
        if not hasattr(self, "_ready"):
            self._ready = self.unpacked(payload)
        with self._resident.applied(self._ready), nullcontext():
            pass

    def _forward(self, windows: list[Tensor]) -> list[float]:
        found: list[float] = torch.cat([self._resident.losses(batch) for batch in windows]).tolist()
        return found


class Naive:
    """A plain validator: a dense update, a saved copy of the whole model, three forward passes, nothing shared."""

    def __init__(self, stage: Stage, theta: Tensor, case: Case) -> None:
        kind = torch.bfloat16 if stage.is_cuda else torch.float32
        self._device, self._spec = stage.device, case.shape.spec()
        self._model = ByteGPT(theta.to(kind, copy=True), case.shape).requires_grad_(requires_grad=False)
        self._flat = self._model.flat.data

    def score(self, payload: bytes, windows: list[Tensor]) -> tuple[list[float], list[float], list[float]]:
        """Losses before and after on the hidden tokens, and after on as many of the peer's own."""
        before = self.forward(windows)
        saved = self._applied(payload)
        after, own = self.forward(windows), self.forward(windows)
        self._flat.copy_(saved)
        return before, after, own

    def dense_apply_and_restore(self, payload: bytes) -> None:
        """What surrounds its forward passes, unpacking included."""
        self._flat.copy_(self._applied(payload))

    def forward(self, windows: list[Tensor]) -> list[float]:
        """One pass over the tokens, batch after batch."""
        with torch.no_grad():
            return [loss for batch in windows for loss in sequence_losses(self._model, batch).tolist()]

    def _applied(self, payload: bytes) -> Tensor:
        update = expand(wire.unpack(payload, self._spec, BINDING, LIMITS).sparse, self._spec)
        dense = torch.zeros(self._spec.numel, device=self._device)
        dense[torch.from_numpy(update.indices).to(self._device)] = torch.from_numpy(update.values).to(self._device)
        saved = self._flat.clone()
        self._flat.sub_(dense)
        return saved


def a_checkpoint(spec: ModelSpec, device: str) -> Tensor:
    """Random parameters of an ordinary size, (numel,) float32."""
    torch.manual_seed(2)
    theta = torch.randn(spec.numel, device=device).mul_(0.02)
    for part, (_, dims) in zip(torch.split(theta, list(spec.sizes)), spec.tensors, strict=True):
        if len(dims) == 1:
            part.fill_(1.0)
    return theta


def a_payload(spec: ModelSpec, seed: int) -> bytes:
    """k entries of every chunk, evenly spread, with random codes: the bytes that a peer of this model would send."""
    rng, layout = np.random.default_rng(seed), layout_of(spec)
    kept = layout.kept(TOP_K)
    positions = np.concatenate(list(_positions(rng, layout.size, kept)))
    tables = np.tile(np.array([1e-4, 3e-4, -1e-4, -3e-4], dtype=np.float32), (len(spec.tensors), 1))
    codes = rng.integers(0, 4, len(positions), dtype=np.uint8)
    return wire.pack(Sparse(TOP_K, Quantiser.SIGN_TWO, positions, codes, tables), spec, BINDING)


def _positions(
    rng: np.random.Generator,
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]],
    kept: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> Iterator[np.ndarray[tuple[int], np.dtype[np.uint16]]]:
    edges = np.flatnonzero(np.diff(sizes, prepend=-1, append=-1))
    for start, end in pairwise(edges):
        count, step = int(kept[start]), int(sizes[start]) // int(kept[start])
        drawn = rng.integers(0, step, (end - start, count), dtype=np.uint16)
        yield (drawn + np.arange(count, dtype=np.uint16) * np.uint16(step)).reshape(-1)


def some_windows(case: Case, device: str) -> list[Tensor]:  # of (batch, context + 1) int64
    """Random bytes: what a forward pass costs does not depend on them."""
    generator = torch.Generator().manual_seed(3)
    shape = (case.batch, case.shape.context + 1)
    return [torch.randint(0, 256, shape, generator=generator).to(device) for _ in range(case.batches)]


def _interleaved(stage: Stage, jobs: dict[str, Callable[[], object]], budget_s: float) -> dict[str, list[float]]:
    """Wall seconds of each job, taken in turns while the budget lasts: at least three times, at most 25."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    until = time.monotonic() + budget_s
    while len(taken[next(iter(jobs))]) < 25 and (time.monotonic() < until or len(taken[next(iter(jobs))]) < 3):
        for name, job in jobs.items():
            taken[name].append(_once(stage, job))
    return taken


def _seconds(stage: Stage, job: Callable[[], object]) -> float:
    job()
    return median(_once(stage, job) for _ in range(7))


def _once(stage: Stage, job: Callable[[], object]) -> float:
    stage.sync()
    started = time.perf_counter()
    job()
    stage.sync()
    return time.perf_counter() - started
