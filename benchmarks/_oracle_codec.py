"""The codec's speed: each stage of packing and unpacking, from a million parameters to what fits."""

import hashlib
from statistics import median

import torch
from _oracle_tools import Row, Stage, human
from sparseloco import wire
from sparseloco.codec import compress, decode, put, select
from sparseloco.defaults import TOP_K
from sparseloco.device import unpack_on
from sparseloco.layout import kept_per_tensor
from sparseloco.quantise import quantise
from sparseloco.sparse import Quantiser, expand
from sparseloco.spec import ModelSpec

SIZES = (1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28, 1 << 30)
BYTES_EACH = {"cpu": 14, "cuda": 20}
"""Memory per parameter that one size needs here: two dense vectors, and what is of the entries' size."""
BINDING = wire.Binding(1, hashlib.sha256(b"checkpoint").digest(), hashlib.sha256(b"peer").digest(), TOP_K)
LIMITS = wire.Limits(max_bytes=1 << 32, max_entries=1 << 30)
TABLE = "Codec, GB of float32 parameters per second"
SHARE = "Codec, where the time goes, ns per parameter"


def codec(stage: Stage, memory_bytes: int) -> None:
    """The curve, while time and memory last."""
    seen_s = 0.0
    for numel in SIZES:
        if numel * BYTES_EACH["cuda" if stage.is_cuda else "cpu"] > memory_bytes or stage.left_s < 5 * seen_s + 1:
            print(f"(no {human(numel)}: it does not fit the memory or the time)", flush=True)
            return
        before = stage.left_s
        _one_size(stage, numel)
        seen_s = before - stage.left_s


def spec_of(numel: int) -> ModelSpec:
    """Matrices of at most 16 M elements."""
    height = min(numel // 4096, 4096)
    return ModelSpec("benchmark", tuple((f"m{i}", (height, 4096)) for i in range(numel // (height * 4096))))


def _one_size(stage: Stage, numel: int) -> None:
    spec, repeats = spec_of(numel), 7 if numel <= 1 << 24 else 3
    torch.manual_seed(1)
    delta = torch.randn(numel, device=stage.device).mul_(1e-3)
    feedback = torch.randn(numel, device=stage.device).mul_(1e-3)
    stage.fresh_memory()
    shares = _stages(stage, delta, feedback, spec, repeats)
    # the feedback is decayed and filled again each time, so every repeat has work of the same kind
    wholes = stage.times(lambda: compress(delta, feedback, spec, into=feedback), repeats=repeats)
    whole_s = median(wholes)
    sparse, _ = compress(delta, feedback, spec, into=feedback)
    bits_s = stage.timed(lambda: wire.pack(sparse, spec, BINDING), repeats=repeats)
    data = wire.pack(sparse, spec, BINDING)
    memory = stage.memory_mb()
    if stage.is_cuda:
        unpack_s = stage.timed(lambda: unpack_on(stage.device, data, spec, BINDING, LIMITS), repeats=repeats)
    else:
        unpack_s = stage.timed(lambda: expand(wire.unpack(data, spec, BINDING, LIMITS).sparse, spec), repeats=repeats)
    gigabytes = 4 * numel / 1e9
    packed = len(data) - wire.HEADER.size - 16 * len(spec.tensors)
    row: Row = {
        "parameters": human(numel), "pack": gigabytes / (whole_s + bits_s),
        "pack, best": gigabytes / (min(wholes) + bits_s), "unpack": gigabytes / unpack_s,
        "payload bytes": len(data), "ratio of the entries": 4 * numel / packed, "peak MB": memory,
    }  # fmt: skip
    stage.add(TABLE, row)
    per = 1e9 / numel
    stage.add(
        SHARE,
        {"parameters": human(numel), **{name: taken * per for name, taken in shares.items()}, "bits": bits_s * per,
         "whole pack": (whole_s + bits_s) * per, "whole unpack": unpack_s * per},
    )  # fmt: skip


def _stages(
    stage: Stage, delta: torch.Tensor, feedback: torch.Tensor, spec: ModelSpec, repeats: int
) -> dict[str, float]:
    counts = kept_per_tensor(spec, TOP_K)
    select_s = stage.timed(lambda: select(delta, feedback, 0.95, spec, TOP_K, into=feedback), repeats=repeats)
    kept = select(delta, feedback, 0.95, spec, TOP_K, into=feedback)
    quantise_s = stage.timed(lambda: quantise(kept.values, counts, Quantiser.SIGN_TWO), repeats=repeats)
    codes, tables = quantise(kept.values, counts, Quantiser.SIGN_TWO)

    def keep() -> None:
        put(feedback, kept.indices, kept.values - decode(codes, tables, counts))

    keep_s = stage.timed(keep, repeats=repeats)
    return {"add the feedback and select": select_s, "quantise": quantise_s, "keep the rest": keep_s}
