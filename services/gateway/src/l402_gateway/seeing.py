"""What the pages for people are made of: the shared reads of everybody, asked together, a missing one left out.

However many look, each question goes over the bus once in a while. It decides nothing and renders nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from l402core.control import Ready
from l402core.errors import L402Error
from l402core.events import (
    ChannelsView,
    LineupView,
    OracleView,
    PartsView,
    Question,
    ReadAttestorParts,
    ReadInvoicerParts,
    ReadLineup,
    ReadOracle,
    ReadParts,
    ReadSettlerParts,
    ReadStatus,
    ReadStory,
    ReadWorkerParts,
    RoundView,
    StatusView,
    StoryView,
)

from l402_gateway.reads import Shared

T = TypeVar("T")
A = TypeVar("A", bound=msgspec.Struct)
Ask = Callable[[Question, type[A]], Awaitable[A]]
LOOK_S = 1.0
"""How old a look may be; whoever is told of a change waits a little longer before looking again."""
LOOK_TIMEOUT_S = 2.0
"""Nobody who only looks waits longer for an answer."""
SLOW_S = 5.0
"""The same of what changes slowly, or costs more to ask."""
PARTS: tuple[ReadParts, ...] = (ReadSettlerParts(), ReadInvoicerParts(), ReadAttestorParts(), ReadWorkerParts())


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One service: what it needs, and whether that answers; None where the service itself does not."""

    name: str
    needs: dict[str, bool] | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the whole. None is what was not to be had now."""

    now_ms: int
    round: RoundView | None
    status: StatusView | None
    lineup: LineupView | None
    before: LineupView | None
    """Of the round before the current one."""
    oracle: OracleView | None
    channels: ChannelsView | None
    parts: tuple[Part, ...]


class Reads:
    """What is asked of the settler, the attestor and the others, each answer kept for a moment."""

    def __init__(
        self, ask: Callable[[Question, type[msgspec.Struct]], Awaitable[msgspec.Struct]], clock: Callable[[], float]
    ) -> None:
        self._ask = ask
        self.status: Shared[None, StatusView] = Shared(self._status, ttl_s=LOOK_S, clock=clock)
        self.lineup: Shared[int, LineupView] = Shared(self._lineup, ttl_s=LOOK_S, clock=clock)
        self.story: Shared[tuple[int, str], StoryView] = Shared(self._story, ttl_s=LOOK_S, clock=clock)
        self.oracle: Shared[None, OracleView] = Shared(self._oracle, ttl_s=SLOW_S, clock=clock)
        self.needs: Shared[ReadParts, PartsView | None] = Shared(self._needs, ttl_s=SLOW_S, clock=clock)
        """None of whom does not answer, kept as long: to wait for a silent part at every look would be slow."""

    async def _status(self, _key: None) -> StatusView:
        return await self._asked(ReadStatus(), StatusView)

    async def _lineup(self, round_: int) -> LineupView:
        return await self._asked(ReadLineup(round=round_), LineupView)

    async def _story(self, key: tuple[int, str]) -> StoryView:
        return await self._asked(ReadStory(round=key[0], commitment=key[1]), StoryView)

    async def _oracle(self, _key: None) -> OracleView:
        return await self._asked(ReadOracle(), OracleView)

    async def _needs(self, question: ReadParts) -> PartsView | None:
        return await _or_none(self._asked(question, PartsView))

    async def _asked(self, question: Question, answer: type[A]) -> A:
        got = await self._ask(question, answer)
        assert isinstance(got, answer)
        return got


class Seeing:
    """One look at everything, for all who look at the same time."""

    def __init__(
        self,
        reads: Reads,
        rounds: Shared[int, RoundView],
        channels: Callable[[], Awaitable[ChannelsView]],
        ready: Ready,
        *,
        now_ms: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self.reads, self._rounds, self._channels, self._ready, self._now_ms = reads, rounds, channels, ready, now_ms
        self._all: Shared[None, Seen] = Shared(self._look, ttl_s=LOOK_S, clock=clock)

    async def look(self) -> Seen:
        """Everything that is to be had."""
        return await self._all.get(None)

    async def _look(self, _key: None) -> Seen:
        round_ = await _or_none(self._rounds.get(0))
        lineup = self.reads.lineup
        status, now, before, oracle, channels, parts = await asyncio.gather(
            _or_none(self.reads.status.get(None)),
            _or_none(lineup.get(round_.round)) if round_ else _nothing(),
            _or_none(lineup.get(round_.round - 1)) if round_ and round_.round > 1 else _nothing(),
            _or_none(self.reads.oracle.get(None)),
            _or_none(self._channels()),
            self._parts(),
        )
        return Seen(
            now_ms=self._now_ms(), round=round_, status=status, lineup=now, before=before, oracle=oracle,
            channels=channels, parts=parts,
        )  # fmt: skip

    async def _parts(self) -> tuple[Part, ...]:
        told = await asyncio.gather(*(self.reads.needs.get(question) for question in PARTS))
        others = (
            Part(name=question.answered_by, needs=one.parts if one else None)
            for question, one in zip(PARTS, told, strict=True)
        )
        return Part(name="gateway", needs=await self._ready()), *others


async def _or_none(read: Awaitable[T]) -> T | None:
    """A part that is away leaves a gap, and the rest is shown."""
    try:
        return await read
    except L402Error:
        return None


async def _nothing() -> None:
    return None
