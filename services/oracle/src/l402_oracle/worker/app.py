"""The worker's story: screen what was uploaded, measure what is asked, apply what was accepted. It knows no tensor.

Any number of workers share each queue. Results are deterministic, so that saying one twice is harmless.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog
from l402core.delivering import Consumer
from l402core.documents import Conditions, ObjectRef
from l402core.errors import Contradiction, PeerError
from l402core.events import (
    CheckpointMeasure,
    CheckpointMeasured,
    Event,
    GradientMeasure,
    GradientMeasured,
    GradientScreened,
    GradientUploaded,
    RoundAggregate,
    RoundAggregated,
    YardstickMade,
    YardstickMake,
)
from l402core.sealing import Unseals, seal, seal_payload, unseal_payload

from l402_oracle.derive import yardstick_name
from l402_oracle.failures import ISOLATED, UNREADABLE
from l402_oracle.worker.results import Built, Compared, Measurement, Opened, Screening, Worked

log = structlog.get_logger()
BREAKS = (ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError, TypeError)
"""What code of ours (torch: RuntimeError) raises for a payload that nobody foresaw."""
TRIES = 5
"""Deliveries of a payload until it is taken for what ended its workers: paid nothing, its fee credited, and logged."""
LOST_S = 10
"""Silence after which a job belongs to another worker; whoever works says so every third of it."""
GIVEN_UP = f"no worker lived to answer in {TRIES} tries"
DEATHS_MS = TRIES * LOST_S * 1_000
"""So long it takes at least until so many workers were missed. What was in vain sooner failed without a death."""


class Objects(Protocol):
    """The object store."""

    async def put(self, data: bytes) -> ObjectRef: ...

    async def get(self, ref: ObjectRef) -> bytes: ...


class Publisher(Protocol):
    """The bus, to answer on."""

    async def publish(self, event: Event) -> None: ...


class Bench(Protocol):
    """The model and everything that is done with tensors, one job after the other."""

    model_id: str

    async def screen(self, opened: Opened) -> Screening:
        """Unpack, norms, sketch. Raises PeerError for a payload that is malformed or for something else."""
        ...

    async def measure(self, opened: Opened, checkpoint: bytes, request: GradientMeasure) -> Measurement:
        """Paired loss drop of the clipped update."""
        ...

    async def compare(self, parent: bytes, child: bytes, shards: tuple[int, ...]) -> Compared:
        """Paired loss drop from one checkpoint to another."""
        ...

    async def first(self, init_seed: int, number: int) -> Built:
        """The first checkpoint."""
        ...

    async def step(self, checkpoint: bytes, payloads: list[Opened], request: RoundAggregate) -> Built:
        """The outer step with the clipped, accepted payloads."""
        ...

    async def work(self, checkpoint: bytes, state: bytes, request: YardstickMake) -> Worked:
        """An honest peer's work on a round; an empty state begins anew. Raises ValueError for a recipe not known here."""
        ...


