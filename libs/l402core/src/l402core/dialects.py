"""How each SQL database is opened: durable commits, one writer at a time, snapshots for readers. It knows no table.

SQLite has one writer by nature; it must only be taken at the beginning (`BEGIN IMMEDIATE`). On PostgreSQL an advisory
lock says the same: whoever writes has the books to itself until its commit, in however many processes, so that a decision
rests on what it read. What waits meanwhile shares the next commit (`writer`), so that the lock costs little.
"""

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError, InterfaceError, InternalError, OperationalError

from l402core.hot import Hand

NOT_NOW = (OperationalError, InterfaceError, InternalError)
"""What a database that is full, away, or a standby raises, in the words of both drivers: the world's fault, try later."""
BUSY_S = 30
IDLE_S = 15
"""A transaction that says nothing for so long has lost its process or its machine, and must not keep the books from the
others: the server ends it, before those who wait have lost their patience (BUSY_S). Nobody of ours is silent for longer:
the longest silence is an outbox row's on its way to the bus."""
SILENT_S = (10, 5, 3)
"""TCP asks a silent other side after, then every, so many times: half a minute, where Linux would wait for two hours."""
TRIED_AFTER_S = 1.0
"""A connection that nobody used for so long is tried first: its server may have gone meanwhile."""
_WRITER = 0x6C343032
"""Any number that nobody else in this database takes; it spells "l402"."""


def open_engine(url: str, *, idle_s: int = IDLE_S) -> sa.Engine:
    """An engine whose transactions write alone, unless they say `reading=True`."""
    if sa.make_url(url).get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_S})
        event.listen(engine, "connect", _sqlite_pragmas)
        event.listen(engine, "begin", _begin_immediate)
    else:
        engine = sa.create_engine(url, connect_args=_connection(idle_s))
        event.listen(engine, "checkin", _used)
        event.listen(engine, "checkout", _tried)
        event.listen(engine, "begin", _begin_alone)
    return engine


def _connection(idle_s: int) -> dict[str, Any]:
    """What both ends of a connection to PostgreSQL agree on, the second half for an end that is gone without a word."""
    idle, every, count = SILENT_S
    server = {
        "synchronous_commit": "on",
        "lock_timeout": f"{BUSY_S}s",
        "statement_timeout": f"{2 * BUSY_S}s",
        "idle_in_transaction_session_timeout": f"{idle_s}s",
        "tcp_keepalives_idle": idle,
        "tcp_keepalives_interval": every,
        "tcp_keepalives_count": count,
    }
    client = {"connect_timeout": idle, "keepalives_idle": idle, "keepalives_interval": every, "keepalives_count": count}
    options = " ".join(f"-c {name}={value}" for name, value in server.items())
    return {"autocommit": True, "options": options, **client}  # we say BEGIN ourselves, see below


FOR_READING = {"reading": True, "snapshot": True}
"""Execution options of a connection that reads one snapshot and takes no lock."""


def _sqlite_pragmas(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see below
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_S * 1000}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: sa.Connection) -> None:
    """Take the write lock at once: a transaction that reads and then writes must not lose a race in between."""
    connection.exec_driver_sql("BEGIN" if _reads(connection) else "BEGIN IMMEDIATE")


def _used(_connection: Any, record: Any) -> None:
    record.info["used_s"] = time.monotonic()


def _tried(connection: Any, record: Any, _proxy: object) -> None:
    """Whether the server still answers, but for a connection that somebody had in hand a moment ago."""
    if time.monotonic() - record.info.get("used_s", 0.0) < TRIED_AFTER_S:
        return
    try:
        connection.execute(";")
    except connection.Error as error:
        raise DisconnectionError from error  # the pool brings another


def _begin_alone(connection: sa.Connection) -> None:
    """The same on PostgreSQL, in one message. Each later statement sees all that was committed before the lock was ours."""
    if connection.get_execution_options().get("snapshot", False):
        words: tuple[str, ...] = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)
    else:
        words = ("BEGIN",) if _reads(connection) else ("BEGIN", f"SELECT pg_advisory_xact_lock({_WRITER})")
    Hand(connection).say(*words)


def _reads(connection: sa.Connection) -> bool:
    return bool(connection.get_execution_options().get("reading", False))
