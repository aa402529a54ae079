"""Changes that wait share a commit, and stay each other's strangers."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from l402core.errors import Conflict, Unavailable
from l402core.events import Event
from l402core.outbox import Database, Transaction, outbox_table
from l402core.telemetry import span, trace_id
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

metadata = sa.MetaData()
outbox = outbox_table(metadata)
notes = sa.Table("notes", metadata, sa.Column("word", sa.String(20), primary_key=True))


class Held:
    """A database whose writer a test holds back; it counts commits."""

    def __init__(self, file: Path, ahead: Callable[[Transaction, Sequence[str]], None] | None = None) -> None:
        self.database = Database(f"sqlite:///{file}", outbox, ahead=ahead)
        metadata.create_all(self.database.engine)
        self.commits = 0
        self.held, self.go = threading.Event(), threading.Event()
        event.listen(self.database.engine, "commit", self._committed)

    def _committed(self, _connection: sa.Connection) -> None:
        self.commits += 1

    def _hold(self, _tx: Transaction) -> None:
        self.held.set()
        self.go.wait(10)

    async def together(self, *works: "Work", about: Sequence[str] = ()) -> list[object]:
        """The outcomes of changes that wait for the same commit."""
        first = asyncio.create_task(self.database.transact(self._hold))
        await asyncio.to_thread(self.held.wait, 10)
        named = zip(works, about or [""] * len(works), strict=True)
        waiting = [asyncio.create_task(self.database.transact(work, about=name)) for work, name in named]
        await asyncio.sleep(0)
        self.go.set()
        await first
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    async def words(self) -> list[str]:
        """What is in the table."""
        return [row.word for row in await self.database.read(lambda tx: tx.rows(sa.select(notes)))]


class Work:
    """Write a word; then perhaps fail."""

    def __init__(self, word: str, failure: Exception | None = None) -> None:
        self.word, self.failure, self.trace = word, failure, ""

    def __call__(self, tx: Transaction) -> str:
        self.trace = trace_id()
        tx.execute(sa.insert(notes), {"word": self.word})
        if self.failure:
            raise self.failure
        return self.word


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    """Closed after the test."""
    one = Held(tmp_path / "notes.sqlite3")
    yield one
    one.database.close()


class Fact(Event, frozen=True, kw_only=True):
    """Any."""

    name = "fact.v1"
    writer = "test"

    about: str

    def key(self) -> str:
        return self.about


class Saying(Work):
    """Say a word."""

    def __call__(self, tx: Transaction) -> str:
        tx.say(Fact(id="f", occurred_at_ms=0, about=self.word))
        tx.speak()  # as a freeze does
        if self.failure:
            raise self.failure
        return self.word


async def test_what_no_outbox_can_hold_is_its_own_changes_fault(held: Held) -> None:
    """The others of its commit never hear of it."""

    outcomes = await held.together(*(Saying(about) for about in ("one", "x" * 300, "a\0b", "two")))
    assert [type(one) for one in outcomes] == [str, ValueError, ValueError, str]
    with held.database.engine.connect() as connection:
        assert connection.execute(sa.select(outbox.c.subject)).scalars().all() == ["fact.v1.one", "fact.v1.two"]


async def test_a_change_that_fails_takes_its_own_words_along_and_nobody_elses(held: Held) -> None:
    """Though they were all written already when it failed."""
    works = (Saying("one"), Saying("lost", LookupError()), Saying("two"))
    outcomes = await held.together(*works)
    assert [type(one) for one in outcomes] == [str, LookupError, str]
    with held.database.engine.connect() as connection:
        assert connection.execute(sa.select(outbox.c.subject)).scalars().all() == ["fact.v1.one", "fact.v1.two"]


async def test_what_waits_shares_a_commit(held: Held) -> None:
    """Fifty changes, one commit besides that of the change they waited for, and each its own answer."""
    words = [f"w{number}" for number in range(50)]
    assert await held.together(*(Work(word) for word in words)) == words
    assert held.commits == 2
    assert sorted(await held.words()) == sorted(words)


async def test_what_several_changes_are_about_is_read_once_before_them(tmp_path: Path) -> None:
    """Each thing once, in the transaction that they share; a change that is alone asks for itself."""
    read: list[tuple[list[str], list[str]]] = []

    def ahead(tx: Transaction, about: Sequence[str]) -> None:
        read.append((list(about), [row.word for row in tx.rows(sa.select(notes))]))

    held = Held(tmp_path / "notes.sqlite3", ahead=ahead)
    await held.database.transact(Work("z"), about="z")
    assert await held.together(Work("a"), Work("b"), Work("c"), about=("one", "two", "one")) == ["a", "b", "c"]
    assert read == [(["one", "two"], ["z"])]
    held.database.close()


async def test_a_change_that_raises_is_undone_alone(held: Held) -> None:
    """Its neighbours stand, and the error reaches its own caller and nobody else."""
    outcomes = await held.together(Work("a"), Work("b", Conflict("no", "not this one")), Work("c"), Work("a"))
    assert [type(one).__name__ for one in outcomes] == ["str", "Conflict", "str", "IntegrityError"]
    assert sorted(await held.words()) == ["a", "c"]


async def test_nobody_is_told_of_a_commit_that_failed(held: Held) -> None:
    """Not even whoever was refused: the refusal may rest on what is gone now."""

    def refuse(_connection: sa.Connection) -> None:
        raise OperationalError("commit", {}, Exception("disk full"))

    def work(tx: Transaction) -> str:
        event.listen(held.database.engine, "commit", refuse)
        return Work("b")(tx)

    outcomes = await held.together(Work("a"), work, Work("c", Conflict("no", "not this one")))  # type: ignore[arg-type]
    event.remove(held.database.engine, "commit", refuse)
    assert [type(one) for one in outcomes] == [Unavailable] * 3
    assert await held.words() == []


async def test_each_change_keeps_its_own_trace(held: Held, set_up_telemetry: Callable[[], TracerProvider]) -> None:
    """Whoever commits, a change belongs to the trace of its caller."""
    set_up_telemetry()
    works, traces = [Work("a"), Work("b")], []

    async def traced(work: Work) -> None:
        with span("root"):
            traces.append(trace_id())
            await held.database.transact(work)

    held.go.set()
    await asyncio.gather(*(traced(work) for work in works))
    assert [work.trace for work in works] == traces
    assert traces[0] != traces[1]
