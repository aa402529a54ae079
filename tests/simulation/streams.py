"""The streams of a history's bus: what each holds, and the few calls by which whoever keeps them looks and declares.

A stream that is lost takes its consumers along; one that is declared again is empty, and another. It delivers nothing.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from l402core.bus import DEAD
from l402core.delivering import Consumer
from l402core.events import FACTS, WORK
from nats.errors import ConnectionClosedError
from nats.js.api import ConsumerConfig, ConsumerInfo, StreamConfig, StreamInfo, StreamState
from nats.js.errors import NotFoundError

from tests.simulation.world import World

NAMES = (FACTS, WORK, DEAD)
REMEMBERED_S = 120.0
"""JetStream's window for equal message ids."""


class Stream:
    """One stream since it was declared: `number` is its place among all that ever were."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ids: dict[str, float] = {}
        self.kept: list[tuple[str, bytes]] = []
        """Everything that was stored, for a consumer that is declared later."""
        self.consumers: set[str] = set()

    def is_new(self, message_id: str, now_s: float) -> bool:
        """Whether no such id came a moment ago; from here on it has."""
        if now_s - self.ids.get(message_id, -REMEMBERED_S) < REMEMBERED_S:
            return False
        self.ids[message_id] = now_s
        return True


class Streams:
    """All of them. `tell` hands one message to one consumer."""

    def __init__(self, consumers: tuple[Consumer, ...], tell: Callable[[str, str, bytes], None]) -> None:
        self._consumers = {consumer.durable: consumer for consumer in consumers}
        self._tell = tell
        self._made = 0
        self._there: dict[str, Stream] = {}
        self.migrate()

    def migrate(self) -> None:
        """Declare what is not there, as the migration does."""
        for name in NAMES:
            self.declare(name)
        for durable in self._consumers:
            self.listen(durable)

    def declare(self, name: str) -> None:
        """A stream, unless it is there."""
        if name not in self._there:
            self._made += 1
            self._there[name] = Stream(self._made)

    def listen(self, durable: str) -> None:
        """A consumer, unless it is there. It is told everything that its stream holds."""
        consumer = self._consumers[durable]
        stream = self._there[consumer.event.stream]
        if durable in stream.consumers:
            return
        stream.consumers.add(durable)
        for subject, body in stream.kept:
            if subject.startswith(f"{consumer.event.name}."):
                self._tell(durable, subject, body)

    def lose(self, name: str) -> None:
        """It is gone, with what it held and with what its consumers knew."""
        self._there.pop(name, None)

    def missing(self) -> list[str]:
        """Streams that are not there now, and consumers of those that are."""
        gone = [name for name in NAMES if name not in self._there]
        for durable, consumer in self._consumers.items():
            stream = self._there.get(consumer.event.stream)
            if stream is not None and durable not in stream.consumers:
                gone.append(durable)
        return gone

    def there(self, name: str) -> Stream | None:
        """The stream of this name."""
        return self._there.get(name)

    def store(self, name: str, subject: str, message_id: str, body: bytes, now_s: float) -> None:
        """Keep it and tell each consumer of it, unless the same id was kept a moment ago. The stream is there."""
        stream = self._there[name]
        if not stream.is_new(message_id, now_s):
            return
        stream.kept.append((subject, body))
        for durable, consumer in self._consumers.items():
            if durable in stream.consumers and subject.startswith(f"{consumer.event.name}."):
                self._tell(durable, subject, body)


class Server:
    """Of nats-py's `JetStreamContext` what `l402core.streams.Declared` calls, for one look after another."""

    def __init__(self, world: World, streams: Streams, up: Callable[[], bool]) -> None:
        self._world, self._streams, self._up = world, streams, up

    async def stream_info(self, name: str) -> StreamInfo:
        """Raises NotFoundError."""
        stream = await self._find(name)
        made = datetime.fromtimestamp(stream.number, UTC)
        state = StreamState(
            messages=0, bytes=0, first_seq=1, last_seq=len(stream.kept), consumer_count=len(stream.consumers)
        )
        return StreamInfo(config=StreamConfig(name=name), state=state, created=made)

    async def consumers_info(self, name: str) -> list[ConsumerInfo]:
        """Raises NotFoundError."""
        return [_consumer(name, durable) for durable in sorted((await self._find(name)).consumers)]

    async def add_stream(self, config: StreamConfig) -> StreamInfo:
        """Declared again."""
        name = str(config.name)
        await self._reached()
        with self._world.effect(f"declares stream {name}"):
            self._streams.declare(name)
        return await self.stream_info(name)

    async def add_consumer(self, stream: str, config: ConsumerConfig) -> ConsumerInfo:
        """Declared again. Raises NotFoundError where its stream is gone meanwhile."""
        await self._find(stream)
        durable = str(config.durable_name)
        with self._world.effect(f"declares consumer {durable}"):
            self._streams.listen(durable)
        return _consumer(stream, durable)

    async def _find(self, name: str) -> Stream:
        await self._reached()
        stream = self._streams.there(name)
        if stream is None:
            raise NotFoundError
        return stream

    async def _reached(self) -> None:
        await self._world.pause()
        if not self._up():
            raise ConnectionClosedError


def _consumer(stream: str, durable: str) -> ConsumerInfo:
    made = datetime.fromtimestamp(0, UTC)
    config = ConsumerConfig(durable_name=durable)
    return ConsumerInfo(name=durable, stream_name=stream, config=config, created=made)
