"""State and outgoing events in one SQL transaction, and the loop that publishes them afterwards.

It knows SQLAlchemy and the bus, and refuses to know what is said. A row stays until the bus has acknowledged it.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
import structlog

from l402core import telemetry
from l402core.claims import Claim
from l402core.dialects import FOR_READING, NOT_NOW, open_engine
from l402core.errors import Unavailable
from l402core.events import WORK, Event
from l402core.hot import Hot, Row
from l402core.writer import Commit, Writer

log = structlog.get_logger()
R = TypeVar("R")
BATCH = 200
OTHERS_EVERY_S = 1.0
LONGEST = {"subject": 255, "message_id": 255, "traceparent": 64}
"""Characters of an outbox's columns."""


class Publisher(Protocol):
    """The bus, as far as an outbox needs it."""

    async def publish_raw(
        self, stream: str, subject: str, message_id: str, body: bytes, *, parent: str = ""
    ) -> None: ...


def outbox_table(metadata: sa.MetaData) -> sa.Table:
    """The outbox, one per database."""
    return sa.Table(
        "outbox",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("stream", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(LONGEST["subject"]), nullable=False),
        sa.Column("message_id", sa.String(LONGEST["message_id"]), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("traceparent", sa.String(LONGEST["traceparent"]), nullable=False),
        sqlite_autoincrement=True,  # an id that is just being published is never another row's
    )


def inbox_table(metadata: sa.MetaData) -> sa.Table:
    """The messages that were taken, by consumer: a second delivery finds the first in the same transaction as state."""
    return sa.Table(
        "inbox",
        metadata,
        sa.Column("consumer", sa.String(80), primary_key=True),
        sa.Column("message_id", sa.String(255), primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False, index=True),
    )


class Database:
    """One SQL database. Transactions are plain functions, run one after another off the event loop.

    Those that wait share a commit. `writer` and `readers` run them: threads, unless a caller brings something else. `ahead`
    reads what several changes will ask for, given what each is about.
    """

    def __init__(
        self, url: str, outbox: sa.Table, *, writer: Executor | None = None, readers: Executor | None = None,
        ahead: Callable[["Transaction", Sequence[str]], None] | None = None,
    ) -> None:  # fmt: skip
        self.engine = open_engine(url)
        self._outbox = outbox
        self._oldest = Hot(sa.select(outbox).order_by(outbox.c.id).limit(sa.bindparam("b_limit", type_=sa.Integer())))
        self._add = Hot(sa.insert(outbox))
        self._forget = sa.delete(outbox).where(outbox.c.id.in_(sa.bindparam("b_ids", expanding=True)))
        self._thread = writer or ThreadPoolExecutor(max_workers=1, thread_name_prefix="sql")
        self._readers = readers or ThreadPoolExecutor(max_workers=2, thread_name_prefix="sql-read")
        self._ahead = ahead
        self._writer = Writer(self.engine, self._thread, self.speak, self.foresee)
        self._shared = self.engine.dialect.name != "sqlite"
        """Whether other processes may publish from the same outbox."""
        self._waiting = asyncio.Event()
        self._since = ""
        """The mark of all requests that are made from some moment on."""

    def ask_since(self, incarnation: str) -> None:
        """Requests made from here on are told from the same ones of an older making of the facts' stream.

        Where that stream is lost, an answer may be lost with it, to a request that the other stream still knows by its id.
        Facts need no mark: their own stream's memory of them is gone too.
        """
        self._since = f":since{incarnation}" if incarnation else ""

    async def transact(self, work: Callable[["Transaction"], R], *, about: str = "") -> R:
        """Run `work` in one transaction; its events are published after the commit. Raises Unavailable."""
        parent = telemetry.traceparent()

        def run(commit: Commit) -> tuple[R, bool]:
            transaction = self._on(commit, parent)
            return work(transaction), bool(transaction.subjects())

        result, spoke = await self._writer.write(run, about)
        if spoke:
            self._waiting.set()
        return result

    def speak(self, commit: Commit) -> None:
        """Write what the changes of a commit have said into the outbox, in order, last thing before it."""
        rows = commit.unspoken()
        if rows:
            commit.hand.execute_many(self._add, rows)

    def foresee(self, commit: Commit, about: Sequence[str]) -> None:
        """Read what the changes of a commit will ask for."""
        if self._ahead is not None:
            self._ahead(self._on(commit), about)

    async def read(self, work: Callable[["Transaction"], R]) -> R:
        """Run `work` on one snapshot, beside the writer and without its lock. It must change nothing."""

        def run() -> R:
            with self.engine.connect().execution_options(**FOR_READING) as connection:
                connection.begin()  # a snapshot for hot statements too; it ends with the connection
                return work(self._on(Commit(connection)))

        try:
            context = contextvars.copy_context()
            return await asyncio.get_running_loop().run_in_executor(self._readers, context.run, run)
        except NOT_NOW as error:
            raise Unavailable("database", f"the database does not answer: {error.orig}") from error

    async def answers(self) -> bool:
        """For `/readyz`: whether it can be read now."""
        try:
            await self.read(lambda tx: tx.scalar(sa.select(sa.literal(1))))
        except Unavailable:
            return False
        return True

    def _on(self, commit: Commit, parent: str = "") -> "Transaction":
        """What may be done in an open transaction."""
        return Transaction(commit, self.speak, parent, self._since)

    async def publish_forever(self, publisher: Publisher) -> None:
        """Publish what the outbox holds, in order, until cancelled; what fails stays and is tried again."""
        self._waiting.set()
        while True:
            await self._told_or_bored()
            self._waiting.clear()
            try:
                while await self._publish_batch(publisher):
                    pass
            except Unavailable as error:
                log.warning("outbox.waits", detail=error.detail)
                await asyncio.sleep(0.5)
                self._waiting.set()

    async def _told_or_bored(self) -> None:
        """Until something was said here or, where others may have said it and died, for a while."""
        if not self._shared:
            await self._waiting.wait()
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.wait(), OTHERS_EVERY_S)

    async def _publish_batch(self, publisher: Publisher) -> bool:
        """Send a batch in order without waiting for each acknowledgement, forget what was acknowledged; is there more?

        Whatever is said meanwhile wakes us again, so that only a full batch has more behind it for sure.
        """
        if not self._shared:
            rows: Sequence[sa.Row[Any]] = await self.read(lambda tx: tx.rows(self._oldest, b_limit=BATCH))
            done, failures = await _published(publisher, rows)
            if done:
                await self.transact(lambda tx: tx.execute(self._forget, {"b_ids": done}))
        else:
            claim, done, loop = Claim(self.engine, self._outbox), list[int](), asyncio.get_running_loop()
            try:
                rows = await loop.run_in_executor(self._readers, claim.take, BATCH)
                done, failures = await _published(publisher, rows)
                await loop.run_in_executor(self._readers, claim.end, done)
            except NOT_NOW as error:
                raise Unavailable("database", f"the outbox cannot be read: {error.orig}") from error
            finally:
                claim.end(done)
        for failure in failures:
            raise failure
        return len(rows) == BATCH

    def close(self) -> None:
        """Wait for the transaction in hand, then let go of the file."""
        self._thread.shutdown()
        self._readers.shutdown()
        self.engine.dispose()


