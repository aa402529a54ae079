"""Which escrows are frozen, as far as this replica was told. It sends nothing; whoever sends asks here in the last moment.

Each replica hears each freeze and thaw as it is said, because any of them may have the lock in hand; one of them is told for
sure, by a consumer that all share, and whatever is heard is on disk. A replica that begins, or was cut off from the bus, may
have missed a word: it sends nothing until the settler has told it how things stand.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
from l402core.delivering import MONEY_PATIENCE, Consumer
from l402core.errors import L402Error, Unavailable
from l402core.events import EscrowFrozen, EscrowThawed, Question, ReadStops, Stand, StopsView

log = structlog.get_logger()
A = TypeVar("A", bound=msgspec.Struct)
FROZEN = Consumer("invoicer", EscrowFrozen, patience=MONEY_PATIENCE)
THAWED = Consumer("invoicer", EscrowThawed, patience=MONEY_PATIENCE)
AGAIN_S = 0.5


class Notes(Protocol):
    """What was heard, on disk. Calls block for a moment."""

    def note_stop(self, commitment: str, revision: int, now_ms: int, *, frozen: bool) -> bool: ...

    def stopped(self) -> set[str]: ...


class Wire(Protocol):
    """What is needed of the bus: to be told for sure, to overhear what another replica is told, and to hear of a cut."""

    def consume(self, consumer: Consumer, handler: Callable[[Any], Awaitable[None]]) -> None: ...

    def watch(self, names: tuple[str, ...], on_event: Callable[[str, bytes], Awaitable[None]]) -> None: ...

    def when_cut(self, tell: Callable[[], None]) -> None: ...


class Asks(Protocol):
    """How the settler is asked."""

    async def ask(self, question: Question, answer: type[A]) -> A: ...


class Stops:
    """Begins with what is on disk, and in doubt. `settler` None: everything is heard, as in a test of one process."""

    def __init__(self, notes: Notes, *, now_ms: Callable[[], int], settler: Asks | None = None) -> None:
        self._notes, self._now_ms, self._settler = notes, now_ms, settler
        self._stopped = notes.stopped()
        self._doubt = asyncio.Event()
        self.knows = True
        """Whether no word can have been missed."""
        self.doubt()

    def register(self, bus: Wire) -> None:
        """Listen for both, in both ways. Call before the bus starts."""
        bus.consume(FROZEN, self.on_frozen)
        bus.consume(THAWED, self.on_thawed)
        bus.watch((EscrowFrozen.name, EscrowThawed.name), self.on_overheard)
        bus.when_cut(self.doubt)

    def holds(self, commitment: str) -> bool:
        """Whether nothing may be sent for it, as far as was heard."""
        return commitment in self._stopped

    def check(self, commitment: str) -> None:
        """Asked in the last moment. Raises Unavailable where nothing may be sent now."""
        if self.holds(commitment):
            raise Unavailable("frozen", "it waits: its escrow is frozen")
        if not self.knows:
            raise Unavailable("stops_unknown", "it waits: the settler has not said yet what is frozen")

    def doubt(self) -> None:
        """From here on a word may be missed: we begin, or the bus was cut off, or is there again."""
        if self._settler is not None:
            self.knows = False
            self._doubt.set()

    async def learn_forever(self) -> None:
        """Ask whenever in doubt, until there is an answer; for ever."""
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            try:
                await self._learn()
            except L402Error as silent:
                log.warning("stops.unknown", code=silent.code, detail=silent.detail)
                self._doubt.set()
                await asyncio.sleep(AGAIN_S)

    async def _learn(self) -> None:
        """Only then is what is overheard the whole of it: we listened before we asked."""
        assert self._settler is not None
        view = await self._settler.ask(ReadStops(about=tuple(sorted(self._stopped))), StopsView)
        for stand in view.stands:
            await self._stand(stand)
        self.knows = not self._doubt.is_set()
        log.info("stops.known", stopped=len(self._stopped))

    async def on_frozen(self, event: EscrowFrozen) -> None:
        """A lock that is in hand already is not sent; what was sent is not ours to stop. Raises Unavailable."""
        await self._stand(Stand(commitment=event.commitment, revision=event.revision, frozen=True))

    async def on_thawed(self, event: EscrowThawed) -> None:
        """It may be sent, as long as there is time. Raises Unavailable."""
        await self._stand(Stand(commitment=event.commitment, revision=event.revision, frozen=False))

    async def on_overheard(self, subject: str, body: bytes) -> None:
        """The same, whichever replica's consumer is given it."""
        try:
            if subject.startswith(f"{EscrowFrozen.name}."):
                await self.on_frozen(msgspec.json.decode(body, type=EscrowFrozen))
            else:
                await self.on_thawed(msgspec.json.decode(body, type=EscrowThawed))
        except (Unavailable, msgspec.MsgspecError) as error:
            log.warning("stop.not_noted", subject=subject, error=type(error).__name__)

    async def _stand(self, stand: Stand) -> None:
        """Facts come in any order: the highest revision holds."""
        commitment = stand.commitment
        if stand.frozen:
            self._stopped.add(commitment)  # before the disk: it may be sent in this very moment
        note = functools.partial(self._notes.note_stop, commitment, stand.revision, self._now_ms(), frozen=stand.frozen)
        if await asyncio.to_thread(note):
            self._stopped.discard(commitment)
        else:
            self._stopped.add(commitment)
        log.warning("escrow.stands", commitment=commitment, stopped=self.holds(commitment))
