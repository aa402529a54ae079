"""The bus of a history: streams, durable consumers, redelivery and questions, with everything that may go wrong on it.

What a handler's outcome means (ack, retry, dead letter) is the real bus's own rule: `l402core.bus.deliver`. It keeps
JetStream's promises and no others: at least once, in any order, the same message id once within two minutes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, TypeVar

import msgspec
from l402core import errors
from l402core.bus import MAX_DELIVER, NOBODY_YET_S, REQUEST_TIMEOUT_S, Consumer, deliver
from l402core.errors import L402Error, Unavailable
from l402core.events import Event, Question

from tests.simulation.faults import Kind
from tests.simulation.world import Process, World

A = TypeVar("A", bound=msgspec.Struct)
Handler = Callable[[Any], Awaitable[Any]]
REMEMBERED_S = 120.0
"""JetStream's window for equal message ids."""


class Message:
    """One message on its way to one durable consumer; it looks like a `NatsMessage` to `deliver`."""

    def __init__(self, broker: "Broker", durable: str, subject: str, body: bytes) -> None:
        self.broker, self.durable, self.subject, self.body = broker, durable, subject, body
        self.headers: dict[str, str] = {}
        self.num_delivered = 0
        self.done = self.waiting = False
        self.worker: Process | None = None
        """Who has it in hand."""
        self.number = 0

    @property
    def running(self) -> bool:
        """Whether somebody who lives has it in hand."""
        return self.worker is not None and self.worker.alive

    @property
    def raw_message(self) -> "Message":
        return self

    @property
    def metadata(self) -> "Message":
        return self

    async def ack(self) -> None:
        """It is done, unless nobody hears of it."""
        world = self.broker.world
        await world.pause()
        if world.strikes(self.number, Kind.ACK_LOST):
            return
        with world.effect(f"acks {short(self.subject)}"):
            self.done = True

    async def nack(self, delay: float | None = None) -> None:
        """Again, later."""
        self.broker.world.living()
        self.broker.queue_later(self, delay or 0.0)

    async def reject(self) -> None:
        """Never again: a dead letter."""
        self.broker.world.living()
        self.done = True
        self.broker.bury(self, "refused")

    async def in_progress(self) -> None:
        """It takes a while."""


