"""What becomes of one delivery: acknowledged, sent again later, or buried as a dead letter, and never dropped in silence.

A handler that raises `WorldError` is retried with a growing delay; `Contradiction` and the caller's errors end the message. It
knows no connection: whoever brings a message (`Message`) says how its outcome is told.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
import structlog
from nats.errors import Error as NatsError
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from l402core import bus_metrics, errors, telemetry
from l402core.events import Event

log = structlog.get_logger()
MAX_DELIVER = 20
MONEY_PATIENCE = 10_000
"""Of messages about money: more than a day, at ten seconds between two."""
RETRY_DELAYS_S = (0.1, 0.3, 1.0, 3.0, 10.0)


class Consumer(msgspec.Struct, frozen=True):
    """One durable consumer: who reads which event, and how many at once."""

    service: str
    event: type[Event]
    workers: int = 1
    ack_wait_s: int = 30
    patience: int = MAX_DELIVER
    """Deliveries until a message that the world fails is a dead letter. About money it outlasts a day's outage."""
    tries: int = 0
    """Deliveries without an answer after which a message is taken for one that ends whoever handles it; 0: never."""

    @property
    def durable(self) -> str:
        """Durable name; dots are not allowed in one."""
        return f"{self.service}-{self.event.name.replace('.', '-')}"


Dead = Callable[[str, bytes, Exception], Awaitable[None]]
"""Told (subject, body, why) of a message that will not come again, before it is given up. Raises Unavailable: not yet."""


class Message(Protocol):
    """One delivery of an event, as far as its outcome is concerned; `l402core.jetstream.Delivery` is one."""

    subject: str
    body: bytes
    attempt: int

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def ack(self) -> None: ...

    async def nack(self, delay: float | None = None) -> None: ...

    async def reject(self) -> None: ...

    async def in_progress(self) -> None: ...


async def deliver(
    consumer: Consumer,
    decoder: msgspec.json.Decoder[Any],
    handler: Callable[[Any], Awaitable[None]],
    message: Message,
    dead: Dead | None = None,
) -> None:
    """One message to its handler, and what became of it to the server."""
    attempt = message.attempt
    attributes: dict[str, AttributeValue] = {
        "messaging.destination": message.subject,
        "messaging.attempt": attempt,
    }
    with telemetry.span(
        f"consume {consumer.event.name}", parent=message.headers, kind=SpanKind.CONSUMER, attributes=attributes
    ):
        beat = _Heartbeat(message, consumer.ack_wait_s / 3)
        began_s, outcome = time.perf_counter(), bus_metrics.AGAIN
        try:
            await handler(decoder.decode(message.body))
            await message.ack()
            outcome = bus_metrics.DONE
        except errors.WorldError as error:
            log.info(
                "event.retry", event_name=consumer.event.name, attempt=attempt, code=error.code, detail=error.detail
            )
            outcome = await _again(consumer, message, attempt, dead, error)
        except (errors.L402Error, msgspec.MsgspecError) as error:
            log.exception("event.dead", event_name=consumer.event.name, error=type(error).__name__, detail=str(error))
            outcome = await _bury(message, attempt, dead, error)
        except asyncio.CancelledError:
            with contextlib.suppress(NatsError):
                await message.nack()
            raise
        except Exception as error:  # the edge of the process: the message comes again, and the queue moves on
            log.exception("event.failed", event_name=consumer.event.name, attempt=attempt)
            outcome = await _again(consumer, message, attempt, dead, error)
        finally:
            beat.stop()
            bus_metrics.handled(consumer.event.name, outcome, time.perf_counter() - began_s)


async def _again(consumer: Consumer, message: Message, attempt: int, dead: Dead | None, error: Exception) -> str:
    """Later, unless this was the last delivery; what became of it."""
    if attempt >= consumer.patience and dead is not None:
        return await _bury(message, attempt, dead, error)
    await message.nack(delay=_delay(attempt))
    return bus_metrics.BURIED if attempt >= consumer.patience else bus_metrics.AGAIN


async def _bury(message: Message, attempt: int, dead: Dead | None, error: Exception) -> str:
    """A dead letter, once whoever must know of it does; what became of it."""
    try:
        if dead is not None:
            await dead(message.subject, message.body, error)
    except errors.WorldError as silent:
        log.warning("event.unburied", subject=message.subject, code=silent.code, detail=silent.detail)
        await message.nack(delay=_delay(attempt))
        return bus_metrics.AGAIN
    await message.reject()
    return bus_metrics.BURIED


class _Heartbeat:
    """JetStream takes a long job for a lost one unless it hears of it. Most are over before the first beat, so that a timer
    waits and no task."""

    def __init__(self, message: Message, every_s: float) -> None:
        self._message, self._every_s = message, every_s
        self._beating: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(every_s, self._begin)

    def _begin(self) -> None:
        self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            await self._message.in_progress()
            await asyncio.sleep(self._every_s)

    def stop(self) -> None:
        """The job is over."""
        self._timer.cancel()
        if self._beating is not None:
            self._beating.cancel()


def _delay(attempt: int) -> float:
    return RETRY_DELAYS_S[min(attempt, len(RETRY_DELAYS_S)) - 1]
