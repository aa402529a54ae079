"""The cost of scoring a peer beside that of the forward passes alone, and beside a validator that does it plainly."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from _oracle_cases import Case, a_checkpoint, a_payload, some_windows
from _oracle_tools import Row, Stage, human
from _oracle_validators import Naive, Ours
from sparseloco.model import GPTShape
from torch import Tensor

PAYLOADS = 4
COST = "Scoring: one peer over the forward passes of the same tokens"
NAIVE = "Scoring: peers per hour beside a naive validator"


@dataclass(frozen=True)
class Taken:
    """One run of a job: on the clock, and of this process's processors, where what others run counts less."""

    wall_s: float
    processor_s: float


CASES = {
    "cpu": (
        Case(GPTShape(), 16, 8),
        Case(GPTShape(width=1024, layers=10, heads=16), 4, 2),
    ),
    "cuda": (
        Case(GPTShape(), 16, 32, 70),
        Case(GPTShape(width=1024, layers=10, heads=16, context=1024), 16, 4, 70),
        Case(GPTShape(width=2048, layers=20, heads=16, context=1024), 16, 4, 24),
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
    payloads = [a_payload(spec, seed) for seed in range(PAYLOADS)]
    stage.fresh_memory()
    ours = Ours(stage, theta, case, spec)
    bits = ours.parameters_hash()
    jobs: dict[str, Callable[[], object]] = {
        "pure": lambda: ours.pure(windows), "ours": lambda: ours.score(payloads, windows),
        "ready": lambda: ours.score_ready(windows),
    }  # fmt: skip
    taken = _interleaved(stage, jobs, budget_s=min(150.0, stage.left_s / 4))
    memory = stage.memory_mb()
    apply_s = _seconds(stage, lambda: ours.apply_and_undo(payloads[0]))
    unpack_s = _seconds(stage, lambda: ours.unpacked(payloads[0]))
    for name in ("pure", "ours"):
        stage.profile(f"{name}, {human(spec.numel)}, {case.peers} peers", jobs[name])
    stage.profile(f"unpack, {human(spec.numel)}", lambda: ours.unpacked(payloads[0]))
    if ours.parameters_hash() != bits:
        raise SystemExit("the checkpoint was not restored to the bit")
    row: Row = {
        "parameters": human(spec.numel), "tokens": case.tokens, "peers": case.peers, **_ratios(stage, case, taken),
        "apply and undo, ms": 1e3 * apply_s, "unpack (hidden), ms": 1e3 * unpack_s,
        "peak MB": memory, "payload MB": len(payloads[0]) / 1e6,
    }  # fmt: skip
    stage.add(COST, row)
    _beside_naive(stage, case, theta, windows, payloads, ours)


def _ratios(stage: Stage, case: Case, taken: dict[str, list[Taken]]) -> Row:
    """Each repeat beside the forward passes that came just before it."""
    pure = taken["pure"]
    ratios = [run.wall_s / bare.wall_s for run, bare in zip(taken["ours"], pure, strict=True)]
    busy = [run.processor_s / bare.processor_s for run, bare in zip(taken["ours"], pure, strict=True)]
    ready = [run.wall_s / bare.wall_s for run, bare in zip(taken["ready"], pure, strict=True)]
    return {
        "forward passes, ms": 1e3 * _median(pure) / case.peers,
        "a peer, ms": 1e3 * _median(taken["ours"]) / case.peers,
        "ratio": median(ratios), "best": min(ratios), "worst": max(ratios), "unpacked before": median(ready),
        "of processor time": "" if stage.is_cuda else median(busy), "repeats": len(ratios),
    }  # fmt: skip


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
    runs = _interleaved(stage, jobs, min(150.0, stage.left_s / 4))
    # on processors that others use, the clock tells more of them than of us
    taken = {
        name: _median(each) if stage.is_cuda else median(run.processor_s for run in each) for name, each in runs.items()
    }
    ours_s, naive_s, forward_s = taken["ours"] / case.peers, taken["naive"], taken["one plain forward"]
    row: Row = {
        "parameters": human(theta.numel()), "seconds of": "the clock" if stage.is_cuda else "processor time",
        "ours, peers per hour": round(3600 / ours_s), "naive, peers per hour": round(3600 / naive_s),
        "gain": naive_s / ours_s,
        "saved by the shared baseline, ms": 1e3 * forward_s, "by no third pass, ms": 1e3 * forward_s,
        "by applying in place, ms": 1e3 * (taken["dense apply and restore"] - taken["sparse apply and undo"]),
        "by the rest (graph, hidden unpacking), ms":
            1e3 * (naive_s - ours_s - 2 * forward_s - taken["dense apply and restore"] + taken["sparse apply and undo"]),
    }  # fmt: skip
    stage.add(NAIVE, row)


def _interleaved(stage: Stage, jobs: dict[str, Callable[[], object]], budget_s: float) -> dict[str, list[Taken]]:
    """Each job in turns while the budget lasts: at least three times, at most 25."""
    taken: dict[str, list[Taken]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    until = time.monotonic() + budget_s
    while len(taken[next(iter(jobs))]) < 25 and (time.monotonic() < until or len(taken[next(iter(jobs))]) < 3):
        for name, job in jobs.items():
            taken[name].append(_once(stage, job))
    return taken


def _median(runs: list[Taken]) -> float:
    return median(run.wall_s for run in runs)


def _seconds(stage: Stage, job: Callable[[], object]) -> float:
    job()
    return _median([_once(stage, job) for _ in range(7)])


def _once(stage: Stage, job: Callable[[], object]) -> Taken:
    stage.sync()
    wall, processor = time.perf_counter(), time.process_time()
    job()
    stage.sync()
    return Taken(time.perf_counter() - wall, time.process_time() - processor)
