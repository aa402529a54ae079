"""Server-sent hints: that something happened, never what. A slow listener is cut; it reads again what it cares about."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
from l402core.errors import Exhausted
from l402core.events import EVENTS, FACTS, RoundEvent, SubmissionEvent

from l402_gateway.metrics import LISTENERS

NAMES = tuple(
    event.name
    for event in EVENTS
    if event.stream == FACTS and event.writer != "worker" and issubclass(event, (RoundEvent, SubmissionEvent))
)
"""Facts that are hinted at."""
FOR_ALL = "round.opened"
"""Whoever listens to a round wants to hear of the next."""


class _About(msgspec.Struct):
    """All that is read of a fact."""

    round: int
    commitment: str = ""


class Hints:
    """Listeners by round, each with a bounded queue."""

    def __init__(self, *, max_clients: int, queue_size: int, on_change: Callable[[int, str], None]) -> None:
        self._max_clients, self._queue_size, self._on_change = max_clients, queue_size, on_change
        self._listeners: dict[asyncio.Queue[bytes | None], int] = {}
        self._closed = False

    async def on_event(self, subject: str, body: bytes) -> None:
        """One fact from the bus."""
        try:
            about = msgspec.json.decode(body, type=_About)
        except msgspec.MsgspecError:
            return  # a hint that cannot be read is no hint
        self._on_change(about.round, about.commitment)
        name = ".".join(subject.split(".")[:2])
        hint = b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(about))
        for queue, round_ in list(self._listeners.items()):
            if round_ == about.round or name == FOR_ALL:
                self._tell(queue, hint)

    def _tell(self, queue: asyncio.Queue[bytes | None], hint: bytes) -> None:
        if queue.qsize() >= self._queue_size:
            self._listeners.pop(queue, None)
            queue.put_nowait(None)
            return
        queue.put_nowait(hint)

    def listen(self, round_: int, *, keepalive_s: float) -> AsyncIterator[bytes]:
        """The stream of one listener. Raises Exhausted beyond the limit of listeners."""
        if self._closed or len(self._listeners) >= self._max_clients:
            raise Exhausted("listeners", f"{len(self._listeners)} listeners are connected; read instead")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(self._queue_size + 1)
        self._listeners[queue] = round_
        LISTENERS.set(len(self._listeners))
        return self._stream(queue, keepalive_s)

    async def _stream(self, queue: asyncio.Queue[bytes | None], keepalive_s: float) -> AsyncIterator[bytes]:
        try:
            yield b": hints only; read again what you care about\n\n"
            while True:
                try:
                    hint = await asyncio.wait_for(queue.get(), keepalive_s)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if hint is None:
                    return
                yield hint
        finally:
            self._listeners.pop(queue, None)
            LISTENERS.set(len(self._listeners))

    def close(self) -> None:
        """Let every listener go, so that the server can stop."""
        self._closed = True
        for queue in list(self._listeners):
            self._listeners.pop(queue)
            if not queue.full():
                queue.put_nowait(None)
