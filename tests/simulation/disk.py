"""What survives a death: databases, the fee cursor, the peers' journals, the object store. All of it lies in memory.

The SQL is SQLite's and the schema the services' own migrations'; only fsync is left out, as a process that is killed
does not lose what the operating system has. One connection and one compiled engine serve all histories of a run.
"""

import asyncio
import copy
import hashlib
import sqlite3
import tempfile
from collections.abc import AsyncIterable, Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from l402_peer_agent.adapters import journal as peer_journal
from l402_peer_agent.adapters.journal import Journal
from l402_peer_agent.journal import Attempt, Payment
from l402core.documents import ObjectRef
from l402core.errors import TooLarge, Unavailable
from l402core.outbox import Database, Transaction
from l402core.schema import upgrade

from tests.simulation.world import World

R = TypeVar("R")


class Disk:
    """One service's database file, opened once for all histories of this run."""

    def __init__(self, package: str) -> None:
        self._empty = _migrated(package)
        self.raw = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.raw.deserialize(self._empty)
        self.world: World | None = None

    def wipe(self, world: World) -> None:
        """An empty database for a new history."""
        if self.raw.in_transaction:
            self.raw.rollback()
        self.raw.deserialize(self._empty)
        self.raw.execute("PRAGMA foreign_keys=ON")
        self.world = world


@cache
def _migrated(package: str) -> bytes:
    """An empty database as the service's migrations make it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.sqlite3"
        upgrade(f"sqlite:///{path}", package)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.commit()
        image = connection.serialize()
        connection.close()
    return image


class SimDatabase(Database):
    """The services' own `Database` on such a disk: every transaction that changes something is an effect."""

    def __init__(self, disk: Disk, outbox: sa.Table) -> None:
        super().__init__("sqlite://", outbox)
        self.engine.dispose()
        self.engine = sa.create_engine("sqlite://", creator=lambda: disk.raw, poolclass=sa.StaticPool)
        sa.event.listen(self.engine, "begin", _begin)
        self._disk = disk

    def reborn(self) -> "SimDatabase":
        """The same file, opened by a new process."""
        again = copy.copy(self)
        again._waiting = asyncio.Event()
        return again

    async def transact(self, work: Callable[[Transaction], R]) -> R:
        world, raw = self._disk.world, self._disk.raw
        assert world is not None
        await world.pause()
        world.living()
        spoke = False

        def run() -> R:
            nonlocal spoke
            with self.engine.connect() as connection, connection.begin() as transaction:
                before = raw.total_changes
                inside = Transaction(connection, self._outbox, "")
                result = work(inside)
                spoke = inside.spoke
                if raw.total_changes == before:
                    return result
                with world.effect("commits" + _what(work)):
                    transaction.commit()
                return result

        result = run()
        if spoke:
            self._waiting.set()
        await world.pause()
        return result

    async def read(self, work: Callable[[Transaction], R]) -> R:
        world = self._disk.world
        assert world is not None
        await world.pause()
        world.living()
        with self.engine.connect() as connection, connection.begin():
            return work(Transaction(connection, self._outbox, ""))


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _what(work: Callable[..., Any]) -> str:
    """Which transaction it was, for whoever reads the history."""
    name = getattr(work, "__qualname__", "")
    parts = [part for part in name.split(".") if part not in ("<locals>", "<lambda>", "work", "remember", "run")]
    return " " + ".".join(parts[-2:]).replace("_", " ").strip() if parts else ""


class Objects:
    """The object store; `get` finds what was put whole."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kept: dict[str, bytes] = {}

    async def put(self, data: bytes) -> ObjectRef:
        """Keep it."""
        await self._world.pause()
        name = hashlib.sha256(data).hexdigest()
        with self._world.effect(f"stores object {name[:8]}"):
            self._kept[name] = data
        return ObjectRef(uri=f"file:///{name}", sha256=name, size=len(data))

    async def put_stream(self, chunks: AsyncIterable[bytes], *, max_bytes: int) -> ObjectRef:
        """Keep a stream. Raises TooLarge."""
        data = b"".join([chunk async for chunk in chunks])
        if len(data) > max_bytes:
            raise TooLarge("payload_too_large", f"more than {max_bytes} bytes")
        return await self.put(data)

    async def get(self, ref: ObjectRef) -> bytes:
        """Raises Unavailable when it is not there."""
        await self._world.pause()
        try:
            return self._kept[ref.sha256]
        except KeyError:
            raise Unavailable("object_missing", ref.sha256) from None


class Cursor:
    """The invoicer's file."""

    def __init__(self, world: World) -> None:
        self._world, self._index = world, 0

    def read(self) -> int:
        """The last index that was published."""
        return self._index

    def advance(self, settle_index: int) -> None:
        """Never back."""
        if settle_index > self._index:
            with self._world.effect(f"moves its cursor to {settle_index}"):
                self._index = settle_index


class PeerDisk(Journal):
    """A peer's journal: the real one, in memory; each line it writes is an effect."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._db.executescript(peer_journal._SCHEMA)

    def save(self, attempt: Attempt) -> None:
        with self._world.effect(f"notes its attempt at round {attempt.round}"):
            super().save(attempt)

    def save_payment(self, payment: Payment) -> None:
        with self._world.effect(f"notes a fee payment as {payment.status}"):
            super().save_payment(payment)

    def owe_credit(self, payment_hash: str) -> None:
        with self._world.effect("notes a credit that may be due"):
            super().owe_credit(payment_hash)

    def credit_spent(self, payment_hash: str) -> None:
        with self._world.effect("notes that a credit is spent"):
            super().credit_spent(payment_hash)
