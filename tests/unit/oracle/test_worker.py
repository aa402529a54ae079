"""The worker: every malformed payload is answered with its reason, results repeat to the bit, and no job is eternal."""

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest
import torch
from l402_oracle.similarity import read_sketch
from l402_oracle.worker.app import Worker
from l402_oracle.worker.bench import TorchBench
from l402_oracle.worker.results import Built, Measurement, Opened, Screening
from l402core.documents import ObjectRef
from l402core.errors import Contradiction, PeerError, Unavailable
from l402core.events import (
    AggregateItem,
    CheckpointMeasure,
    CheckpointMeasured,
    Event,
    GradientMeasure,
    GradientMeasured,
    GradientScreened,
    GradientUploaded,
    RoundAggregate,
    RoundAggregated,
)
from l402core.sealing import UnsealingKey, open_payload, seal, seal_payload
from sparseloco.codec import compress
from sparseloco.data import hidden_shards, load_corpus, train_batches, train_shard
from sparseloco.model import GPTShape, checkpoint_bytes, init_parameters, load_checkpoint
from sparseloco.sparse import Sparse
from sparseloco.train import AdamState, inner_steps
from sparseloco.wire import HEADER, Binding, pack

from tests.support.oracle import ANSWERS, Shelf, a_ref, sha
from tests.support.secrets_scan import Needles

SHAPE = GPTShape(width=32, layers=1, heads=2)
SPEC = SHAPE.spec()
READING = UnsealingKey(bytes([8]) * 32)
PEER, CHECKPOINT, CONTENT = sha("peer"), sha("checkpoint"), bytes([9]) * 32
SHARDS = hidden_shards(load_corpus(), b"seed", 8)


class Said:
    """A bus that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def publish(self, event: Event) -> None:
        """As the bus does."""
        self.events.append(event)


class Bench:
    """A worker with its shelf and its bus."""

    def __init__(self) -> None:
        self.torch = TorchBench(shape=SHAPE, corpus=load_corpus(), chunk_k=64)
        self.shelf, self.said = Shelf(), Said()
        self.worker = self.with_bench(self.torch)

    def with_bench(self, bench: object) -> Worker:
        """A worker on another bench."""
        return Worker(
            bench=bench,  # type: ignore[arg-type]  # some are broken on purpose
            objects=self.shelf, bus=self.said, key=READING, answers_to=lambda: ANSWERS.public,
            payload_max_bytes=1 << 20, now_ms=lambda: 1, new_id=lambda: "id",
        )  # fmt: skip

    async def screen(self, sealed: bytes, **changes: object) -> GradientScreened:
        """The answer to an upload."""
        event = GradientUploaded(
            id="s", occurred_at_ms=0, round=1, commitment=sha("c"), peer=PEER, checkpoint=CHECKPOINT,
            model_id=self.torch.model_id, payload=self.shelf.keep(sealed),
        )  # fmt: skip
        await self.worker.gradient_uploaded(msgspec.structs.replace(event, **changes))
        answer = self.said.events[-1]
        assert isinstance(answer, GradientScreened)
        return answer

    def opened(self, data: bytes) -> Opened:
        """A payload as the worker hands it to its bench."""
        return Opened(packed=data, content_key=CONTENT.hex(), round=1, checkpoint=CHECKPOINT, peer=PEER)

    async def checkpoint(self) -> ObjectRef:
        """The first one, made by the worker."""
        await self.worker.round_aggregate(
            RoundAggregate(
                id="s", occurred_at_ms=0, round=0, checkpoint=None, model_id="", items=(), clip_norms=(),
                outer_rate_ppm=0, init_seed=3,
            )
        )  # fmt: skip
        answer = self.said.events[-1]
        assert isinstance(answer, RoundAggregated)
        return answer.checkpoint

    async def measure(self, payload: ObjectRef, checkpoint: ObjectRef, norms: tuple[float, ...]) -> GradientMeasured:
        """The answer to a measurement."""
        await self.worker.gradient_measure(a_job(self.torch.model_id, payload, checkpoint, norms))
        answer = self.said.events[-1]
        assert isinstance(answer, GradientMeasured)
        return answer


def a_job(model_id: str, payload: ObjectRef, checkpoint: ObjectRef, norms: tuple[float, ...]) -> GradientMeasure:
    """The attestor's request."""
    return GradientMeasure(
        id="s", occurred_at_ms=0, round=1, commitment=sha("c"), peer=PEER, checkpoint=checkpoint, model_id=model_id,
        payload=payload, clip_norms=norms, shards=SHARDS, eval_tokens=16_384, outer_rate_ppm=1_000_000,
    )  # fmt: skip


