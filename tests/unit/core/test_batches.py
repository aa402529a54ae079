"""Batches lose nothing, keep the order, and end as their stream ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from l402core.batches import batches
from l402core.errors import Unavailable


async def numbers(count: int, *, cut: bool = False) -> AsyncIterator[int]:
    """A stream, perhaps cut off."""
    for number in range(count):
        yield number
    if cut:
        raise Unavailable("stream", "cut")


async def test_what_waits_is_taken_together_in_order() -> None:
    """A slow reader gets few lists, none longer than allowed, and every item once."""
    taken = []
    async for items in batches(numbers(100), at_most=16):
        taken.append(items)
        for _ in range(50):
            await asyncio.sleep(0)
    assert [number for items in taken for number in items] == list(range(100))
    assert max(len(items) for items in taken) == 16


async def test_a_cut_stream_is_told_after_what_came_before() -> None:
    """Nothing that had come is lost with the error."""
    taken: list[int] = []

    async def take() -> None:
        async for items in batches(numbers(20, cut=True), at_most=4):
            taken.extend(items)

    with pytest.raises(Unavailable, match="cut"):
        await take()
    assert taken == list(range(20))


async def test_an_empty_stream_has_no_batches() -> None:
    """Not even an empty one."""
    assert [items async for items in batches(numbers(0), at_most=4)] == []
