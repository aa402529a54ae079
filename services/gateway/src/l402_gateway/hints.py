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


class _Listener:
    """One who listens: a bounded queue, a round, and the one commitment it asked about; '' for all of the round."""

    def __init__(self, round_: int, about: str, queue_size: int) -> None:
        self.round, self.about = round_, about
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(queue_size + 1)


class Hints:
    """Listeners by what they asked about, so that a fact costs as much as there are who care, and not who listen."""

    def __init__(self, *, max_clients: int, queue_size: int, on_change: Callable[[int, str], None]) -> None:
        self._max_clients, self._queue_size, self._on_change = max_clients, queue_size, on_change
        self._rounds: dict[int, dict[str, set[_Listener]]] = {}
        self._count = 0
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
        for listener in self._who_cares(about, name):
            self._tell(listener, hint)

    def _who_cares(self, about: _About, name: str) -> list[_Listener]:
        """Of one submission: who asked about it or about all; of a whole round: everybody in it."""
        if name == FOR_ALL:
            return [one for asked in self._rounds.values() for some in asked.values() for one in some]
        asked = self._rounds.get(about.round, {})
        if not about.commitment:
            return [one for some in asked.values() for one in some]
        return [*asked.get("", ()), *asked.get(about.commitment, ())]

    def _tell(self, listener: _Listener, hint: bytes) -> None:
        if listener.queue.qsize() >= self._queue_size:
            self._forget(listener)
            listener.queue.put_nowait(None)
            return
        listener.queue.put_nowait(hint)

    def listen(self, round_: int, *, keepalive_s: float, about: str = "") -> AsyncIterator[bytes]:
        """The stream of one listener. Raises Exhausted beyond the limit of listeners."""
        if self._closed or self._count >= self._max_clients:
            raise Exhausted("listeners", f"{self._count} listeners are connected; read instead")
        listener = _Listener(round_, about, self._queue_size)
        self._rounds.setdefault(round_, {}).setdefault(about, set()).add(listener)
        self._count += 1
        LISTENERS.set(self._count)
        return self._stream(listener, keepalive_s)

    async def _stream(self, listener: _Listener, keepalive_s: float) -> AsyncIterator[bytes]:
        try:
            yield b": hints only; read again what you care about\n\n"
            while True:
                try:
                    hint = await asyncio.wait_for(listener.queue.get(), keepalive_s)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if hint is None:
                    return
                yield hint
        finally:
            self._forget(listener)

    def _forget(self, listener: _Listener) -> None:
        """Again is fine."""
        asked = self._rounds.get(listener.round, {})
        some = asked.get(listener.about, set())
        if listener not in some:
            return
        some.remove(listener)
        if not some:
            del asked[listener.about]
        if not asked:
            del self._rounds[listener.round]
        self._count -= 1
        LISTENERS.set(self._count)

    def close(self) -> None:
        """Let every listener go, so that the server can stop."""
        self._closed = True
        for listener in [one for asked in self._rounds.values() for some in asked.values() for one in some]:
            self._forget(listener)
            if not listener.queue.full():
                listener.queue.put_nowait(None)
