"""The attestor's own source of block heights: a node it may only read from. It knows no invoice and no payment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import structlog
from l402core.errors import L402Error
from l402core.lnd.port import NodeInfo
from l402core.metrics import NODE_HEIGHT

log = structlog.get_logger()


class ReadOnlyNode(Protocol):
    """What is asked of the node: `GetInfo` and `RegisterBlockEpochNtfn`."""

    async def info(self) -> NodeInfo: ...

    def watch_blocks(self) -> AsyncIterator[int]: ...


class NodeHeights:
    """The last height seen, and when. Silence makes it unknown, never old."""

    def __init__(
        self, node: ReadOnlyNode, *, network: str, max_age_s: float, poll_s: float, monotonic: Callable[[], float]
    ) -> None:
        self._node = node
        self._network = network
        self._max_age_s = max_age_s
        self._poll_s = poll_s
        self._monotonic = monotonic
        self._seen: tuple[int, float] | None = None

    def recent(self) -> int | None:
        """The height; None when nothing was seen within the allowed age."""
        if self._seen is None or self._monotonic() - self._seen[1] > self._max_age_s:
            return None
        return self._seen[0]

    async def follow(self) -> None:
        """Poll and listen until cancelled. Listening makes it fresh, polling keeps it so while no block comes.

        A node that catches up with the chain, or is on another network, is never believed.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            group.create_task(self._listen())

    async def _poll(self) -> None:
        answered = True
        while True:
            try:
                await self._look()
                answered = True
            except L402Error as error:
                if answered:
                    log.warning("height.unknown", code=error.code, detail=error.detail)
                answered = False
            await asyncio.sleep(self._poll_s)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(L402Error):  # polling says so already
                async for _ in self._node.watch_blocks():
                    await self._look()
            await asyncio.sleep(self._poll_s)

    async def _look(self) -> None:
        info = await self._node.info()
        if not info.synced or info.network != self._network:
            return
        # The highest stands: a reorganisation may only make us more careful.
        best = max(info.block_height, self._seen[0]) if self._seen else info.block_height
        self._seen = (best, self._monotonic())
        NODE_HEIGHT.set(best)
