"""Which escrows are frozen, as far as this replica was told. It sends nothing; whoever sends asks here in the last moment.

Each replica hears each freeze and thaw as it is said, because any of them may have the lock in hand; one of them is told for
sure, by a consumer that all share, and whatever is heard is on disk.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
import structlog
from l402core.bus import MONEY_PATIENCE, Consumer
from l402core.errors import Unavailable
from l402core.events import EscrowFrozen, EscrowThawed

log = structlog.get_logger()
FROZEN = Consumer("invoicer", EscrowFrozen, patience=MONEY_PATIENCE)
THAWED = Consumer("invoicer", EscrowThawed, patience=MONEY_PATIENCE)


class Notes(Protocol):
    """What was heard, on disk. Calls block for a moment."""

    def note_stop(self, commitment: str, revision: int, now_ms: int, *, frozen: bool) -> bool: ...

    def stopped(self) -> set[str]: ...


class Wire(Protocol):
    """What is needed of the bus: to be told for sure, and to overhear what another replica is told."""

    def consume(self, consumer: Consumer, handler: Callable[[Any], Awaitable[None]]) -> None: ...

    def watch(self, names: tuple[str, ...], on_event: Callable[[str, bytes], Awaitable[None]]) -> None: ...


class Stops:
    """Begins with what is on disk."""

    def __init__(self, notes: Notes, *, now_ms: Callable[[], int]) -> None:
        self._notes, self._now_ms = notes, now_ms
        self._stopped = notes.stopped()

    def register(self, bus: Wire) -> None:
        """Listen for both, in both ways. Call before the bus starts."""
        bus.consume(FROZEN, self.on_frozen)
        bus.consume(THAWED, self.on_thawed)
        bus.watch((EscrowFrozen.name, EscrowThawed.name), self.on_overheard)

    def holds(self, commitment: str) -> bool:
        """Whether nothing may be sent for it."""
        return commitment in self._stopped

    async def on_frozen(self, event: EscrowFrozen) -> None:
        """A lock that is in hand already is not sent; what was sent is not ours to stop. Raises Unavailable."""
        await self._stand(event, frozen=True)

    async def on_thawed(self, event: EscrowThawed) -> None:
        """It may be sent, as long as there is time. Raises Unavailable."""
        await self._stand(event, frozen=False)

    async def on_overheard(self, subject: str, body: bytes) -> None:
        """The same, whichever replica's consumer is given it."""
        try:
            if subject.startswith(f"{EscrowFrozen.name}."):
                await self.on_frozen(msgspec.json.decode(body, type=EscrowFrozen))
            else:
                await self.on_thawed(msgspec.json.decode(body, type=EscrowThawed))
        except (Unavailable, msgspec.MsgspecError) as error:
            log.warning("stop.not_noted", subject=subject, error=type(error).__name__)

    async def _stand(self, event: EscrowFrozen | EscrowThawed, *, frozen: bool) -> None:
        """Facts come in any order: the highest revision holds."""
        if frozen:
            self._stopped.add(event.commitment)  # before the disk: it may be sent in this very moment
        note = functools.partial(self._notes.note_stop, event.commitment, event.revision, self._now_ms(), frozen=frozen)
        if await asyncio.to_thread(note):
            self._stopped.discard(event.commitment)
        else:
            self._stopped.add(event.commitment)
        log.warning("escrow.stands", commitment=event.commitment, stopped=self.holds(event.commitment))
