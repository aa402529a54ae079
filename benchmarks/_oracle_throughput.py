"""Predicted and measured time of scoring one peer, from a million to seven billion parameters.

t ≥ max(2·N·T / (MFU·peak), bytes of the parameters / bandwidth)
"""

from dataclasses import dataclass

import torch
from _oracle_cases import Case, a_checkpoint, a_payload, some_windows
from _oracle_tools import Stage, human
from _oracle_validators import Ours
from sparseloco.model import GPTShape

MFU = 0.5
"""Share of the matrix unit's own speed that a plain model is expected to reach."""
TABLE = "Throughput: one forward pass of T tokens and everything around it, per peer"
WINDOW_S = 10.0
"""The demo's time for judging: from the last upload to the last score."""

SHAPES = (
    GPTShape(width=128, layers=5, heads=2, context=1024), GPTShape(width=320, layers=8, heads=5, context=1024),
    GPTShape(width=1024, layers=10, heads=16, context=1024), GPTShape(width=1024, layers=28, heads=16, context=1024),
    GPTShape(width=2048, layers=20, heads=16, context=1024), GPTShape(width=3072, layers=27, heads=24, context=1024),
    GPTShape(width=4096, layers=34, heads=32, context=1024),
)  # fmt: skip
BATCH = {"cpu": 2, "cuda": 16}


@dataclass(frozen=True)
class Ceilings:
    """What the device does at most, measured."""

    flops: float  # per second
    bandwidth: float  # bytes per second, read plus written


def throughput(stage: Stage, memory_bytes: int) -> None:
    """The table; what cannot be measured here is predicted only."""
    ceilings = _measured_ceilings(stage)
    print(f"\nceilings: {ceilings.flops / 1e12:.4g} TFLOP/s, {ceilings.bandwidth / 1e12:.4g} TB/s", flush=True)
    lasted_s = 0.0
    for shape in SHAPES:
        numel, tokens = shape.spec().numel, BATCH["cuda" if stage.is_cuda else "cpu"] * shape.context
        size = 2 if stage.is_cuda else 4
        predicted = max(2 * numel * tokens / (MFU * ceilings.flops), size * numel / ceilings.bandwidth)
        row: dict[str, float | int | str] = {
            "parameters": human(numel), "T": tokens, "predicted, ms": 1e3 * predicted, "measured, ms": "",
            "MFU": "", "peak MB": "", "payload MB": "", f"peers in {WINDOW_S:.0f} s": int(WINDOW_S / predicted),
        }  # fmt: skip
        fits = numel * (10 if stage.is_cuda else 12) < memory_bytes and stage.left_s > 10 + 4 * lasted_s
        if fits:
            before = stage.left_s
            row |= _measured(stage, shape, ceilings)
            lasted_s = before - stage.left_s
        stage.add(TABLE, row)


def _measured(stage: Stage, shape: GPTShape, ceilings: Ceilings) -> dict[str, float | int | str]:
    case = Case(shape, BATCH["cuda" if stage.is_cuda else "cpu"], 1, 12 if stage.is_cuda else 4)
    spec = shape.spec()
    stage.fresh_memory()
    payloads = [a_payload(spec, seed) for seed in range(2)]
    ours = Ours(stage, a_checkpoint(spec, stage.device), case, spec)
    windows = some_windows(case, stage.device)
    ours.pure(windows)  # captures the graph
    seconds = stage.timed(lambda: ours.score(payloads, windows), repeats=3) / case.peers
    return {
        "measured, ms": 1e3 * seconds, "MFU": 2 * spec.numel * case.tokens / seconds / ceilings.flops,
        "peak MB": stage.memory_mb(), "payload MB": len(payloads[0]) / 1e6,
        f"peers in {WINDOW_S:.0f} s": int(WINDOW_S / seconds),
    }  # fmt: skip


def _measured_ceilings(stage: Stage) -> Ceilings:
    side, kind = (8192, torch.bfloat16) if stage.is_cuda else (1024, torch.float32)
    a, b = (torch.randn(side, side, device=stage.device).to(kind) for _ in range(2))
    product_s = stage.timed(lambda: torch.mm(a, b), repeats=9, warm_ups=3)
    many = torch.randn((1 << 28) if stage.is_cuda else (1 << 24), device=stage.device)
    place = torch.empty_like(many)
    copy_s = stage.timed(lambda: place.copy_(many), repeats=9, warm_ups=3)
    return Ceilings(2 * side**3 / product_s, 8 * many.numel() / copy_s)
