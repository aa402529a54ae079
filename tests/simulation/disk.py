"""What survives a death: databases, the fee cursor, the peers' journals, the object store. All of it lies in memory.

The SQL is SQLite's and the schema the services' own migrations'; only fsync is left out, as a process that is killed
does not lose what the operating system has. One connection and one compiled engine serve all histories of a run.
"""

import asyncio
import copy
import hashlib
import sqlite3
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from l402_invoicer.adapters import tally
from l402_invoicer.adapters.tally import FileTally
from l402_invoicer.policy import Sent
from l402_peer_agent.adapters import journal as peer_journal
from l402_peer_agent.adapters.journal import Journal
from l402_peer_agent.journal import Attempt, Payment
from l402core.documents import ObjectRef
from l402core.errors import TooLarge, Unavailable
from l402core.outbox import Database, Transaction
from l402core.schema import upgrade
from l402core.writer import Change, Writer
from sqlalchemy.event import listen

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
        self.writer: SimWriter | None = None

    def engine(self, url: str) -> sa.Engine:
        """A way of SQLAlchemy's into it. Nobody asks a row for a column by the column itself: no map of them is made."""
        options = {"_result_disable_adapt_to_context": True}
        return sa.create_engine(url, creator=lambda: self.raw, poolclass=sa.StaticPool, execution_options=options)

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


class SimDatabase(Database):
    """The services' own `Database` and writer on such a disk: every commit that changes something is an effect."""

    def __init__(self, disk: Disk, outbox: sa.Table) -> None:
        now = _AtOnce(disk)
        super().__init__("sqlite://", outbox, writer=now, readers=now)
        self.engine.dispose()
        self.engine = disk.engine(URL)
        self._disk = disk
        self._sight = disk.engine("sqlite://").connect()
        """Reads need no transaction where nothing happens beside them."""
        listen(self.engine, "commit", lambda _: self._sim_writer().committing())

    def reborn(self) -> "SimDatabase":
        """The same file, opened by a new process."""
        again = copy.copy(self)
        again._waiting = asyncio.Event()
        again._writer = self._disk.writer = SimWriter(self.engine, self._disk)
        return again

    def _sim_writer(self) -> "SimWriter":
        assert self._disk.writer is not None
        return self._disk.writer

    async def transact(self, work: Callable[[Transaction], R]) -> R:
        self._disk.the_world().living()
        assert isinstance(self._writer, SimWriter)
        self._writer.names.append(_what(work))
        return await super().transact(work)

    async def read(self, work: Callable[[Transaction], R]) -> R:
        world = self._disk.the_world()
        await world.pause()
        world.living()
        return work(Transaction(self._sight, self._outbox, ""))


class SimWriter(Writer):
    """The real writer, a moment later, so that several changes share a commit."""

    def __init__(self, engine: sa.Engine, disk: Disk) -> None:
        super().__init__(engine, _ALittleLater(disk))
        self.names: deque[str] = deque()
        """What waits, in order, for whoever reads the history."""
        self._disk = disk
        self._label = ""
        self._changes_before = 0

    def committing(self) -> None:
        """The database is about to commit."""
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


class Tally(FileTally):
    """What the invoicer may have sent: the real one, in memory; each reservation is an effect."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._db.executescript(tally._SCHEMA)

    def reserve(
        self, round_: int, amounts: Mapping[bytes, int], now_ms: int, allow: Callable[[Sent, int], None]
    ) -> None:
        with self._world.effect(f"counts {len(amounts)} rungs as sent"):
            super().reserve(round_, amounts, now_ms, allow)


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
