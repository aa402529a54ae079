"""The bus: NATS JetStream with our rules for acks, retries, traces and dead letters.

Facts and work are consumed from durable consumers that one migration declared (`migrate`); what becomes of each delivery is
`delivering`'s rule. Questions are core NATS request/reply; refusals cross as errors of the tree. It refuses to know what a
message means.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec
import nats
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js.api import AckPolicy as JetStreamAck
from nats.js.api import ConsumerConfig, DeliverPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError
from opentelemetry.trace import SpanKind

from l402core import bus_metrics, errors, events, telemetry
from l402core.delivering import Consumer, Dead, deliver
from l402core.events import FACTS, WORK, Event, Question
from l402core.jetstream import Delivery, Link, inbox

log = structlog.get_logger()
E = TypeVar("E", bound=Event)
Q = TypeVar("Q", bound=Question)
A = TypeVar("A", bound=msgspec.Struct)

PUBLISH_TIMEOUT_S = 5.0
START_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 5.0
NOBODY_YET_S = 1.0
ANSWERS_AT_ONCE = 32
DEAD = "DEAD"
_DEAD_SUBJECTS = [
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>",
    "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>",
]


class _Envelope(msgspec.Struct, omit_defaults=True):
    """An answer on the wire: one of the two."""

    ok: msgspec.Raw = msgspec.Raw()
    error: dict[str, str] | None = None


class Bus:
    """One connection to NATS for one service."""

    def __init__(self, url: str, service: str) -> None:
        self.service = service
        self._link = Link(url, service)
        self._listening: list[Callable[[], Awaitable[None]]] = []
        """What begins with the connection."""

    async def start(self) -> None:
        """Connect and begin to consume. Raises Unavailable when the server does not answer."""
        try:
            await asyncio.wait_for(self._start(), START_TIMEOUT_S)
        except (NatsError, OSError, TimeoutError) as error:
            raise errors.Unavailable("bus", f"NATS does not answer: {error}") from error

    async def _start(self) -> None:
        await self._link.connect()
        for listen in self._listening:
            await listen()

    async def stop(self) -> None:
        """Finish what is in hand, then disconnect."""
        await self._link.close()

    def when_cut(self, tell: Callable[[], None]) -> None:
        """Called when the connection is lost, and again when it is there: what was only overheard meanwhile is missed."""
        self._link.cut.append(tell)

    async def ready(self) -> bool:
        """Whether the server is there now."""
        return self._link.connected()

    def consume(
        self, consumer: Consumer, handler: Callable[[Any], Awaitable[None]], dead: Dead | None = None,
        isolate: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        """Call `handler` with each event of this consumer, `dead` with those it is given up for. Register before `start`.

        `isolate` is called instead of `handler` once an event came `consumer.tries` times and nobody lived to answer.
        """
        kind = consumer.event
        decoder = msgspec.json.Decoder(kind)

        async def on_message(message: Delivery) -> None:
            if message.attempt == 1:
                bus_metrics.waited(kind.name, time.time() - message.stored_at_s)
            if isolate is None or message.attempt <= consumer.tries:
                await deliver(consumer, decoder, handler, message, dead)
                return
            log.error("event.isolated", event_name=kind.name, subject=message.subject, attempt=message.attempt)
            await deliver(consumer, decoder, isolate, message, dead)

        pull = partial(self._link.pull, kind.stream, consumer.durable, on_message, at_once=consumer.workers)
        self._listening.append(pull)

    def answer(self, question: type[Q], handler: Callable[[Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer each question of this type. Errors of the tree cross to the asker."""
        decoder = msgspec.json.Decoder(question)

        async def on_question(message: Msg) -> bytes:
            with telemetry.span(f"answer {question.name}", parent=message.headers or {}, kind=SpanKind.SERVER):
                try:
                    return msgspec.json.encode(
                        _Envelope(ok=msgspec.Raw(msgspec.json.encode(await handler(decoder.decode(message.data)))))
                    )
                except errors.L402Error as error:
                    return _refusal(error)
                except msgspec.MsgspecError as error:
                    return _refusal(errors.Malformed("question", f"not a {question.__name__}: {error}"))
                except Exception:  # the edge of the process: whoever asked gets an answer, whatever broke
                    log.exception("question.failed", question=question.name)
                    return _refusal(errors.Unavailable("internal", f"{question.name} failed; see the service's log"))

        serve = partial(self._link.serve, question.name, on_question, queue=self.service, at_once=ANSWERS_AT_ONCE)
        self._listening.append(serve)

    async def ask(self, question: Question, answer: type[A], *, timeout_s: float = REQUEST_TIMEOUT_S) -> A:
        """The answer, or the error that the answering side raised. Raises Unavailable when nobody answers."""
        with telemetry.span(f"ask {question.name}", kind=SpanKind.CLIENT):
            try:
                reply = await self._request(question, timeout_s)
            except (NatsError, TimeoutError, OSError) as error:
                raise errors.Unavailable(
                    "bus", f"{question.answered_by} did not answer {question.name} within {timeout_s:g} s"
                ) from error
            envelope = msgspec.json.decode(reply.data, type=_Envelope)
            if envelope.error is not None:
                kind = errors.BY_NAME.get(envelope.error["kind"], errors.Unavailable)
                raise kind(envelope.error["code"], envelope.error["detail"])
            return msgspec.json.decode(envelope.ok, type=answer)

    async def _request(self, question: Question, timeout_s: float) -> Msg:
        """One reply. Nobody listening is given a moment: a service that starts has not said yet that it answers."""
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + min(timeout_s, NOBODY_YET_S)
        while True:
            try:
                return await self._link.request(
                    question.name, msgspec.json.encode(question), _trace_headers(), timeout_s
                )
            except NoRespondersError:
                if loop.time() >= patient_until:
                    raise
                await asyncio.sleep(0.05)

    async def publish(self, event: Event, *, parent: str = "") -> None:
        """Publish to its stream and wait for the server's ack. Raises Unavailable; publishing again is harmless."""
        await self.publish_raw(event.stream, event.subject, event.message_id, msgspec.json.encode(event), parent=parent)

    async def publish_raw(self, stream: str, subject: str, message_id: str, body: bytes, *, parent: str = "") -> None:
        """As `publish`, from an outbox row. `parent` is the traceparent that the row kept."""
        headers = {"traceparent": parent} if parent else _trace_headers()
        try:
            await self._link.store(stream, subject, message_id, body, headers, PUBLISH_TIMEOUT_S)
        except (NatsError, TimeoutError, OSError) as error:
            raise errors.Unavailable("bus", f"{subject} was not acknowledged: {type(error).__name__}") from error

    async def hint(self, event: Event) -> None:
        """Tell those who watch now, and nobody later."""
        await self._link.send(event.subject, msgspec.json.encode(event))

    def watch(self, names: tuple[str, ...], on_event: Callable[[str, bytes], Awaitable[None]]) -> None:
        """Hints only: call back with (subject, body) for each live fact of these names; nothing is kept or retried.

        Register before `start`.
        """

        async def on_hint(message: Msg) -> None:
            await on_event(message.subject, message.data)

        self._listening += [partial(self._link.listen, f"{name}.>", on_hint) for name in names]