class Broker:
    """The server: it never dies, but its streams may vanish."""

    def __init__(self, world: World, consumers: tuple[Consumer, ...]) -> None:
        self.world = world
        self.consumers = {consumer.durable: consumer for consumer in consumers}
        self.dead: list[str] = []
        self.heard: list[Callable[[str, bytes], None]] = []
        """Told of every stored message."""
        self._ids: dict[str, float] = {}
        self._open: list[Message] = []
        self._queues: dict[str, deque[Message]] = {durable: deque() for durable in self.consumers}
        self._busy: dict[str, int] = {}
        self._handlers: dict[str, tuple[Process, Handler]] = {}
        self._answers: dict[str, tuple[Process, Handler]] = {}
        self._published = self._delivered = self._asked = 0

    # --- streams ----------------------------------------------------------------------------------------------------

    def next_published(self) -> int:
        """The number of this publish."""
        self._published += 1
        return self._published

    def store(self, subject: str, message_id: str, body: bytes) -> None:
        """Keep it for every durable consumer of it, unless the same id was kept a moment ago."""
        now = self.world.monotonic()
        if now - self._ids.get(message_id, -REMEMBERED_S) < REMEMBERED_S:
            return
        self._ids[message_id] = now
        for hear in self.heard:
            hear(subject, body)
        for durable, consumer in self.consumers.items():
            if subject.startswith(f"{consumer.event.name}."):
                self._put(durable, subject, body)

    def _put(self, durable: str, subject: str, body: bytes) -> None:
        message = Message(self, durable, subject, body)
        self._delivered += 1
        message.number = self._delivered
        self._open.append(message)
        wait_s = self.world.pace.between(0.001, 0.05)
        strike = self.world.strikes(message.number, Kind.DELIVERY_LATE, Kind.DELIVERY_LOST, Kind.DELIVERY_AGAIN)
        if strike is not None and strike.kind is Kind.DELIVERY_LATE:
            wait_s += strike.amount
        elif strike is not None and strike.kind is Kind.DELIVERY_LOST:
            wait_s += self.consumers[durable].ack_wait_s
        elif strike is not None:
            for _ in range(int(strike.amount)):
                again = Message(self, durable, subject, body)
                self._open.append(again)
                self.queue_later(again, self.world.pace.between(0.0, 20.0))
        self.queue_later(message, wait_s)

    def queue_later(self, message: Message, seconds: float) -> None:
        """It waits for a free worker from then on."""
        message.waiting = True
        self.world.loop.call_later(seconds, self._queue, message, context=Context())

    def _queue(self, message: Message) -> None:
        if message.done or message.running:
            return
        self._queues[message.durable].append(message)
        self._pump(message.durable)

    def _pump(self, durable: str) -> None:
        process, handler = self._handlers.get(durable, (None, None))
        queue = self._queues[durable]
        while queue and process is not None and process.alive and handler is not None:
            if self._busy.get(durable, 0) >= self.consumers[durable].workers:
                return
            message = queue.popleft()
            if not message.done and not message.running:
                self._hand_over(message, process, handler)

    def _hand_over(self, message: Message, process: Process, handler: Handler) -> None:
        consumer = self.consumers[message.durable]
        message.num_delivered += 1
        if message.num_delivered > MAX_DELIVER:
            message.done = True
            self.bury(message, "delivered too often")
            return
        message.waiting, message.worker = False, process
        self._busy[message.durable] = self._busy.get(message.durable, 0) + 1

        async def hand_over() -> None:
            try:
                await deliver(consumer, msgspec.json.Decoder(consumer.event), handler, message)  # type: ignore[arg-type]
            finally:
                if process.alive:
                    self._free(message)

        self.world.spawn(process, hand_over())
        self._remind(message)

    def _remind(self, message: Message) -> None:
        wait_s = self.consumers[message.durable].ack_wait_s
        self.world.loop.call_later(wait_s, self._overdue, message, message.num_delivered, context=Context())

    def _free(self, message: Message) -> None:
        message.worker = None
        self._busy[message.durable] -= 1
        self.world.loop.call_soon(self._pump, message.durable, context=Context())

    def _overdue(self, message: Message, delivery: int) -> None:
        """No ack came in time: again, unless somebody is still at work on it and says so."""
        if message.done or message.waiting or message.num_delivered != delivery:
            return
        if message.running:
            self._remind(message)
        else:
            self.queue_later(message, 0.0)

    def bury(self, message: Message, why: str) -> None:
        """A dead letter, for people."""
        self.dead.append(f"{message.durable} {short(message.subject)}")
        self.world.say(f"dead letter ({why}): {message.durable} {short(message.subject)}")

    def delete_streams(self) -> None:
        """Everything kept is gone, with the memory of ids."""
        for message in self._open:
            message.done = True
        self._open.clear()
        self._ids.clear()
        for queue in self._queues.values():
            queue.clear()

    def unheard(self) -> list[str]:
        """What still has to reach somebody."""
        self._open = [message for message in self._open if not message.done]
        return [f"{message.durable} {short(message.subject)}" for message in self._open]

    # --- who listens ------------------------------------------------------------------------------------------------

    def listen(self, process: Process, handlers: dict[str, Handler], answers: dict[str, Handler]) -> None:
        """A service has started: what waits for it is handed over."""
        for durable, handler in handlers.items():
            self._handlers[durable] = (process, handler)
            self._busy[durable] = 0
            self._pump(durable)
        self._answers.update({name: (process, handler) for name, handler in answers.items()})

    # --- questions --------------------------------------------------------------------------------------------------

    def answering(self, name: str) -> tuple[Process, Handler] | None:
        """Who answers this question now."""
        found = self._answers.get(name)
        return found if found is not None and found[0].alive else None

    async def ask(self, question: Question, answer: type[A], timeout_s: float) -> A:
        """See `l402core.bus.Bus.ask`."""
        world = self.world
        self._asked += 1
        strike = world.strikes(self._asked, Kind.QUESTION_LOST, Kind.ANSWER_LOST)
        await world.pause()
        nobody = Unavailable("bus", f"{question.answered_by} did not answer {question.name} within {timeout_s:g} s")
        found = self.answering(question.name)
        for _ in range(4):
            if found is not None:
                break
            await asyncio.sleep(NOBODY_YET_S / 4)
            found = self.answering(question.name)
        if found is None:
            raise nobody
        process, handler = found
        replied: asyncio.Future[tuple[bytes, L402Error | None]] = world.loop.create_future()
        if strike is None or strike.kind is not Kind.QUESTION_LOST:
            asked = msgspec.json.decode(msgspec.json.encode(question), type=type(question))
            world.spawn(process, self._answer(handler, asked, None if strike else replied))
        try:
            async with asyncio.timeout(timeout_s):
                body, error = await replied
        except TimeoutError:
            raise nobody from None
        await world.pause()
        if error is not None:
            kind = errors.BY_NAME.get(type(error).__name__, Unavailable)
            raise kind(error.code, error.detail)
        return msgspec.json.decode(body, type=answer)

    async def _answer(
        self, handler: Handler, question: Question, replied: "asyncio.Future[tuple[bytes, L402Error | None]] | None"
    ) -> None:
        body, refusal = b"", None
        try:
            body = msgspec.json.encode(await handler(question))
        except L402Error as error:
            refusal = error
        if replied is not None and not replied.done():
            replied.set_result((body, refusal))


class SimBus:
    """One service's connection; it has the methods of `l402core.bus.Bus`."""

    def __init__(self, broker: Broker, process: Process, service: str) -> None:
        self._broker, self._process, self._service = broker, process, service
        self._handlers: dict[str, Handler] = {}
        self._answers: dict[str, Handler] = {}

    def consume(self, consumer: Consumer, handler: Handler) -> None:
        self._handlers[consumer.durable] = handler

    def answer(self, question: type[Question], handler: Handler) -> None:
        self._answers[question.name] = handler

    async def start(self) -> None:
        """From now on it is handed what it consumes."""
        await self._broker.world.pause()
        self._broker.world.living()
        self._broker.listen(self._process, self._handlers, self._answers)

    async def ask(self, question: Question, answer: type[A], *, timeout_s: float = REQUEST_TIMEOUT_S) -> A:
        return await self._broker.ask(question, answer, timeout_s)

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


def short(subject: str) -> str:
    """A subject with its hash cut short, for people."""
    return ".".join(part[:8] if len(part) == 64 else part for part in subject.split("."))
