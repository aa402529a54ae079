"""The attestor's own source of block heights: a node it may only read from. It knows no invoice and no payment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import structlog
from l402core.errors import L402Error
from l402core.lnd.fitness import Trouble, readiness, silence, trouble
from l402core.lnd.port import NodeInfo
from l402core.metrics import NODE_HEIGHT, tell_fitness

log = structlog.get_logger()


class ReadOnlyNode(Protocol):
    """What is asked of the node: `GetInfo` and `RegisterBlockEpochNtfn`."""

    async def info(self) -> NodeInfo: ...

    def watch_blocks(self) -> AsyncIterator[int]: ...


class NodeHeights:
    """The last height seen, and when. Silence makes it unknown, never old; and what stands against the node that tells it."""

    def __init__(
        self, node: ReadOnlyNode, *, network: str, max_age_s: float, poll_s: float, monotonic: Callable[[], float]
    ) -> None:
        self._node = node
        self._network = network
        self._max_age_s = max_age_s
        self._poll_s = poll_s
        self._monotonic = monotonic
        self._seen: tuple[int, float] | None = None
        self._found: Trouble | None = Trouble("answers", "the node has not answered yet")

    def recent(self) -> int | None:
        """The height; None when nothing was seen within the allowed age."""
        if self._seen is None or self._monotonic() - self._seen[1] > self._max_age_s:
            return None
        return self._seen[0]

    def readiness(self) -> dict[str, bool]:
        """For `/readyz`: whether a height is known, whether the node is fit to tell it, and by name why not."""
        return {"height": self.recent() is not None, **readiness("lnd", self._found.check if self._found else "")}

    async def follow(self) -> None:
        """Poll and listen until cancelled. Listening makes it fresh, polling keeps it so while no block comes.

        A node that catches up with the chain, is on another network or too old, is never believed.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            group.create_task(self._listen())

    async def _poll(self) -> None:
        while True:
            self._blame(await self._look())
            await asyncio.sleep(self._poll_s)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(L402Error):  # polling says so already
                async for _ in self._node.watch_blocks():
                    await self._look()  # blames nobody: lnd tells of a block before it calls itself synced to it
            await asyncio.sleep(self._poll_s)

    async def _look(self) -> Trouble | None:
        """Believe the height of a fit node; what stands against another."""
        try:
            info = await self._node.info()
        except L402Error as error:
            return silence(error)
        found = trouble(info, network=self._network)
        if found is None:
            # The highest stands: a reorganisation may only make us more careful.
            best = max(info.block_height, self._seen[0]) if self._seen else info.block_height
            self._seen = (best, self._monotonic())
            NODE_HEIGHT.set(best)
        return found

    def _blame(self, found: Trouble | None) -> None:
        if found is not None and found != self._found:
            log.warning("height.unknown", check=found.check, detail=found.sentence)
        self._found = found
        tell_fitness(found.check if found else "")