async def _quiet(_error: Exception) -> None:
    """The client prints each failed attempt; the one that counts is raised."""


def _trace_headers() -> dict[str, str]:
    parent = telemetry.traceparent()
    return {"traceparent": parent} if parent else {}


def _refusal(error: errors.L402Error) -> bytes:
    return msgspec.json.encode(
        _Envelope(error={"kind": type(error).__name__, "code": error.code, "detail": error.detail})
    )


def _consumer_config(consumer: Consumer) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=consumer.durable,
        filter_subject=f"{consumer.event.name}.>",
        ack_policy=JetStreamAck.EXPLICIT,
        deliver_policy=DeliverPolicy.ALL,
        ack_wait=consumer.ack_wait_s,
        max_deliver=consumer.patience,
        max_ack_pending=10_000,
    )


def streams(replicas: int) -> tuple[StreamConfig, ...]:
    """Every stream, as the migration declares it."""

    def names(stream: str) -> list[str]:
        return sorted(f"{event.name}.>" for event in events.EVENTS if event.stream == stream)

    common: Mapping[str, Any] = {
        "storage": StorageType.FILE,
        "num_replicas": replicas,
        "duplicate_window": 120,
        "max_age": 7 * 86_400,
    }
    return (
        StreamConfig(name=FACTS, subjects=names(FACTS), max_bytes=1 << 30, **common),
        StreamConfig(
            name=WORK, subjects=names(WORK), retention=RetentionPolicy.WORK_QUEUE, max_bytes=1 << 30, **common
        ),
        StreamConfig(name=DEAD, subjects=_DEAD_SUBJECTS, max_bytes=1 << 26, **common),
    )


async def migrate(url: str, consumers: tuple[Consumer, ...], *, replicas: int = 1) -> None:
    """Declare streams and consumers, and check what the server made of them. Safe to run again. Raises Unavailable."""
    try:
        client = await nats.connect(
            url,
            inbox_prefix=inbox("migrate"),
            connect_timeout=5,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            error_cb=_quiet,
        )
    except (NatsError, OSError) as error:
        raise errors.Unavailable("bus", f"NATS does not answer at {url}: {error}") from error
    jetstream = client.jetstream(timeout=10)
    try:
        for config in streams(replicas):
            try:
                await jetstream.stream_info(str(config.name))
                await jetstream.update_stream(config)
            except NotFoundError:
                await jetstream.add_stream(config)
        for consumer in consumers:
            wanted = _consumer_config(consumer)
            made = await jetstream.add_consumer(consumer.event.stream, wanted)
            if made.config.filter_subject != wanted.filter_subject or made.config.max_deliver != consumer.patience:
                raise errors.Unavailable("bus", f"the server changed consumer {consumer.durable}; it is too old")
    finally:
        await client.close()
