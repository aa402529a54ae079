"""One writer for one SQL database: changes that wait are committed together, each of them whole or not at all.

It knows SQLAlchemy and both dialects, and refuses to know what a change means. Nobody is answered before the commit.
"""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from l402core.dialects import NOT_NOW
from l402core.errors import Unavailable
from l402core.hot import Hand

R = TypeVar("R")
TOGETHER = 64
"""So many changes share a commit at most: what the first of them waits for the last is bounded."""


class Commit:
    """An open transaction that several changes share: its connection, the hand that remembers what they read, and rows
    that are written together once they are done."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.hand = Hand(connection)
        self.said: list[dict[str, Any]] = []
        self._spoken = 0

    def unspoken(self) -> list[dict[str, Any]]:
        """What was said and not written yet; whoever asks writes it."""
        rows, self._spoken = self.said[self._spoken :], len(self.said)
        return rows

    @contextmanager
    def undone_alone(self) -> Iterator[None]:
        """What is said inside is forgotten where it raises, and what was said before is not. The error goes on."""
        said, spoken = len(self.said), self._spoken
        try:
            yield
        except BaseException:
            del self.said[said:]
            self._spoken = spoken  # what was written meanwhile is undone with the rest, and written again
            self.hand.forget()
            raise


Work = Callable[[Commit], R]


class Change(Generic[R]):
    """One caller's change: what to do in an open transaction, and where to say how it went."""

    def __init__(self, work: Work[R], answer: "asyncio.Future[R]", about: str = "") -> None:
        self._work = work
        self.about = about
        self._context = contextvars.copy_context()  # spans and logs inside belong to the caller's trace
        self._answer = answer

    def make(self, commit: Commit) -> R:
        """Do it, as its caller."""
        return self._context.run(self._work, commit)

    def tell(self, outcome: R | Exception) -> None:
        """Answer the caller, who may have gone."""
        if self._answer.done():
            return
        if isinstance(outcome, Exception):
            self._answer.set_exception(outcome)
        else:
            self._answer.set_result(outcome)


class Writer:
    """Takes changes in order. `executor` runs one batch at a time; one that runs at once makes it synchronous.

    `last` is done once before each commit; `first` before several changes, with what they are about.
    """

    def __init__(
        self, engine: sa.Engine, executor: Executor, last: Callable[[Commit], None],
        first: Callable[[Commit, Sequence[str]], None],
    ) -> None:  # fmt: skip
        self._engine = engine
        self._executor = executor
        self._last = last
        self._first = first
        self._waiting: deque[Change[Any]] = deque()
        self._hand = threading.Lock()
        self._busy = False

    async def write(self, work: Work[R], about: str = "") -> R:
        """Do `work` in a transaction and commit. Raises what `work` raises, and Unavailable."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        with self._hand:
            self._waiting.append(Change(work, answer, about))
            begin, self._busy = not self._busy, True
        if begin:
            self._executor.submit(self._write_waiting, loop)
        return await answer

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            with self._hand:
                changes = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
                self._busy = bool(changes)
            if not changes:
                return
            outcomes = self._commit(changes)
            with suppress(RuntimeError):  # the loop is closed: nobody waits for an answer any more
                loop.call_soon_threadsafe(_tell, changes, outcomes)

    def _commit(self, changes: Sequence[Change[Any]]) -> list[Any]:
        try:
            with self._engine.begin() as connection:
                commit = Commit(connection)
                outcomes = [changes[0].make(commit)] if len(changes) == 1 else self._each(commit, changes)
                self._last(commit)
                return outcomes
        except NOT_NOW as error:
            refused = Unavailable("database", f"the database does not take the change: {error.orig}")
            return [refused for _ in changes]
        except Exception as error:  # noqa: BLE001 - its own caller's, who raises it; all was rolled back
            return [error for _ in changes]

    def _each(self, commit: Commit, changes: Sequence[Change[Any]]) -> list[Any]:
        about = list(dict.fromkeys(change.about for change in changes if change.about))
        if about:
            self._first(commit, about)
        return _each(commit, changes)


def _each(commit: Commit, changes: Sequence[Change[Any]]) -> list[Any]:
    """The outcome of each change, undone alone where it raised. Raises when the whole transaction is lost."""
    outcomes, hand = list[Any](), commit.hand
    hand.say("SAVEPOINT one")
    for change in changes:
        try:
            with commit.undone_alone():
                outcomes.append(change.make(commit))
        except NOT_NOW:
            raise
        except Exception as error:  # noqa: BLE001 - its own caller's, who raises it
            hand.say("ROLLBACK TO SAVEPOINT one")
            outcomes.append(error)
        else:
            hand.say("RELEASE SAVEPOINT one", "SAVEPOINT one")
    return outcomes


def _tell(changes: Sequence[Change[Any]], outcomes: Sequence[Any]) -> None:
    for change, outcome in zip(changes, outcomes, strict=True):
        change.tell(outcome)
