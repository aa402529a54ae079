"""Waiting with a deadline: what may work later is tried again, and a hint ends a pause. It knows no protocol."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from l402core.errors import TooEarly, TooMany, WorldError

log = structlog.get_logger()
T = TypeVar("T")
SETTLE_S = 0.02
"""A hint and what it hints at come by different ways."""


class Patience:
    """How long to wait between two looks; `hint` ends a pause early."""

    def __init__(self, poll_s: float, now_ms: Callable[[], int]) -> None:
        self._poll_s, self._now_ms = poll_s, now_ms
        self._hinted = asyncio.Event()

    def hint(self) -> None:
        """Something happened: look now."""
        self._hinted.set()

    async def until(self, until_ms: int, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it works, at least once. Raises the last error at the deadline, and at once what is final."""
        while True:
            try:
                return await call()
            except (WorldError, TooEarly, TooMany) as error:
                if self._now_ms() + self._poll_s * 1_000 >= until_ms:
                    raise
                log.info("step.again", code=error.code, detail=error.detail)
            await self.pause()

    async def pause(self) -> None:
        """Until a hint comes, or the poll interval is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s):
                await self._hinted.wait()
                await asyncio.sleep(SETTLE_S)
        self._hinted.clear()
