"""One service's connection to the bus of a history. It keeps nothing: the broker does, and `questions`."""

from typing import TypeVar

import msgspec
from l402core.bus import REQUEST_TIMEOUT_S
from l402core.delivering import Consumer, Dead
from l402core.errors import Unavailable
from l402core.events import Event, Question

from tests.simulation.broker import Broker, Handler
from tests.simulation.faults import Kind
from tests.simulation.message import short
from tests.simulation.world import Process

A = TypeVar("A", bound=msgspec.Struct)


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
        """From now on it is handed what it consumes."""
        await self._broker.world.pause()
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
        strike = world.strikes(broker.next_published(), Kind.PUBLISH_LOST, Kind.PUBLISH_ACK_LOST)
        if strike is None or strike.kind is Kind.PUBLISH_ACK_LOST:
            with world.effect(f"publishes {short(subject)}"):
                broker.store(subject, message_id, body)
        await world.pause()
        if strike is not None:
            raise Unavailable("bus", f"{subject} was not acknowledged")
