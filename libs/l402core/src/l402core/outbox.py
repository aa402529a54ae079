"""State and outgoing events in one SQL transaction, and the loop that publishes them afterwards.

It knows SQLAlchemy and the bus, and refuses to know what is said. A row stays until the bus has acknowledged it.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy import event as sa_event
from sqlalchemy.exc import OperationalError

from l402core import telemetry
from l402core.errors import Unavailable
from l402core.events import Event
from l402core.writer import Writer

log = structlog.get_logger()
R = TypeVar("R")
BATCH = 200


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
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("message_id", sa.String(255), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
    )


class Database:
    """One SQL database. Transactions are plain functions, run one after another off the event loop.

    Those that wait share a commit. `writer` and `readers` run them: threads, unless a caller brings something else.
    """

    def __init__(
        self, url: str, outbox: sa.Table, *, writer: Executor | None = None, readers: Executor | None = None
    ) -> None:
        self.engine = sa.create_engine(url, connect_args={"timeout": 30} if url.startswith("sqlite") else {})
        self._outbox = outbox
        self._thread = writer or ThreadPoolExecutor(max_workers=1, thread_name_prefix="sql")
        self._readers = readers or ThreadPoolExecutor(max_workers=2, thread_name_prefix="sql-read")
        self._writer = Writer(self.engine, self._thread)
        self._waiting = asyncio.Event()
        if self.engine.dialect.name == "sqlite":
            sa_event.listen(self.engine, "connect", _sqlite_pragmas)
            sa_event.listen(self.engine, "begin", _begin_immediate)

    async def transact(self, work: Callable[["Transaction"], R]) -> R:
        """Run `work` in one transaction; its events are published after the commit. Raises Unavailable."""
        parent = telemetry.traceparent()

        def run(connection: sa.Connection) -> tuple[R, bool]:
            transaction = Transaction(connection, self._outbox, parent)
            result = work(transaction)
            return result, transaction.speak()

        result, spoke = await self._writer.write(run)
        if spoke:
            self._waiting.set()
        return result

    async def read(self, work: Callable[["Transaction"], R]) -> R:
        """Run `work` on one snapshot, beside the writer and without its lock. It must change nothing."""

        def run() -> R:
            with self.engine.connect().execution_options(reading=True) as connection:
                return work(Transaction(connection, self._outbox, ""))

        try:
            context = contextvars.copy_context()
            return await asyncio.get_running_loop().run_in_executor(self._readers, context.run, run)
        except OperationalError as error:
            raise Unavailable("database", f"the database does not answer: {error.orig}") from error

    async def publish_forever(self, publisher: Publisher) -> None:
        """Publish what the outbox holds, in order, until cancelled; what fails stays and is tried again."""
        self._waiting.set()
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            try:
                while await self._publish_batch(publisher):
                    pass
            except Unavailable as error:
                log.warning("outbox.waits", detail=error.detail)
                await asyncio.sleep(0.5)
                self._waiting.set()

    async def _publish_batch(self, publisher: Publisher) -> bool:
        """Send a batch in order without waiting for each acknowledgement; forget what was acknowledged."""
        rows = await self.read(lambda tx: tx.rows(sa.select(self._outbox).order_by(self._outbox.c.id).limit(BATCH)))
        sent = await asyncio.gather(*(_publish(publisher, row) for row in rows), return_exceptions=True)
        done = [row.id for row, failure in zip(rows, sent, strict=True) if failure is None]
        if done:
            await self.transact(lambda tx: tx.execute(sa.delete(self._outbox).where(self._outbox.c.id.in_(done))))
        for failure in sent:
            if failure is not None:
                raise failure
        return bool(rows)

    def close(self) -> None:
        """Wait for the transaction in hand, then let go of the file."""
        self._thread.shutdown()
        self._readers.shutdown()
        self.engine.dispose()


async def _publish(publisher: Publisher, row: sa.Row[Any]) -> None:
    await publisher.publish_raw(row.stream, row.subject, row.message_id, row.body, parent=row.traceparent)


class Transaction:
    """What a transaction function may do: SQL, and say events that go out if and only if it commits."""

    def __init__(self, connection: sa.Connection, outbox: sa.Table, parent: str) -> None:
        self._connection = connection
        self._outbox = outbox
        self._parent = parent
        self._said: list[dict[str, Any]] = []

    def execute(self, statement: sa.Executable, values: Any = None) -> int:
        """Run a statement; the number of rows it changed."""
        return self._connection.execute(statement, values).rowcount

    def row(self, query: sa.Select[Any]) -> sa.Row[Any] | None:
        """The first row, if any."""
        return self._connection.execute(query).first()

    def rows(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:
        """All rows."""
        return list(self._connection.execute(query))

    def scalar(self, query: sa.Select[Any]) -> Any:
        """The first row's first column; None without a row."""
        return self._connection.execute(query).scalar()

    def say(self, event: Event, *, parent: str = "") -> None:
        """Send an event when this transaction commits. `parent` overrides the current trace."""
        self._said.append(
            {
                "stream": event.stream,
                "subject": event.subject,
                "message_id": event.message_id,
                "body": msgspec.json.encode(event),
                "traceparent": parent or self._parent,
            }
        )

    def speak(self) -> bool:
        """Write what was said into the outbox, last thing in the transaction; whether anything was."""
        if self._said:
            self._connection.execute(sa.insert(self._outbox), self._said)
        return bool(self._said)


def _sqlite_pragmas(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see below
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: sa.Connection) -> None:
    """Take the write lock at once: a transaction that reads and then writes must not lose a race in between."""
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
