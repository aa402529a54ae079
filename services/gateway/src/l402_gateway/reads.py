"""Reads that do not stampede: one question for many askers, its answer kept for a moment. It knows no clock but its own.

A refusal is kept like an answer; a part that does not answer is asked again at once.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from l402core.errors import NotFound

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shared(Generic[K, V]):
    """Answers by key, at most `max_entries` of them, each for `ttl_s`."""

    def __init__(
        self,
        load: Callable[[K], Awaitable[V]],
        *,
        ttl_s: float,
        clock: Callable[[], float],
        max_entries: int = 1_024,
    ) -> None:
        self._load, self._ttl_s, self._clock, self._max_entries = load, ttl_s, clock, max_entries
        self._known: OrderedDict[K, tuple[float, V | NotFound]] = OrderedDict()
        self._asked: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """The value, or whatever `load` raises."""
        known = self._known.get(key)
        if known is not None and self._clock() < known[0]:
            if isinstance(known[1], NotFound):
                raise NotFound(known[1].code, known[1].detail)
            return known[1]
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._ask(key))
            task.add_done_callback(lambda done: self._forget(key, done))
        # One asker that leaves must not take the answer from the others.
        return await asyncio.shield(task)

    def drop(self, key: K) -> None:
        """What was known, or asked, before now is out of date."""
        self._known.pop(key, None)
        self._asked.pop(key, None)

    async def _ask(self, key: K) -> V:
        me = asyncio.current_task()
        try:
            value = await self._load(key)
        except NotFound as error:
            self._keep(key, error, me)
            raise
        self._keep(key, value, me)
        return value

    def _keep(self, key: K, value: V | NotFound, task: object) -> None:
        if self._asked.get(key) is not task:
            return  # dropped while it was on its way
        self._known[key] = (self._clock() + self._ttl_s, value)
        self._known.move_to_end(key)
        while len(self._known) > self._max_entries:
            self._known.popitem(last=False)

    def _forget(self, key: K, done: asyncio.Task[V]) -> None:
        if self._asked.get(key) is done:
            del self._asked[key]
        if not done.cancelled():
            done.exception()  # seen, also where every asker has left
