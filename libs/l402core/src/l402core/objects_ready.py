"""Whether the object store answers, for `/readyz`: one look at a time, soon over, and remembered for a while.

It decides nothing. A store that hangs costs one look that hangs, however many ask meanwhile.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from l402core.errors import Unavailable

log = structlog.get_logger()
EVERY_S: Final = 2.0
WITHIN_S: Final = 1.0
"""Whoever probes has two seconds of patience, and asks for other parts too."""
STALE_S: Final = 6.0
"""So old the last answer may be while a look is slow: a store that takes a second for a byte is slow, and not away."""


class Store(Protocol):
    """What is asked."""

    async def look(self, *, writing: bool) -> None: ...


class ObjectsReady:
    """Of one store, as one process needs it: to write into, or to read from alone."""

    def __init__(self, store: Store, *, writing: bool, clock: Callable[[], float], within_s: float = WITHIN_S) -> None:
        self._store, self._writing, self._clock, self._within_s = store, writing, clock, within_s
        self._looking: asyncio.Task[None] | None = None
        self._well = True
        self._looked_at: float | None = None

    async def answers(self) -> bool:
        """As it was at the last look, two seconds ago at most, or six where the next one takes its time; else False."""
        if self._looking is None and (self._looked_at is None or self._clock() - self._looked_at >= EVERY_S):
            self._looking = asyncio.create_task(self._look())
        if self._looking is None:
            return self._well
        done, _ = await asyncio.wait({self._looking}, timeout=self._within_s)
        fresh = self._looked_at is not None and self._clock() - self._looked_at < STALE_S
        return self._well if done or fresh else False

    async def _look(self) -> None:
        well, detail = False, "the look itself failed"
        try:
            await self._store.look(writing=self._writing)
            well, detail = True, ""
        except Unavailable as error:
            detail = error.detail
        finally:
            if well is not self._well:
                log.warning("objects.changed", answers=well, detail=detail)
            self._well, self._looked_at, self._looking = well, self._clock(), None
