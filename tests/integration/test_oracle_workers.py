"""A pool of workers on a real bus: whoever measures, the same comes out; whoever dies costs its job's time and no more."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from l402_oracle.worker.app import CONSUMERS, GIVEN_UP, Worker
from l402_oracle.worker.bench import TorchBench
from l402_oracle.worker.wiring import register
from l402core.bus import Bus, migrate
from l402core.delivering import Consumer
from l402core.documents import ObjectRef
from l402core.events import GradientMeasure, GradientMeasured
from l402core.sealing import UnsealingKey, seal_payload
from sparseloco.codec import compress
from sparseloco.data import hidden_shards, load_corpus
from sparseloco.model import GPTShape, checkpoint_bytes, init_parameters, sha256_of
from sparseloco.wire import Binding, pack

from tests.support.nats import running_nats
from tests.support.oracle import ANSWERS, Shelf, sha

SHAPE = GPTShape(width=32, layers=1, heads=2)
SPEC = SHAPE.spec()
READING = UnsealingKey(bytes([8]) * 32)
BASE = checkpoint_bytes(init_parameters(3, SHAPE), SPEC, 1)
NAMES = tuple(f"peer {number}" for number in range(6))
SHARDS = hidden_shards(load_corpus(), b"seed", 8)
PATIENCE_S = 90.0
TRIES = 2
MINE = tuple(
    msgspec.structs.replace(one, ack_wait_s=2, tries=TRIES) for one in CONSUMERS if one.event is GradientMeasure
)
EARS = Consumer("tester", GradientMeasured)
VICTIM = """
import asyncio, os, sys
from l402core.bus import Bus
from tests.integration.test_oracle_workers import MINE

async def main():
    bus = Bus(sys.argv[1], "worker")
    async def take(event):
        print(event.commitment, flush=True)
        if sys.argv[2] == "die":
            os._exit(1)
        await asyncio.sleep(3600)
    bus.consume(MINE[0], take)
    await bus.start()
    await asyncio.sleep(3600)

asyncio.run(main())
"""
"""A worker that takes a job and never answers: hangs until it is killed, or dies of it."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server with the workers' queue."""
    with running_nats(tmp_path / "nats") as address:
        asyncio.run(migrate(address, (*MINE, EARS)))
        yield address


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    """The checkpoint and everybody's sealed payload."""
    shelf = Shelf()
    shelf.keep(BASE)
    return shelf


def jobs(shelf: Shelf) -> list[GradientMeasure]:
    """One for each peer, of updates that differ."""
    base = ObjectRef(uri="", sha256=sha256_of(BASE).hex(), size=len(BASE))
    return [
        GradientMeasure(
            id="s", occurred_at_ms=0, round=1, commitment=sha(name), peer=sha(name), checkpoint=base,
            model_id=SPEC.model_id.hex(), payload=shelf.keep(_payload(name)), clip_norms=(10.0,) * len(SPEC.tensors),
            shards=SHARDS, eval_tokens=16_384, outer_rate_ppm=1_000_000,
        )
        for name in NAMES
    ]  # fmt: skip


def _payload(name: str) -> bytes:
    generator = torch.Generator().manual_seed(int(sha(name)[:8], 16))
    delta = torch.randn(SPEC.numel, generator=generator) * 1e-3
    sparse, _ = compress(delta, torch.zeros(SPEC.numel), SPEC)
    binding = Binding(1, sha256_of(BASE), bytes.fromhex(sha(name)), 64)
    return seal_payload(pack(sparse, SPEC, binding), READING.public, bytes([9]) * 32)


