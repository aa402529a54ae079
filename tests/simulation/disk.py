"""The databases of a history, which survive a death: the services' own writer and outbox on SQLite, in memory.

The SQL is SQLite's and the schema the services' own migrations'; only fsync is left out, as a process that is killed
does not lose what the operating system has. One connection and one compiled engine serve all histories of a run.
"""

import asyncio
import contextlib
import copy
import re
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from l402core.outbox import Database, Transaction
from l402core.schema import upgrade
from l402core.writer import Change, Commit, Writer

from tests.simulation.dialect import URL
from tests.simulation.world import World

R = TypeVar("R")


class Disk:
    """One service's database file, opened once for all histories of this run."""

    def __init__(self, package: str, *also: str) -> None:
        self._empty = _migrated(package, also)
        self.raw = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.raw.deserialize(self._empty)
        self.world: World | None = None

    def engine(self, url: str) -> sa.Engine:
        """A way of SQLAlchemy's into it. Nobody asks a row for a column by the column itself: no map of them is made."""
        options = {"_result_disable_adapt_to_context": True}
        return sa.create_engine(url, creator=lambda: self.raw, poolclass=sa.StaticPool, execution_options=options)

    @contextlib.contextmanager
    def without(self, *guards: tuple[str, str]) -> Iterator[None]:
        """Inside the block each (table, constraint) is missing from the schema of every new history."""
        whole, self._empty = self._empty, loosened(self._empty, guards)
        try:
            yield
        finally:
            self._empty = whole

    def the_world(self) -> World:
        """Whose disk it is now."""
        assert self.world is not None
        return self.world

    def wipe(self, world: World) -> None:
        """An empty database for a new history."""
        if self.raw.in_transaction:
            self.raw.rollback()
        self.raw.deserialize(self._empty)
        self.raw.execute("PRAGMA foreign_keys=ON")
        self.world = world


@cache
def _migrated(package: str, also: tuple[str, ...]) -> bytes:
    """An empty database as the service's migrations make it, and what `also` says in SQL."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.sqlite3"
        upgrade(f"sqlite:///{path}", package)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=DELETE")
        for statement in also:
            connection.execute(statement)
        connection.commit()
        image = connection.serialize()
        connection.close()
    return image


def loosened(image: bytes, guards: Iterable[tuple[str, str]]) -> bytes:
    """The same empty database without these constraints: its tables are made again without the words."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(image)
        for table, constraint in guards:
            made = connection.execute(
                "select sql from sqlite_master where tbl_name = ? and sql is not null order by type = 'table' desc",
                (table,),
            ).fetchall()
            found = re.search(rf",\s*{re.escape(constraint)}", made[0][0])
            assert found, f"{table} has no {constraint}"
            connection.execute(f"drop table {table}")
            for (sql,) in made:
                connection.execute(sql.replace(found.group(), ""))
        return connection.serialize()


class SimDatabase(Database):
    """The services' own `Database` and writer on such a disk: every commit that changes something is an effect."""

    def __init__(
        self, disk: Disk, outbox: sa.Table, ahead: Callable[[Transaction, Sequence[str]], None] | None = None
    ) -> None:
        now = _AtOnce(disk)
        super().__init__("sqlite://", outbox, writer=now, readers=now, ahead=ahead)
        self.engine.dispose()
        self._disk = disk
        self._hand = disk.engine(URL).connect()
        self._sight = disk.engine("sqlite://").connect()
        """Reads need no transaction where nothing happens beside them."""

    def raw(self) -> sqlite3.Connection:
        """The file itself, for whoever looks from outside."""
        return self._disk.raw

    def reborn(self) -> "SimDatabase":
        """The same file, opened by a new process."""
        again = copy.copy(self)
        again._waiting = asyncio.Event()
        again._writer = SimWriter(self._hand, self._disk, self.speak, self.foresee)
        return again

    async def transact(self, work: Callable[[Transaction], R], *, about: str = "") -> R:
        self._disk.the_world().living()
        assert isinstance(self._writer, SimWriter)
        self._writer.names.append(_what(work))
        return await super().transact(work, about=about)

    async def read(self, work: Callable[[Transaction], R]) -> R:
        world = self._disk.the_world()
        await world.pause()
        world.living()
        return work(self._on(Commit(self._sight)))


class _Connection:
    """The one connection for writing, as far as a `Writer` asks an engine for it; each new one would cost a statement."""

    def __init__(self, connection: sa.Connection, committing: Callable[[], None]) -> None:
        self._connection, self._committing = connection, committing

    @contextlib.contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction, whole or not at all."""
        with self._connection.begin():
            yield self._connection
            self._committing()


class SimWriter(Writer):
    """The real writer, a moment later, so that several changes share a commit."""

    def __init__(
        self, connection: sa.Connection, disk: Disk, last: Callable[[Commit], None],
        first: Callable[[Commit, Sequence[str]], None],
    ) -> None:  # fmt: skip
        super().__init__(cast(sa.Engine, _Connection(connection, self._committing)), _ALittleLater(disk), last, first)
        self.names: deque[str] = deque()
        """What waits, in order, for whoever reads the history."""
        self._disk = disk
        self._label = ""
        self._changes_before = 0

    def _committing(self) -> None:
        if self._changed():
            self._disk.the_world().begin(self._label)

    def _commit(self, changes: Sequence[Change[Any]]) -> list[Any]:
        world = self._disk.the_world()
        world.living()
        self._label = "commits " + " + ".join(self.names.popleft() for _ in changes)
        self._changes_before = self._disk.raw.total_changes
        outcomes = super()._commit(changes)
        if self._changed() and not self._disk.raw.in_transaction:
            world.done(self._label)
        return outcomes

    def _changed(self) -> bool:
        return self._disk.raw.total_changes != self._changes_before


class _AtOnce(Executor):
    """For reads: the loop runs them in place and never comes here."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing runs."""


class _ALittleLater(_AtOnce):
    """For writes: as a task of the loop, in the context of the process that began the batch."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        world = self._disk.the_world()
        world.loop.call_later(world.pace.between(0.0005, 0.012), lambda: fn(*args, **kwargs))


def _what(work: Callable[..., Any]) -> str:
    """Which transaction it was, for whoever reads the history."""
    name = getattr(work, "__qualname__", "")
    parts = [part for part in name.split(".") if part not in ("<locals>", "<lambda>", "work", "remember", "run")]
    return ".".join(parts[-2:]).replace("._", ".").replace("_", " ").strip()
