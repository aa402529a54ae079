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
from l402core.events import FACTS, WORK
from l402core.jetstream import PING_EVERY_S, inbox

log = structlog.get_logger()
LOOK_EVERY_S = 2.0
TIMEOUT_S = 5.0
NAMES = (FACTS, WORK, DEAD)


class Declared:
    """What the migration made, as it was when we started."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._jetstream = jetstream
        self._streams: dict[str, StreamConfig] = {}
        self._consumers: dict[tuple[str, str], ConsumerConfig] = {}
        self._last: dict[str, int] = {}

    async def remember(self) -> None:
        """Take note of every stream and durable consumer that is there, those of services that came later too.

        What lies there is a number for whoever watches.
        """
        self._note(await self._look())

    async def restore(self) -> list[str]:
        """Declare again what is gone; its names, and those of streams that somebody else made again meanwhile.

        Where nothing is gone, what is there is noted as `remember` does: a look costs as much as a hundred messages.
        """
        gone = []
        seen = await self._look()
        for name, config in self._streams.items():
            if name not in seen:
                await self._jetstream.add_stream(config)
                gone.append(name)
            elif seen[name].stream.state.last_seq < self._last[name]:
                gone.append(name)  # a stream's numbers never go back: this one is another
        there = {(name, one.name) for name, look in seen.items() for one in look.consumers}
        for stream, name in self._consumers.keys() - there:
            await self._jetstream.add_consumer(stream, self._consumers[stream, name])
            gone.append(f"{stream}/{name}")
        if not gone:
            self._note(seen)
        return gone

    async def _look(self) -> dict[str, "_Look"]:
        """What is there now."""
        seen = {}
        for name in NAMES:
            with contextlib.suppress(NotFoundError):
                info = await self._jetstream.stream_info(name)
                seen[name] = _Look(info, await self._jetstream.consumers_info(name))
        return seen

    def _note(self, seen: dict[str, "_Look"]) -> None:
        for name, look in seen.items():
            self._streams[name], self._last[name] = look.stream.config, look.stream.state.last_seq
            self._consumers.update({(name, one.name): one.config for one in look.consumers})
        every = [one for look in seen.values() for one in look.consumers]
        dead = seen[DEAD].stream.state.messages if DEAD in seen else 0
        lies_there([(one.name, one.num_pending or 0, one.num_ack_pending or 0) for one in every], dead)


class _Look(NamedTuple):
    """One stream as it is."""

    stream: StreamInfo
    consumers: list[ConsumerInfo]


async def keep_streams(
    url: str, service: str, say_again: Callable[[], Awaitable[None]], *, every_s: float = LOOK_EVERY_S
) -> None:
    """Look for ever; whenever a stream or a consumer was gone, it is there again and `say_again` is called."""
    client = await nats.connect(
        url,
        inbox_prefix=inbox(service),
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        ping_interval=int(PING_EVERY_S),
    )
    declared = Declared(client.jetstream(timeout=TIMEOUT_S))
    task = asyncio.current_task()
    assert task is not None
    try:
        while not task.cancelling():  # Python 3.11's wait_for, in the client, may swallow a cancellation
            try:
                gone = await declared.restore()
                if gone:
                    log.critical("streams.restored", gone=gone)
                    await say_again()
                    await declared.remember()
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("streams.unseen", error=type(error).__name__)
            await asyncio.sleep(every_s)
    finally:
        await client.close()
