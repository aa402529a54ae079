"""The server of a history's bus: streams, durable consumers and redelivery, with everything that may go wrong on them.

What a handler's outcome means (ack, retry, dead letter) is the real bus's own rule: `l402core.delivering.deliver`. It keeps
JetStream's promises and no others: at least once, in any order, the same message id once within two minutes.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

import msgspec
from l402core.delivering import Consumer, Dead, deliver

from tests.simulation.faults import Kind
from tests.simulation.message import Message, short
from tests.simulation.questions import Questions
from tests.simulation.world import Process, World

Handler = Callable[[Any], Awaitable[Any]]
REMEMBERED_S = 120.0
"""JetStream's window for equal message ids."""


class Broker:
    """The server: it never dies, but its streams may vanish."""

    def __init__(self, world: World, consumers: tuple[Consumer, ...]) -> None:
        self.world = world
        self.consumers = {consumer.durable: consumer for consumer in consumers}
        self.dead: list[str] = []
        self._ids: dict[str, float] = {}
        self._open: list[Message] = []
        self._queues: dict[str, deque[Message]] = {durable: deque() for durable in self.consumers}
        self._busy: dict[str, int] = {}
        self._handlers: dict[str, tuple[Process, Handler]] = {}
        self.undertakers: dict[str, Dead | None] = {}
        """Who is told of a consumer's dead letters."""
        self.questions = Questions(world)
        self._published = self._delivered = 0

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
        for durable, consumer in self.consumers.items():
            if subject.startswith(f"{consumer.event.name}."):
                self._put(durable, subject, body)

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
        while queue and process is not None and process.alive and handler is not None:
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

    def listen(self, process: Process, handlers: dict[str, Handler]) -> None:
        """A service has started: what waits for it is handed over."""
        for durable, handler in handlers.items():
            self._handlers[durable] = (process, handler)
            self._busy[durable] = 0
            self._pump(durable)
