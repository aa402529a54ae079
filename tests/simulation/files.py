"""What else survives a death: the object store, the fee cursor, what the invoicer sent, the peers' journals; all in memory."""

import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterable, Callable, Mapping

from l402_invoicer.adapters import tally
from l402_invoicer.adapters.tally import FileTally
from l402_invoicer.policy import Sent
from l402_peer_agent.adapters import journal as peer_journal
from l402_peer_agent.adapters.journal import Journal
from l402_peer_agent.journal import Attempt, Payment
from l402core.documents import ObjectRef
from l402core.errors import TooLarge, Unavailable

from tests.simulation.world import World


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

    async def look(self, *, writing: bool) -> None:
        """It is always there."""


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
        self, round_: int, amounts: Mapping[bytes, int], now_ms: int, allow: Callable[[Sent, int], None], until_ms: int
    ) -> None:
        with self._world.effect(f"counts {len(amounts)} rungs as sent"):
            super().reserve(round_, amounts, now_ms, allow, until_ms)

    def note_stop(self, commitment: str, revision: int, now_ms: int, *, frozen: bool) -> bool:
        with self._world.effect(f"notes that {commitment[:8]} is {'frozen' if frozen else 'thawed'}"):
            return super().note_stop(commitment, revision, now_ms, frozen=frozen)


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
