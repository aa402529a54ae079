"""The worker's bench on every device there is: the same judgement within a rounding, the same refusals, any order."""

import asyncio
from collections.abc import Iterator

import pytest
import torch
from l402_oracle.worker.bench import TorchBench, usable_device
from l402_oracle.worker.results import Measurement, Opened
from l402core.documents import ObjectRef
from l402core.errors import PeerError
from l402core.events import GradientMeasure
from sparseloco.codec import compress
from sparseloco.corpus import load_corpus, train_shard
from sparseloco.data import train_batches
from sparseloco.model import GPTShape, checkpoint_bytes, init_parameters, sha256_of
from sparseloco.train import AdamState, inner_steps
from sparseloco.wire import Binding, pack

SHAPE = GPTShape(width=64, layers=2, heads=2)
SPEC = SHAPE.spec()
THETA = init_parameters(3, SHAPE)
CHECKPOINT = checkpoint_bytes(THETA, SPEC, 1)
BASE = sha256_of(CHECKPOINT).hex()
REF = ObjectRef(uri="file:///x", sha256=BASE, size=1)
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)]


def opened(peer: str, *, seed: int = 0, cut: int = 0) -> Opened:
    """A payload of a few real inner steps."""
    shard = train_shard(load_corpus(), peer.encode())
    batches = train_batches(shard, bytes([seed]), 1, 5)
    delta = inner_steps(THETA, batches, AdamState.fresh(SPEC.numel), shape=SHAPE).delta
    sparse = compress(delta, torch.zeros(SPEC.numel), SPEC)[0]
    data = pack(sparse, SPEC, Binding(1, bytes.fromhex(BASE), bytes.fromhex(peer), sparse.k))
    return Opened(packed=data[: len(data) - cut], content_key="", round=1, checkpoint=BASE, peer=peer)


def request(peer: str) -> GradientMeasure:
    """The attestor's."""
    return GradientMeasure(
        id="s", occurred_at_ms=0, round=1, commitment=peer, peer=peer, checkpoint=REF, model_id=SPEC.model_id.hex(),
        payload=REF, clip_norms=(1e-2,) * len(SPEC.tensors), shards=(0, 3, 5, 7, 8, 9, 11, 12), eval_tokens=16_384,
        outer_rate_ppm=1_000_000,
    )  # fmt: skip


PEERS = [f"{number:064x}" for number in (1, 2, 3)]
WORKS = [opened(peer, seed=number) for number, peer in enumerate(PEERS)]


def a_bench(device: str) -> TorchBench:
    """One worker's."""
    return TorchBench(shape=SHAPE, corpus=load_corpus(), chunk_k=64, device=device)


@pytest.fixture(params=DEVICES)
def bench(request: pytest.FixtureRequest) -> Iterator[TorchBench]:
    """On each device."""
    made = a_bench(request.param)
    yield made
    made.close()


def test_together_or_one_after_the_other_is_the_same(bench: TorchBench) -> None:
    """What is unpacked while another one is measured changes no bit of either."""

    async def one_after_the_other() -> list[Measurement]:
        return [await bench.measure(work, CHECKPOINT, request(work.peer)) for work in WORKS]

    async def together() -> list[Measurement]:
        return list(await asyncio.gather(*(bench.measure(work, CHECKPOINT, request(work.peer)) for work in WORKS)))

    alone = asyncio.run(one_after_the_other())
    assert asyncio.run(together()) == alone
    assert all(seen.drop_low > 0 for seen in alone)


def test_devices_agree_within_half_a_thousandth_of_a_nat(bench: TorchBench) -> None:
    """What bfloat16 costs, seen at most 0.0004; and the measurement names the device's class."""
    host = a_bench("cpu")
    for work in WORKS:
        here = asyncio.run(bench.measure(work, CHECKPOINT, request(work.peer)))
        there = asyncio.run(host.measure(work, CHECKPOINT, request(work.peer)))
        assert here.drop_mean == pytest.approx(there.drop_mean, abs=500_000)
        assert here.sequences == there.sequences
        assert here.conditions.hardware.split()[0] in ("cpu", "cuda")
    host.close()


def test_what_is_malformed_is_refused_the_same(bench: TorchBench) -> None:
    """Cut short, or for another peer."""
    for work, code in ((opened(PEERS[0], cut=1), "malformed"), (WORKS[0], "wrong_peer")):
        other = work if code == "malformed" else Opened(
            packed=work.packed, content_key="", round=1, checkpoint=BASE, peer=PEERS[1]
        )  # fmt: skip
        with pytest.raises(PeerError) as refused:
            asyncio.run(bench.measure(other, CHECKPOINT, request(other.peer)))
        assert refused.value.code == code


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_the_cpu_measures() -> None:
    """Configured for one, a worker still works."""
    assert usable_device("cuda") == "cpu"
    assert usable_device("cpu") == "cpu"
