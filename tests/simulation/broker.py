"""The server of a history's bus: durable consumers and redelivery, with everything that may go wrong on them.

What a handler's outcome means (ack, retry, dead letter) is the real bus's own rule: `l402core.delivering.deliver`. It keeps
JetStream's promises and no others: at least once, in any order, the same message id once within two minutes.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

import msgspec
from l402core.delivering import Consumer, Dead, deliver

from tests.simulation.faults import Fault, Kind
from tests.simulation.message import Line, Message, short
from tests.simulation.questions import Questions
from tests.simulation.streams import Server, Streams
from tests.simulation.world import Process, World

Handler = Callable[[Any], Awaitable[Any]]
MIGRATED_AFTER_S = 60.0
"""So long after a loss a person looks: what the services could mend they have mended long before, and a minute is overdue."""


class Broker:
    """The server: it may be restarted, and what is stored on its disk outlives that; its streams may vanish."""

    def __init__(self, world: World, consumers: tuple[Consumer, ...]) -> None:
        self.world = world
        self.consumers = {consumer.durable: consumer for consumer in consumers}
        self.dead: list[str] = []
        self.line = Line()
        self._open: list[Message] = []
        self._queues: dict[str, deque[Message]] = {durable: deque() for durable in self.consumers}
        self._busy: dict[str, int] = {}
        self._handlers: dict[str, tuple[Process, Handler]] = {}
        self.undertakers: dict[str, Dead | None] = {}
        """Who is told of a consumer's dead letters."""
        self.questions = Questions(world, self.line)
        self._published = self._delivered = 0
        self.streams = Streams(consumers, self._put)

    # --- streams ----------------------------------------------------------------------------------------------------

    def strike(self, subject: str) -> Fault | None:
        """What meets this publish, the next of all."""
        self._published += 1
        if not self.world.calm:
            self.world.at_publish(self.world, self._published, f"publish of {short(subject)}")
        return self.world.strikes(self._published, Kind.PUBLISH_LOST, Kind.PUBLISH_ACK_LOST, Kind.STREAM_LOST)

    def takes(self, stream: str) -> bool:
        """Whether a message for this stream would be stored now."""
        return self.line.up and self.streams.there(stream) is not None

    def store(self, stream: str, subject: str, message_id: str, body: bytes) -> None:
        """Keep it for every durable consumer of it, unless the same id was kept a moment ago."""
        self.streams.store(stream, subject, message_id, body, self.world.monotonic())

    def server(self) -> Server:
        """A connection for whoever keeps the streams."""
        return Server(self.world, self.streams, lambda: self.line.up)

    def _put(self, durable: str, subject: str, body: bytes) -> None:
        self._delivered += 1
        message = Message(self, durable, subject, body, self._delivered)
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
        while self.line.up and queue and process is not None and process.alive and handler is not None:
            if self._busy.get(durable, 0) >= self.consumers[durable].workers:
                return
            message = queue.popleft()
            if not message.done and not message.running:
                self._hand_over(message, process, handler)

    def _hand_over(self, message: Message, process: Process, handler: Handler) -> None:
        consumer = self.consumers[message.durable]
        message.attempt += 1
        if message.attempt > consumer.patience:
            message.done = True
            self.bury(message, "delivered too often")
            return
        message.waiting, message.worker = False, process
        self._busy[message.durable] = self._busy.get(message.durable, 0) + 1

        async def hand_over() -> None:
            try:
                decoder, dead = msgspec.json.Decoder(consumer.event), self.undertakers.get(message.durable)
                await deliver(consumer, decoder, handler, message, dead)
            finally:
                if process.alive:
                    self._free(message)

        self.world.spawn(process, hand_over())
        self._remind(message)

    def _remind(self, message: Message) -> None:
        wait_s = self.consumers[message.durable].ack_wait_s
        self.world.loop.call_later(wait_s, self._overdue, message, message.attempt, context=Context())

    def _free(self, message: Message) -> None:
        message.worker = None
        self._busy[message.durable] -= 1
        self.world.loop.call_soon(self._pump, message.durable, context=Context())

    def _overdue(self, message: Message, delivery: int) -> None:
        """No ack came in time: again, unless somebody is still at work on it and says so."""
        if message.done or message.waiting or message.attempt != delivery:
            return
        if message.running:
            self._remind(message)
        else:
            self.queue_later(message, 0.0)

    def bury(self, message: Message, why: str) -> None:
        """A dead letter, for people."""
        self.dead.append(f"{message.durable} {short(message.subject)}")
        self.world.say(f"dead letter ({why}): {message.durable} {short(message.subject)}")

    def lose(self, stream: str) -> None:
        """Everything that one stream kept is gone, with the memory of ids and with its consumers.

        What is missing long after, because whoever knew of it was dead too, a person declares again.
        """
        self.world.loop.call_later(MIGRATED_AFTER_S, self._migrate, context=Context())
        self.streams.lose(stream)
        for message in self._open:
            message.done |= self.consumers[message.durable].event.stream == stream
        for durable, consumer in self.consumers.items():
            if consumer.event.stream == stream:
                self._queues[durable].clear()

    def _migrate(self) -> None:
        missing = self.streams.missing()
        if missing:
            self.world.say(f"an operator runs the migration: {', '.join(missing[:3])}")
            self.streams.migrate()

    def stop(self) -> None:
        """Nobody reaches it any more; what is in somebody's hand cannot be acknowledged now."""
        self.line.up = False
        self.line.cuts += 1

    def start_again(self) -> None:
        """It is there again, with everything that it had stored."""
        self.line.up = True
        for durable in self._queues:
            self._pump(durable)

    def unheard(self) -> list[str]:
        """What still has to reach somebody."""
        self._open = [message for message in self._open if not message.done]
        return [f"{message.durable} {short(message.subject)}" for message in self._open]

    # --- who listens ------------------------------------------------------------------------------------------------

    def listen(self, process: Process, handlers: dict[str, Handler]) -> None:
        """A service has started: what waits for it is handed over."""
        for durable, handler in handlers.items():
            self._handlers[durable] = (process, handler)
            self._busy[durable] = 0
            self._pump(durable)
