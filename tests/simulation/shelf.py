"""Redis of a history: unpaid challenges, limits and locks in memory, which may be wiped at any time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from l402_gateway.challenge import Unpaid
from l402_gateway.problems import Limited
from l402core.errors import Unavailable

from tests.simulation.world import World

POLL_S, LOCK_S = 0.05, 10.0


class SimShelf:
    """`l402_gateway.app.Shelf`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._unpaid: dict[str, tuple[float, Unpaid]] = {}
        self._counts: dict[str, tuple[float, int]] = {}
        self._locks: dict[str, float] = {}

    def wipe(self) -> None:
        """Everything is forgotten."""
        self._unpaid.clear()
        self._counts.clear()
        self._locks.clear()

    async def unpaid(self, key: str) -> Unpaid | None:
        """The challenge under this key, if it is still there."""
        await self._world.pause()
        until, unpaid = self._unpaid.get(key, (0.0, None))
        return unpaid if self._world.monotonic() < until else None

    async def keep(self, key: str, unpaid: Unpaid, *, for_s: int) -> None:
        """Hand it out again for so long."""
        await self._world.pause()
        self._unpaid[key] = (self._world.monotonic() + for_s, unpaid)

    async def count(self, limit: str, subject: str, *, at_most: int, window_s: int) -> None:
        """Raises Limited beyond a limit."""
        now, key = self._world.monotonic(), f"{limit}:{subject}"
        until, count = self._counts.get(key, (0.0, 0))
        self._counts[key] = (until, count + 1) if now < until else (now + window_s, 1)
        if self._counts[key][1] > at_most:
            raise Limited(f"{limit}_limit", "too many", retry_after_s=1)

    @contextlib.asynccontextmanager
    async def alone(self, key: str, *, wait_s: float) -> AsyncIterator[None]:
        """One at a time; a lock of a dead gateway ends by itself."""
        ends_at = self._world.monotonic() + wait_s
        while self._world.monotonic() < self._locks.get(key, 0.0):
            if self._world.monotonic() >= ends_at:
                raise Unavailable("mint_busy", "the same challenge is being made elsewhere; ask again")
            await asyncio.sleep(POLL_S)
        self._locks[key] = self._world.monotonic() + LOCK_S
        try:
            yield
        finally:
            self._locks.pop(key, None)
