"""What waits in a stream, taken together: one loop instead of one step for each item. It knows nothing of the items."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def batches(stream: AsyncIterator[T], *, at_most: int) -> AsyncGenerator[list[T], None]:
    """Lists of what has come since the last one, in order, at least one item each. Raises what the stream raises."""
    queue: asyncio.Queue[T] = asyncio.Queue(maxsize=at_most)

    async def pump() -> None:
        async for item in stream:
            await queue.put(item)

    pumping = asyncio.create_task(pump())
    try:
        while not (pumping.done() and queue.empty()):
            first = asyncio.ensure_future(queue.get())
            await asyncio.wait({first, pumping}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                first.cancel()
                continue
            yield [first.result(), *(queue.get_nowait() for _ in range(min(queue.qsize(), at_most - 1)))]
        pumping.result()
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