@pytest.fixture
def bench() -> Iterator[Bench]:
    """One worker."""
    made = Bench()
    yield made
    made.torch.close()


@pytest.fixture(scope="module")
def work() -> Sparse:
    """Ten real inner steps."""
    shard = train_shard(load_corpus(), b"peer")
    theta = init_parameters(3, SHAPE)
    result = inner_steps(theta, train_batches(shard, b"peer", 1, 10), AdamState.fresh(SPEC.numel), shape=SHAPE)
    return compress(result.delta, torch.zeros(SPEC.numel), SPEC)[0]


def packed(work: Sparse, *, round_: int = 1, checkpoint: str = CHECKPOINT, peer: str = PEER) -> bytes:
    """The payload's bytes."""
    return pack(work, SPEC, Binding(round_, bytes.fromhex(checkpoint), bytes.fromhex(peer), work.k))


def sealed(data: bytes) -> bytes:
    """Sealed to the reading key."""
    return seal_payload(data, READING.public, CONTENT)


def _with(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


MALFORMED: dict[str, tuple[str, Callable[[Sparse], bytes]]] = {
    "empty": ("unsealable", lambda _: b""),
    "noise": ("unsealable", lambda _: bytes(500)),
    "another reading key": ("unsealable", lambda w: seal_payload(packed(w), UnsealingKey(b"x" * 32).public, CONTENT)),
    "flipped after sealing": ("unsealable", lambda w: _with(sealed(packed(w)), 300, b"\xff\xff\xff\xff")),
    "a content key of 31 bytes": ("unsealable", lambda w: seal(bytes(31), READING.public) + sealed(packed(w))[79:]),
    "nothing inside": ("malformed", lambda _: sealed(b"")),
    "another magic": ("malformed", lambda w: sealed(_with(packed(w), 0, b"X"))),
    "another version": ("malformed", lambda w: sealed(_with(packed(w), 4, b"\x07"))),
    "another k": ("malformed", lambda w: sealed(_with(packed(w), 6, b"\x01\x00"))),
    "another round": ("wrong_round", lambda w: sealed(packed(w, round_=2))),
    "another model": ("wrong_model", lambda w: sealed(_with(packed(w), 12, b"\x00" * 32))),
    "a stale base": ("stale_checkpoint", lambda w: sealed(packed(w, checkpoint=sha("old")))),
    "another peer": ("wrong_peer", lambda w: sealed(packed(w, peer=sha("eve")))),
    "cut short": ("malformed", lambda w: sealed(packed(w)[:-1])),
    "one byte more": ("malformed", lambda w: sealed(packed(w) + b"\x00")),
    "a scale that is no number": (
        "malformed",
        lambda w: sealed(_with(packed(w), HEADER.size + 8, b"\x00\x00\xc0\x7f")),
    ),
    "an endless scale": ("malformed", lambda w: sealed(_with(packed(w), HEADER.size + 8, b"\x00\x00\x80\x7f"))),
    "indices that do not ascend": ("malformed", lambda w: sealed(packed(_swapped(w)))),
    "a length bomb": ("malformed", lambda w: sealed(packed(w) * 20)),
    "too large": ("too_large", lambda _: bytes((1 << 20) + 1)),
    "zero work": ("zero_update", lambda w: sealed(packed(_scaled(w, 0.0)))),
    "insane scale": ("malformed", lambda w: sealed(packed(_scaled(w, 17.0)))),
}


def _scaled(work: Sparse, magnitude: float) -> Sparse:
    tables = np.zeros_like(work.tables)
    size = max(magnitude, 2.0**-40)
    tables[:] = np.array([size, size, -size, -size], dtype=np.float32)
    return Sparse(work.k, work.quantiser, work.positions, work.codes, tables)


def _swapped(work: Sparse) -> Sparse:
    """The first two positions in the wrong order."""
    positions = work.positions.copy()
    positions[[0, 1]] = positions[[1, 0]]
    return Sparse(work.k, work.quantiser, positions, work.codes, work.tables)


@pytest.mark.parametrize("kind", MALFORMED)
async def test_every_malformation_is_answered_with_its_reason(bench: Bench, work: Sparse, kind: str) -> None:
    """A code for programs, a sentence for people; no norms, no sketch."""
    code, make = MALFORMED[kind]
    answer = await bench.screen(make(work))
    assert (answer.passed, answer.code) == (False, code)
    assert answer.detail.endswith(".")
    assert (answer.norms, answer.sketch) == ((), None)


async def test_an_honest_payload_passes_with_norms_sketch_and_content_key(bench: Bench, work: Sparse) -> None:
    """What the attestor needs to assess the round, and what opens the payload later."""
    payload = sealed(packed(work))
    answer = await bench.screen(payload)
    assert (answer.passed, answer.code, len(answer.norms)) == (True, "", len(SPEC.tensors))
    assert answer.sketch is not None
    assert len(read_sketch(ANSWERS.unseal(await bench.shelf.get(answer.sketch))).keys) > 0
    assert open_payload(payload, ANSWERS.unseal(bytes.fromhex(answer.sealed_key))) == packed(work)


async def test_what_a_worker_says_and_keeps_shows_a_payload_to_the_attestor_alone(bench: Bench, work: Sparse) -> None:
    """Neither key nor sketch, which is most of a small payload, can be read on the bus or in the store."""
    answer = await bench.screen(sealed(packed(work)))
    open_to_all = msgspec.json.encode(answer) + b"".join(bench.shelf.kept.values())
    sketched = (await bench.torch.screen(bench.opened(packed(work)))).sketch
    needles = Needles({"content key": CONTENT, "sketch": sketched[:64], "its keys": sketched[12:76]})
    assert needles.found_in(open_to_all) == set()
    with pytest.raises(PeerError):
        READING.unseal(bytes.fromhex(answer.sealed_key))


async def test_a_payload_for_another_model_is_not_even_opened(bench: Bench, work: Sparse) -> None:
    """The event names a model that this worker does not have."""
    answer = await bench.screen(sealed(packed(work)), model_id="00" * 32)
    assert (answer.passed, answer.code, answer.sealed_key) == (False, "wrong_model", "")


async def test_a_missing_object_is_tried_again(bench: Bench) -> None:
    """The store may answer later: no word about the peer."""
    with pytest.raises(Unavailable):
        await bench.screen(b"", payload=a_ref("nowhere"))
    assert bench.said.events == []


async def test_an_altered_object_is_our_fault(bench: Bench, work: Sparse, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store gave other bytes than were registered: unreadable, which is not the peer's doing."""

    async def altered(_ref: ObjectRef) -> bytes:
        raise Contradiction("object_altered", "other bytes")

    monkeypatch.setattr(bench.shelf, "get", altered)
    answer = await bench.screen(sealed(packed(work)))
    assert (answer.passed, answer.code) == (False, "unreadable")


class BrokenBench:
    """Every job breaks in a way that nobody foresaw."""

    model_id = ""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id

    async def screen(self, opened: Opened) -> Screening:
        """Breaks."""
        raise RuntimeError(f"torch says no to {len(opened.packed)} bytes")

    async def measure(self, opened: Opened, checkpoint: bytes, request: GradientMeasure) -> Measurement:
        """Breaks."""
        raise IndexError(opened.peer, len(checkpoint), request.round)

    async def step(self, checkpoint: bytes, payloads: list[Opened], request: RoundAggregate) -> Built:
        """Breaks."""
        raise ValueError(len(checkpoint), len(payloads), request.round)


async def test_what_breaks_the_worker_is_answered_not_retried(bench: Bench, work: Sparse) -> None:
    """Screening and measuring answer; a failed outer step does not hide."""
    bench.worker = bench.with_bench(BrokenBench(bench.torch.model_id))
    screened = await bench.screen(sealed(packed(work)))
    assert (screened.passed, screened.code) == (False, "unreadable")
    checkpoint, payload = bench.shelf.keep(b"c"), bench.shelf.keep(sealed(packed(work)))
    measured = await bench.measure(payload, checkpoint, ())
    assert measured.failure == "unreadable: IndexError"


async def test_the_first_checkpoint_comes_from_its_seed_alone(bench: Bench) -> None:
    """The same bytes again, which are the model's initial parameters."""
    first, again = await bench.checkpoint(), await bench.checkpoint()
    assert first == again
    number, theta = load_checkpoint(await bench.shelf.get(first), SPEC)
    assert number == 1
    assert torch.equal(theta, init_parameters(3, SHAPE))


async def test_honest_work_is_measured_applied_and_repeats_to_the_bit(bench: Bench, work: Sparse) -> None:
    """A clear drop, its losses in the store; and the next checkpoint's held-out loss is lower."""
    base = await bench.checkpoint()
    payload = bench.shelf.keep(sealed(packed(work, checkpoint=base.sha256)))
    norms = (await bench.screen(bench.shelf.kept[payload.sha256], checkpoint=base.sha256)).norms
    seen, again = await bench.measure(payload, base, norms), await bench.measure(payload, base, norms)
    assert msgspec.structs.replace(seen, id="") == msgspec.structs.replace(again, id="")
    assert seen.failure == ""
    assert 0 < seen.drop_low < seen.drop_mean < seen.drop_high
    assert seen.losses is not None
    losses = msgspec.json.decode(await bench.shelf.get(seen.losses))
    drops = np.subtract(losses["before"], losses["after"])
    assert len(drops) == seen.sequences
    assert round(float(drops.mean()) * 1e9) == pytest.approx(seen.drop_mean, abs=2)
    request = RoundAggregate(
        id="s", occurred_at_ms=0, round=1, checkpoint=base, model_id=bench.torch.model_id, clip_norms=norms,
        items=(AggregateItem(commitment=sha("c"), peer=PEER, payload=payload),), outer_rate_ppm=1_000_000, init_seed=0,
    )  # fmt: skip
    await bench.worker.round_aggregate(request)
    built = bench.said.events[-1]
    assert isinstance(built, RoundAggregated)
    assert built.held_out_after < built.held_out_before
    assert load_checkpoint(await bench.shelf.get(built.checkpoint), SPEC)[0] == 2


async def test_an_update_is_clipped_before_it_is_measured(bench: Bench, work: Sparse) -> None:
    """At a median of nothing nothing changes, so nothing is gained."""
    base = await bench.checkpoint()
    payload = bench.shelf.keep(sealed(packed(work, checkpoint=base.sha256)))
    seen = await bench.measure(payload, base, (0.0,) * len(SPEC.tensors))
    assert (seen.drop_mean, seen.drop_low, seen.drop_high) == (0, 0, 0)


async def test_answers_carry_no_key(bench: Bench, work: Sparse) -> None:
    """Neither the reading key nor the content key is in any event."""
    base = await bench.checkpoint()
    payload = bench.shelf.keep(sealed(packed(work, checkpoint=base.sha256)))
    await bench.screen(bench.shelf.kept[payload.sha256], checkpoint=base.sha256)
    await bench.measure(payload, base, (1.0,) * len(SPEC.tensors))
    said = [msgspec.json.encode(event) for event in bench.said.events]
    assert not any((bytes([8]) * 32).hex().encode() in body for body in said)
    assert not any(CONTENT.hex().encode() in body for body in said)


async def test_a_checkpoint_is_measured_against_its_parent_and_repeats_to_the_bit(bench: Bench) -> None:
    """The same tokens under both: a checkpoint gains nothing on itself, and the same question has the same answer."""
    first = await bench.checkpoint()
    _, theta = load_checkpoint(bench.shelf.kept[first.sha256], SPEC)
    windows = train_batches(train_shard(load_corpus(), b"key"), b"peer", 1, 10)
    trained = theta - inner_steps(theta, windows, AdamState.fresh(SPEC.numel), shape=SHAPE).delta
    child = bench.shelf.keep(checkpoint_bytes(trained, SPEC, 2))
    answers = []
    for other in (child, child, first):
        await bench.worker.checkpoint_measure(
            CheckpointMeasure(
                id="a", occurred_at_ms=0, round=1, parent=first, checkpoint=other, model_id=bench.torch.model_id,
                shards=SHARDS[:2],
            )
        )  # fmt: skip
        answers.append(bench.said.events[-1])
    better, again, same = answers
    assert isinstance(better, CheckpointMeasured)
    assert isinstance(same, CheckpointMeasured)
    assert better == again
    assert (better.parent, better.checkpoint, better.shards) == (first.sha256, child.sha256, SHARDS[:2])
    assert better.drop_low < better.drop_mean < better.drop_high
    assert better.drop_mean > 0
    assert (same.drop_mean, same.drop_low, same.drop_high, same.failure) == (0, 0, 0, "")
    losses = msgspec.json.decode(bench.shelf.kept[better.losses.sha256]) if better.losses else {}
    assert len(losses["before"]) == len(losses["after"]) == better.sequences


async def test_a_checkpoint_that_cannot_be_read_is_answered_with_a_failure(bench: Bench) -> None:
    """Nothing is earned by it, and the queue goes on."""
    first = await bench.checkpoint()
    broken = bench.shelf.keep(b"no checkpoint")
    await bench.worker.checkpoint_measure(
        CheckpointMeasure(
            id="a", occurred_at_ms=0, round=1, parent=first, checkpoint=broken, model_id=bench.torch.model_id,
            shards=SHARDS[:2],
        )
    )  # fmt: skip
    answer = bench.said.events[-1]
    assert isinstance(answer, CheckpointMeasured)
    assert answer.failure.startswith("unreadable")
