"""Questions of a history: asked of whoever answers them now, with a question or its answer lost on the way.

Nothing is kept: whoever asks again is answered again. It knows no stream.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from l402core import errors
from l402core.bus import NOBODY_YET_S
from l402core.errors import L402Error, Unavailable
from l402core.events import Question

from tests.simulation.faults import Kind
from tests.simulation.message import Line
from tests.simulation.world import Process, World

A = TypeVar("A", bound=msgspec.Struct)
Handler = Callable[[Any], Awaitable[Any]]


class Questions:
    """Who answers what, now."""

    def __init__(self, world: World, line: Line) -> None:
        self._world, self._line = world, line
        self._answers: dict[str, tuple[Process, Handler]] = {}
        self._asked = 0

    def answer(self, process: Process, answers: dict[str, Handler]) -> None:
        """A service has started, and answers these."""
        self._answers.update({name: (process, handler) for name, handler in answers.items()})

    def answering(self, name: str) -> tuple[Process, Handler] | None:
        """Who answers this question now."""
        found = self._answers.get(name)
        return found if found is not None and found[0].alive else None

    async def ask(self, question: Question, answer: type[A], timeout_s: float) -> A:
        """See `l402core.bus.Bus.ask`."""
        world = self._world
        self._asked += 1
        strike = world.strikes(self._asked, Kind.QUESTION_LOST, Kind.ANSWER_LOST)
        await world.pause()
        nobody = Unavailable("bus", f"{question.answered_by} did not answer {question.name} within {timeout_s:g} s")
        if not self._line.up:
            await asyncio.sleep(timeout_s)
            raise nobody
        found = self.answering(question.name)
        for _ in range(4):
            if found is not None:
                break
            await asyncio.sleep(NOBODY_YET_S / 4)
            found = self.answering(question.name)
        if found is None:
            raise nobody
        process, handler = found
        replied: asyncio.Future[tuple[bytes, L402Error | None]] = world.loop.create_future()
        if strike is None or strike.kind is not Kind.QUESTION_LOST:
            asked = msgspec.json.decode(msgspec.json.encode(question), type=type(question))
            world.spawn(process, self._answer(handler, asked, None if strike else replied))
        try:
            async with asyncio.timeout(timeout_s):
                body, error = await replied
        except TimeoutError:
            raise nobody from None
        await world.pause()
        if error is not None:
            kind = errors.BY_NAME.get(type(error).__name__, Unavailable)
            raise kind(error.code, error.detail)
        return msgspec.json.decode(body, type=answer)

    async def _answer(
        self, handler: Handler, question: Question, replied: "asyncio.Future[tuple[bytes, L402Error | None]] | None"
    ) -> None:
        body, refusal, cuts = b"", None, self._line.cuts
        try:
            body = msgspec.json.encode(await handler(question))
        except L402Error as error:
            refusal = error
        if replied is not None and not replied.done() and cuts == self._line.cuts:
            replied.set_result((body, refusal))