class Pool:
    """So many workers, each with a model and a connection of its own, and an ear for their answers."""

    def __init__(self, url: str, shelf: Shelf, workers: int) -> None:
        self.answers: dict[str, list[GradientMeasured]] = {}
        self.by: dict[int, int] = dict.fromkeys(range(workers), 0)
        self._buses = [Bus(url, "worker") for _ in range(workers)]
        self._benches = [TorchBench(shape=SHAPE, corpus=load_corpus(), chunk_k=64) for _ in range(workers)]
        for bus, bench in zip(self._buses, self._benches, strict=True):
            worker = Worker(
                bench=bench, objects=shelf, bus=bus, key=READING, answers_to=lambda: ANSWERS.public,
                payload_max_bytes=1 << 20,
            )  # fmt: skip
            register(bus, worker, MINE)
        self._ear = Bus(url, "tester")
        self._ear.consume(EARS, self._hear)

    async def __aenter__(self) -> "Pool":
        for bus in (*self._buses, self._ear):
            await bus.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for bus in (*self._buses, self._ear):
            await bus.stop()
        for bench in self._benches:
            bench.close()

    async def _hear(self, event: GradientMeasured) -> None:
        self.answers.setdefault(event.commitment, []).append(event)

    async def ask(self, requests: list[GradientMeasure]) -> None:
        """Put the jobs into the queue."""
        for request in requests:
            await self._ear.publish(request)

    async def all_of_it(self, commitments: tuple[str, ...]) -> dict[str, tuple[object, ...]]:
        """What was measured of each, once everything is answered; the same twice is harmless, two things are not."""
        ends_at = time.monotonic() + PATIENCE_S
        while not set(commitments) <= set(self.answers):
            assert time.monotonic() < ends_at, f"answered: {sorted(self.answers)}"
            await asyncio.sleep(0.05)
        seen = {commitment: {_measured(one) for one in said} for commitment, said in self.answers.items()}
        assert all(len(each) == 1 for each in seen.values())
        return {commitment: each.pop() for commitment, each in seen.items()}


def _measured(event: GradientMeasured) -> tuple[object, ...]:
    losses = event.losses.sha256 if event.losses else ""
    return (event.drop_mean, event.drop_low, event.drop_high, event.tokens, losses, event.failure)


async def test_one_two_and_four_workers_measure_the_same(tmp_path: Path, shelf: Shelf) -> None:
    """Every loss of every payload, to the bit, whoever of the pool was asked."""
    found = []
    for workers in (1, 2, 4):
        with running_nats(tmp_path / f"nats-{workers}") as url:
            await migrate(url, (*MINE, EARS))
            async with Pool(url, shelf, workers) as pool:
                await pool.ask(jobs(shelf))
                found.append(await pool.all_of_it(tuple(sha(name) for name in NAMES)))
    assert found[0] == found[1] == found[2]
    assert len({measured[4] for measured in found[0].values()}) == len(NAMES)  # they are not all alike


async def test_a_worker_killed_in_mid_score_costs_its_job_only(url: str, shelf: Shelf) -> None:
    """It takes a job and is killed with it: the others' jobs are done meanwhile, and its own by whoever is left."""
    victim = _victim(url, "hang")
    try:
        async with Pool(url, shelf, 0) as starting:
            await starting.ask(jobs(shelf)[:1])
        taken = await asyncio.to_thread(_line, victim)
        victim.kill()  # SIGKILL: no word to the bus
        async with Pool(url, shelf, 1) as pool:
            await pool.ask(jobs(shelf)[1:])
            found = await pool.all_of_it(tuple(sha(name) for name in NAMES))
    finally:
        victim.kill()
        victim.wait()
    assert taken == sha(NAMES[0])
    assert [measured[5] for measured in found.values()] == [""] * len(NAMES)


async def test_a_payload_that_ends_its_workers_is_answered_unmeasured(url: str, shelf: Shelf) -> None:
    """After so many deaths it is opened by nobody: a failure of ours, so it is paid nothing, and the rest is measured."""
    async with Pool(url, shelf, 0) as asking:
        await asking.ask(jobs(shelf)[:1])
    for _ in range(TRIES):
        victim = _victim(url, "die")
        assert await asyncio.to_thread(_line, victim) == sha(NAMES[0])
        assert await asyncio.to_thread(victim.wait) == 1
    async with Pool(url, shelf, 1) as pool:
        await pool.ask(jobs(shelf)[1:])
        found = await pool.all_of_it(tuple(sha(name) for name in NAMES))
    assert found[sha(NAMES[0])] == (0, 0, 0, 0, "", f"isolated: {GIVEN_UP}")
    assert [found[sha(name)][5] for name in NAMES[1:]] == [""] * (len(NAMES) - 1)


def _victim(url: str, manner: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", VICTIM, url, manner]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def _line(process: subprocess.Popen[str]) -> str:
    """The commitment that it took."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