class Worker:
    """One process of the pool."""

    def __init__(
        self, *, bench: Bench, objects: Objects, bus: Publisher, key: Unseals, answers_to: Callable[[], str],
        payload_max_bytes: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:  # fmt: skip
        self._bench = bench
        self._objects = objects
        self._bus = bus
        self._key = key
        self._answers_to = answers_to
        self._max_bytes = payload_max_bytes
        self._now_ms = now_ms
        self._new_id = new_id

    async def gradient_uploaded(self, event: GradientUploaded) -> None:
        """Screen it: always answered, however bad the payload. Raises Unavailable where the store or bus is away."""
        try:
            content_key, screening = await self._screening(event)
        except PeerError as error:
            content_key, screening = "", _failed(error.code, f"{error.detail}.")
        sketch = await self._objects.put(self._sealed(screening.sketch)) if screening.sketch else None
        await self._bus.publish(
            GradientScreened(
                id=self._new_id(), occurred_at_ms=self._now_ms(), round=event.round, commitment=event.commitment,
                passed=not screening.code, code=screening.code, detail=screening.detail, norms=screening.norms,
                sketch=sketch, sealed_key=self._sealed(bytes.fromhex(content_key)).hex() if content_key else "",
            )
        )  # fmt: skip
        log.info("gradient.screened", commitment=event.commitment, round=event.round, code=screening.code)

    async def gradient_measure(self, event: GradientMeasure) -> None:
        """Measure it: always answered, a payload that breaks us with `failure`."""
        try:
            opened = await self._open(event.payload, event.round, event.checkpoint.sha256, event.peer)
            checkpoint = await self._objects.get(event.checkpoint)
            seen = await self._bench.measure(opened, checkpoint, event)
        except (PeerError, Contradiction) as error:
            seen = Measurement(failure=f"{error.code}: {error.detail}")
        except BREAKS as error:
            log.exception("measure.broke", commitment=event.commitment, round=event.round)
            seen = Measurement(failure=f"{UNREADABLE}: {type(error).__name__}")
        losses = await self._objects.put(seen.losses) if seen.losses else None
        await self._bus.publish(
            GradientMeasured(
                id=self._new_id(), occurred_at_ms=self._now_ms(), round=event.round, commitment=event.commitment,
                drop_mean=seen.drop_mean, drop_low=seen.drop_low, drop_high=seen.drop_high, sequences=seen.sequences,
                tokens=seen.tokens, losses=losses, conditions=seen.conditions, failure=seen.failure,
                own_mean=seen.own_mean, own_excess_milli=seen.own_excess_milli, own_sequences=seen.own_sequences,
            )
        )  # fmt: skip
        log.info("gradient.measured", commitment=event.commitment, round=event.round, failure=seen.failure)

    async def isolate_upload(self, event: GradientUploaded) -> None:
        """A payload whose screening nobody survived: answered unopened, so that it ends no other worker. Raises Unavailable."""
        code = await self._why_in_vain(event)
        await self._bus.publish(
            GradientScreened(
                id=self._new_id(), occurred_at_ms=self._now_ms(), round=event.round, commitment=event.commitment,
                passed=False, code=code, detail=GIVEN_UP, norms=(), sketch=None, sealed_key="",
            )
        )  # fmt: skip

    async def isolate_measure(self, event: GradientMeasure) -> None:
        """A payload whose measurement nobody survived: answered unmeasured. Raises Unavailable."""
        code = await self._why_in_vain(event)
        await self._bus.publish(
            GradientMeasured(
                id=self._new_id(), occurred_at_ms=self._now_ms(), round=event.round, commitment=event.commitment,
                drop_mean=0, drop_low=0, drop_high=0, sequences=0, tokens=0, losses=None, conditions=Conditions(),
                failure=f"{code}: {GIVEN_UP}",
            )
        )  # fmt: skip

    async def checkpoint_measure(self, event: CheckpointMeasure) -> None:
        """Measure a round's outcome against its base: always answered, what breaks with `failure`."""
        try:
            parent, child = await self._objects.get(event.parent), await self._objects.get(event.checkpoint)
            seen = await self._bench.compare(parent, child, event.shards)
        except Contradiction as error:
            seen = Compared(failure=f"{error.code}: {error.detail}")
        except BREAKS as error:
            log.exception("compare.broke", round=event.round)
            seen = Compared(failure=f"{UNREADABLE}: {type(error).__name__}")
        losses = await self._objects.put(seen.losses) if seen.losses else None
        await self._bus.publish(
            CheckpointMeasured(
                id=self._new_id(), occurred_at_ms=self._now_ms(), revision=event.revision, round=event.round,
                parent=event.parent.sha256, checkpoint=event.checkpoint.sha256, shards=event.shards, drop_mean=seen.drop_mean,
                drop_low=seen.drop_low, drop_high=seen.drop_high, sequences=seen.sequences, losses=losses,
                hardware=seen.hardware, failure=seen.failure,
            )
        )  # fmt: skip
        log.info("checkpoint.measured", round=event.round, failure=seen.failure)

    async def round_aggregate(self, event: RoundAggregate) -> None:
        """Make the next checkpoint. Raises what stands in its way: a round without its checkpoint must be seen."""
        if event.checkpoint is None:
            built = await self._bench.first(event.init_seed, event.round + 1)
        else:
            base = event.checkpoint
            payloads = [await self._open(item.payload, event.round, base.sha256, item.peer) for item in event.items]
            built = await self._bench.step(await self._objects.get(base), payloads, event)
        ref = await self._objects.put(built.checkpoint)
        await self._bus.publish(
            RoundAggregated(
                id=self._new_id(), occurred_at_ms=self._now_ms(), round=event.round, checkpoint=ref,
                model_id=self._bench.model_id, held_out_before=built.held_out_before,
                held_out_after=built.held_out_after,
            )
        )  # fmt: skip
        log.info("round.aggregated", round=event.round, checkpoint=ref.sha256, accepted=len(event.items))

    async def yardstick_make(self, event: YardstickMake) -> None:
        """Train the round's yardstick, sealed like any payload: always answered, where it cannot be made with `failure`."""
        name, content_key = yardstick_name(event.round, event.checkpoint.sha256), secrets.token_bytes(32)
        payload, state, worked, failure = None, None, None, ""
        before, before_key = b"", b""
        try:
            before, before_key = await self._memory(event.state)
            worked = await self._bench.work(await self._objects.get(event.checkpoint), before, event)
            payload = await self._objects.put(seal_payload(worked.packed, self._key.public, content_key))
            state = await self._objects.put(seal_payload(worked.state, self._key.public, secrets.token_bytes(32)))
        except (PeerError, Contradiction) as error:
            failure = f"{error.code}: {error.detail}"
        except BREAKS as error:
            log.exception("yardstick.broke", round=event.round)
            failure = f"{UNREADABLE}: {type(error).__name__}"
        await self._bus.publish(
            YardstickMade(
                id=self._new_id(), occurred_at_ms=self._now_ms(), round=event.round, yardstick=name, payload=payload,
                sealed_key=self._sealed(content_key).hex(), norms=worked.norms if worked else (),
                state_before=hashlib.sha256(before).hexdigest() if before_key else "",
                state_object=event.state.sha256 if event.state and before_key else "",
                sealed_state_key=self._sealed(before_key).hex() if before_key else "",
                state=state, state_after=hashlib.sha256(worked.state).hexdigest() if worked else "", failure=failure,
            )
        )  # fmt: skip
        log.info("yardstick.made", round=event.round, failure=failure)

    async def _memory(self, ref: ObjectRef | None) -> tuple[bytes, bytes]:
        """What the last yardstick left, and its content key. Without its reading key it begins anew: better than none."""
        if ref is None:
            return b"", b""
        try:
            return unseal_payload(await self._objects.get(ref), self._key)
        except PeerError as error:
            log.error("yardstick.memory_shut", state=ref.sha256, code=error.code)  # noqa: TRY400 - bytes in a trace
            return b"", b""

    async def _screening(self, event: GradientUploaded) -> tuple[str, Screening]:
        if event.model_id != self._bench.model_id:
            raise PeerError("wrong_model", "It was made for another model")
        if event.payload.size > self._max_bytes:
            raise PeerError("too_large", f"{event.payload.size} bytes are more than the limit of {self._max_bytes}")
        try:
            opened = await self._open(event.payload, event.round, event.checkpoint, event.peer)
        except Contradiction as error:
            log.exception("payload.altered", commitment=event.commitment, round=event.round)
            return "", _failed(UNREADABLE, error.detail)
        try:
            return opened.content_key, await self._bench.screen(opened)
        except PeerError as error:
            return opened.content_key, _failed(error.code, f"{error.detail}.")
        except BREAKS as error:
            log.exception("screen.broke", commitment=event.commitment, round=event.round)
            return opened.content_key, _failed(UNREADABLE, type(error).__name__)

    async def _why_in_vain(self, event: GradientUploaded | GradientMeasure) -> str:
        """Whether it was the payload. Raises Unavailable while the store is away: then it was that."""
        if self._now_ms() - event.occurred_at_ms < DEATHS_MS or event.payload.size > self._max_bytes:
            return UNREADABLE
        try:
            await self._objects.get(event.payload)
        except Contradiction:
            return UNREADABLE
        return ISOLATED

    def _sealed(self, secret: bytes) -> bytes:
        """For the attestor alone: the bus and the store are read by others, who may not know a payload before it is judged."""
        return seal(secret, self._answers_to())

    async def _open(self, ref: ObjectRef, round_: int, checkpoint: str, peer: str) -> Opened:
        """Raises PeerError (unsealable), Contradiction (altered), Unavailable (missing)."""
        packed, content_key = unseal_payload(await self._objects.get(ref), self._key)
        return Opened(packed=packed, content_key=content_key.hex(), round=round_, checkpoint=checkpoint, peer=peer)


def _failed(code: str, detail: str) -> Screening:
    return Screening(code=code, detail=detail)


CONSUMERS: tuple[Consumer, ...] = (
    Consumer("worker", GradientUploaded, ack_wait_s=LOST_S, tries=TRIES),
    Consumer("worker", GradientMeasure, workers=2, ack_wait_s=LOST_S, tries=TRIES),  # one is opened, one is measured
    Consumer("worker", RoundAggregate, ack_wait_s=60),
    Consumer("worker", CheckpointMeasure, ack_wait_s=60),
    Consumer("worker", YardstickMake, ack_wait_s=LOST_S),
)
"""The worker's queues, shared by all workers."""


def consumers_on(device: str) -> tuple[Consumer, ...]:
    """The same; a GPU has one measurement more in hand, queued behind the one it computes."""
    more = 0 if device == "cpu" else 1
    return tuple(
        msgspec.structs.replace(one, workers=one.workers + more) if one.event is GradientMeasure else one
        for one in CONSUMERS
    )