async def _published(publisher: Publisher, rows: Sequence[sa.Row[Any]]) -> tuple[list[int], list[BaseException]]:
    """Which rows the bus has acknowledged, and what went wrong with the others."""
    outcomes = await asyncio.gather(
        *(
            publisher.publish_raw(row.stream, row.subject, row.message_id, row.body, parent=row.traceparent)
            for row in rows
        ),
        return_exceptions=True,
    )
    done = [row.id for row, outcome in zip(rows, outcomes, strict=True) if outcome is None]
    return done, [outcome for outcome in outcomes if outcome is not None]


class Transaction:
    """What a transaction function may do: SQL, and say events that go out if and only if it commits."""

    def __init__(self, commit: Commit, speak: Callable[[Commit], None], parent: str = "", since: str = "") -> None:
        self._commit, self._speak = commit, speak
        self._connection, self._hand = commit.connection, commit.hand
        self._parent = parent
        self._mark, self._since = "", since
        self._subjects: list[str] = []

    def speak(self) -> None:
        """Write what this commit's changes have said so far, for whoever looks into the outbox itself."""
        self._speak(self._commit)

    def execute(self, statement: sa.Executable | Hot, values: Any = None) -> int:
        """Run a statement; the number of rows it changed."""
        if isinstance(statement, Hot):
            if isinstance(values, list):
                return self._hand.execute_many(statement, values)
            return self._hand.execute(statement, values)
        self._hand.forget()
        return self._connection.execute(statement, values).rowcount

    def row(self, query: sa.Select[*tuple[Any, ...]] | Hot, **parameters: Any) -> Row | None:
        """The first row, if any."""
        rows = self.rows(query, **parameters)
        return rows[0] if rows else None

    def rows(self, query: sa.Select[*tuple[Any, ...]] | Hot, **parameters: Any) -> list[Row]:
        """All rows."""
        if isinstance(query, Hot):
            return self._hand.rows(query, parameters)
        return list(self._connection.execute(query, parameters).all())

    def scalar(self, query: sa.Select[*tuple[Any, ...]] | Hot, **parameters: Any) -> Any:
        """The first row's first column; None without a row."""
        row = self.row(query, **parameters)
        return None if row is None else row[0]

    def foresee(self, query: Hot, wide: Hot, asked: Sequence[Any]) -> None:
        """Ask a question that is kept for many at once, before anybody does."""
        self._hand.foresee(query, wide, asked)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Undo what happens inside, events included, where it raises; what came before stays. The error goes on."""
        said = len(self._subjects)
        try:
            with self._commit.undone_alone(), self._connection.begin_nested():
                yield
        except BaseException:
            del self._subjects[said:]
            raise

    @contextmanager
    def anew(self, mark: str) -> Iterator[None]:
        """What is said inside reaches its consumers though the bus has taken the same a moment ago; they take it once."""
        self._mark = f":{mark}"
        try:
            yield
        finally:
            self._mark = ""

    def say(self, event: Event, *, parent: str = "") -> None:
        """Send an event when this transaction commits. `parent` overrides the current trace. Raises ValueError for a name
        that no outbox can hold: here, where the fault is, for later it would be every change's of this commit."""
        mark = self._mark or (self._since if event.stream == WORK else "")
        row = {
            "stream": event.stream,
            "subject": event.subject,
            "message_id": event.message_id + mark,
            "body": msgspec.json.encode(event),
            "traceparent": parent or self._parent,
        }
        for name, at_most in LONGEST.items():
            text = str(row[name])
            if len(text) > at_most or "\0" in text:
                raise ValueError(f"the {name} of {event.name} has {len(text)} characters, {at_most} at most, or a NUL")
        self._subjects.append(event.subject)
        self._commit.said.append(row)

    def subjects(self) -> tuple[str, ...]:
        """What was said so far."""
        return tuple(self._subjects)
