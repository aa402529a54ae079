"""Streams that vanish while we run: noticed, declared again as they were, and whoever keeps books says all again.

It knows JetStream's lists of streams and consumers, and refuses to know what is said again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import nats
import structlog
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig, ConsumerInfo, StreamConfig, StreamInfo
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from l402core.bus import DEAD
from l402core.bus_metrics import lies_there
from l402core.errors import Unavailable
from l402core.events import FACTS, WORK
from l402core.jetstream import PING_EVERY_S, inbox

log = structlog.get_logger()
LOOK_EVERY_S = 2.0
LIST_EVERY = 5
"""Looks: reading what every consumer does is most of one, and where one is gone the stream counts one less."""
TIMEOUT_S = 5.0
NAMES = (FACTS, WORK, DEAD)
SayAgain = Callable[[str], Awaitable[None]]


class Declared:
    """What the migration made, as it was when we started."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._jetstream = jetstream
        self._streams: dict[str, StreamConfig] = {}
        self._consumers: dict[tuple[str, str], ConsumerConfig] = {}
        self._looks = 0
        self._listed: dict[str, list[ConsumerInfo]] = {}
        self._known: dict[str, StreamInfo | None] = {}
        """As it was at the last look; None: it was not there, and nobody has told us how to declare it."""

    async def restore(self) -> list[str]:
        """Declare again what is gone; its names, and those of streams that somebody else made again meanwhile.

        Then take note of every stream and durable consumer that is there, those of services that came later too. Where it
        raises, nothing is noted: the next look finds again what this one had begun to mend.
        """
        gone = []
        seen = await self._look()
        for name, known in self._known.items():
            if name not in seen and name in self._streams:
                seen[name] = _Look(await self._jetstream.add_stream(self._streams[name]), [])
                gone.append(name)
            elif name in seen and (known is None or _is_another(known, seen[name].stream)):
                gone.append(name)
        there = {(name, one.name) for name, look in seen.items() for one in look.consumers}
        for stream, name in sorted(self._consumers.keys() - there):
            seen[stream].consumers.append(await self._jetstream.add_consumer(stream, self._consumers[stream, name]))
            gone.append(f"{stream}/{name}")
        self._note(seen)
        return gone

    def incarnation(self) -> str:
        """Which making of the facts' stream was there at the last look; "" for none."""
        return _incarnation(self._known.get(FACTS))

    async def _look(self) -> dict[str, "_Look"]:
        """What is there now."""
        seen = {}
        for name in NAMES:
            with contextlib.suppress(NotFoundError):
                info = await self._jetstream.stream_info(name)
                listed = self._listed_as_before(name, info)
                seen[name] = _Look(info, listed or await self._jetstream.consumers_info(name))
        return seen

    def _listed_as_before(self, name: str, stream: StreamInfo) -> list[ConsumerInfo]:
        """What the last look found there, where nothing tells that it is another now; else empty."""
        known, listed = self._known.get(name), self._listed.get(name, [])
        same = known is not None and not _is_another(known, stream) and stream.state.consumer_count == len(listed)
        return list(listed) if same and self._looks % LIST_EVERY else []

    def _note(self, seen: dict[str, "_Look"]) -> None:
        self._looks += 1
        self._listed = {name: look.consumers for name, look in seen.items()}
        self._known = {name: seen[name].stream if name in seen else None for name in NAMES}
        for name, look in seen.items():
            self._streams[name] = look.stream.config
            self._consumers.update({(name, one.name): one.config for one in look.consumers})
        every = [one for look in seen.values() for one in look.consumers]
        dead = seen[DEAD].stream.state.messages if DEAD in seen else 0
        lies_there([(one.name, one.num_pending or 0, one.num_ack_pending or 0) for one in every], dead)


class _Look(NamedTuple):
    """One stream as it is."""

    stream: StreamInfo
    consumers: list[ConsumerInfo]


def _is_another(known: StreamInfo, seen: StreamInfo) -> bool:
    """Whether it was made again, or went back to what it was once; its numbers alone may have grown past the old ones."""
    return seen.created != known.created or seen.state.last_seq < known.state.last_seq


def _incarnation(facts: StreamInfo | None) -> str:
    return f"{facts.created.timestamp() * 1000:.0f}" if facts is not None and facts.created is not None else ""


async def incarnation_at(jetstream: JetStreamContext) -> str:
    """The same, asked now."""
    try:
        return _incarnation(await jetstream.stream_info(FACTS))
    except NotFoundError:
        return ""


async def incarnation(url: str, service: str) -> str:
    """Which making of the facts' stream there is. Raises Unavailable.

    An answer may have been lost with an older one: a request is told from the same request of another making.
    """
    try:
        client = await nats.connect(
            url, inbox_prefix=inbox(service), allow_reconnect=False, connect_timeout=int(TIMEOUT_S)
        )
        try:
            return await incarnation_at(client.jetstream(timeout=TIMEOUT_S))
        finally:
            await client.close()
    except (NatsError, OSError, TimeoutError) as error:
        raise Unavailable("bus", f"NATS does not tell of its streams: {error or type(error).__name__}") from error


async def keep_streams(url: str, service: str, say_again: SayAgain, *, every_s: float = LOOK_EVERY_S) -> None:
    """Look for ever; whenever a stream or a consumer was gone, it is there again and `say_again` is called with the
    incarnation of the facts' stream."""
    client = await nats.connect(
        url,
        inbox_prefix=inbox(service),
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        ping_interval=int(PING_EVERY_S),
    )
    try:
        await keep_declared(Declared(client.jetstream(timeout=TIMEOUT_S)), say_again, every_s=every_s)
    finally:
        await client.close()


async def keep_declared(declared: Declared, say_again: SayAgain, *, every_s: float) -> None:
    """Look for ever, over a connection that somebody else keeps."""
    task = asyncio.current_task()
    assert task is not None
    while not task.cancelling():  # Python 3.11's wait_for, in the client, may swallow a cancellation
        try:
            gone = await declared.restore()
            if gone:
                log.critical("streams.restored", gone=gone)
                await say_again(declared.incarnation())
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("streams.unseen", error=type(error).__name__)
        await asyncio.sleep(every_s)
