"""One service's connection to the bus of a history. It keeps nothing: the broker does, and `questions`."""

import asyncio
from typing import TypeVar

import msgspec
from l402core.bus import PUBLISH_TIMEOUT_S, REQUEST_TIMEOUT_S
from l402core.delivering import Consumer, Dead
from l402core.errors import Unavailable
from l402core.events import Event, Question

from tests.simulation.broker import Broker, Handler
from tests.simulation.faults import Kind
from tests.simulation.message import short
from tests.simulation.world import Process

A = TypeVar("A", bound=msgspec.Struct)
AGAIN_S = 1.0
"""So much later a service that found no server is started again."""


class SimBus:
    """One service's connection; it has the methods of `l402core.bus.Bus`."""

    def __init__(self, broker: Broker, process: Process, service: str) -> None:
        self._broker, self._process, self._service = broker, process, service
        self._handlers: dict[str, Handler] = {}
        self._answers: dict[str, Handler] = {}

    def consume(self, consumer: Consumer, handler: Handler, dead: Dead | None = None) -> None:
        self._handlers[consumer.durable] = handler
        self._broker.undertakers[consumer.durable] = dead

    def answer(self, question: type[Question], handler: Handler) -> None:
        self._answers[question.name] = handler

    async def start(self) -> None:
        """From now on it is handed what it consumes; a service that finds no server is started until it does."""
        await self._broker.world.pause()
        while not self._broker.line.up:  # noqa: ASYNC110 - a service that ended is started again after a while, and not called
            await asyncio.sleep(AGAIN_S)
        self._broker.world.living()
        self._broker.listen(self._process, self._handlers)
        self._broker.questions.answer(self._process, self._answers)

    async def ask(self, question: Question, answer: type[A], *, timeout_s: float = REQUEST_TIMEOUT_S) -> A:
        return await self._broker.questions.ask(question, answer, timeout_s)

    async def publish(self, event: Event, *, parent: str = "") -> None:
        await self.publish_raw(event.stream, event.subject, event.message_id, msgspec.json.encode(event), parent=parent)

    async def publish_raw(self, stream: str, subject: str, message_id: str, body: bytes, *, parent: str = "") -> None:
        broker, world = self._broker, self._broker.world
        await world.pause()
        strike = broker.strike(subject)
        lost = strike.kind if strike is not None else None
        taken, cuts = broker.takes(stream), broker.line.cuts
        if taken and lost is not Kind.PUBLISH_LOST:
            with world.effect(f"publishes {short(subject)}"):
                broker.store(stream, subject, message_id, body)
            if lost is Kind.STREAM_LOST:
                broker.lose(stream)
        if not broker.line.up:
            await asyncio.sleep(PUBLISH_TIMEOUT_S)
        await world.pause()
        if lost in (Kind.PUBLISH_LOST, Kind.PUBLISH_ACK_LOST) or not taken or cuts != broker.line.cuts:
            raise Unavailable("bus", f"{subject} was not acknowledged")
