"""What may have been sent, and what may not be, in one SQLite file: a rung is on disk before it is paid. No decisions."""

import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from l402core.errors import Unavailable

from l402_invoicer.policy import Sent

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sent (
    payment_hash BLOB PRIMARY KEY, round INTEGER NOT NULL, amount_msat INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL, known INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS stops (
    commitment TEXT PRIMARY KEY, revision INTEGER NOT NULL, frozen INTEGER NOT NULL, at_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS sent_unknown ON sent (until_ms) WHERE known = 0;
CREATE INDEX IF NOT EXISTS sent_round ON sent (round);
CREATE INDEX IF NOT EXISTS sent_at ON sent (at_ms);
"""
_COUNTED = """
SELECT coalesce(sum(amount_msat) FILTER (WHERE round = :round), 0), coalesce(sum(amount_msat) FILTER (WHERE at_ms > :since), 0)
FROM sent WHERE round = :round OR at_ms > :since
"""
_STOP = """
INSERT INTO stops VALUES (?, ?, ?, ?) ON CONFLICT (commitment) DO UPDATE SET
revision = excluded.revision, frozen = excluded.frozen, at_ms = excluded.at_ms WHERE excluded.revision > stops.revision
"""
DAY_MS = 86_400_000
KEPT_MS = 30 * DAY_MS
"""Rounds are shorter than this; older rows count for nothing."""


class FileTally:
    """One file, mode 0600. Calls are synchronous and short; any thread may make them."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def reserve(
        self, round_: int, amounts: Mapping[bytes, int], now_ms: int, allow: Callable[[Sent, int], None], until_ms: int
    ) -> None:
        """Count these hashes as sent, all or none, those already counted once. `allow` raises what refuses them.

        After `until_ms` none of them is sent any more. Raises Unavailable when the disk does not take it: then nothing may
        be sent.
        """
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    self._count(round_, amounts, now_ms, allow, until_ms)
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise Unavailable("disk", f"the tally of what was sent cannot be written: {error}") from error

    def _count(
        self, round_: int, amounts: Mapping[bytes, int], now_ms: int, allow: Callable[[Sent, int], None], until_ms: int
    ) -> None:
        known = "SELECT 1 FROM sent WHERE payment_hash = ?"
        fresh = {hash_: msat for hash_, msat in amounts.items() if self._db.execute(known, (hash_,)).fetchone() is None}
        if not fresh:
            return
        self._db.execute("DELETE FROM sent WHERE at_ms < ?", (now_ms - KEPT_MS,))
        told = self._db.execute(_COUNTED, {"round": round_, "since": now_ms - DAY_MS}).fetchone()
        allow(Sent(round_msat=int(told[0]), day_msat=int(told[1])), sum(fresh.values()))
        rows = [(hash_, round_, msat, now_ms, until_ms) for hash_, msat in fresh.items()]
        columns = "(payment_hash, round, amount_msat, at_ms, until_ms)"
        self._db.executemany(f"INSERT INTO sent {columns} VALUES (?, ?, ?, ?, ?)", rows)  # noqa: S608 - a constant

    def release(self, payment_hashes: list[bytes]) -> None:
        """LND says of these that nothing was sent, or that it failed: they count no more. Raises Unavailable."""
        self._write("DELETE FROM sent WHERE payment_hash = ?", payment_hashes)

    def confirm(self, payment_hashes: list[bytes]) -> None:
        """LND knows these: whether they were sent is no question any more. Raises Unavailable."""
        self._write("UPDATE sent SET known = 1 WHERE payment_hash = ?", payment_hashes)

    def unconfirmed(self, before_ms: int, limit: int) -> list[bytes]:
        """What could be sent until before then, and of which LND has said nothing yet; the oldest first."""
        with self._lock:
            query = "SELECT payment_hash FROM sent WHERE known = 0 AND until_ms < ? ORDER BY until_ms LIMIT ?"
            return [bytes(row[0]) for row in self._db.execute(query, (before_ms, limit))]

    def note_stop(self, commitment: str, revision: int, now_ms: int, *, frozen: bool) -> bool:
        """Remember whether its locks may be sent; whether they may now, for an older word changes nothing.

        Raises Unavailable.
        """
        values = (commitment, revision, frozen, now_ms)
        with self._lock:
            try:
                self._db.execute("DELETE FROM stops WHERE at_ms < ?", (now_ms - KEPT_MS,))
                self._db.execute(_STOP, values)
                query = "SELECT frozen FROM stops WHERE commitment = ?"
                return not self._db.execute(query, (commitment,)).fetchone()[0]
            except sqlite3.Error as error:
                raise Unavailable("disk", f"what is frozen cannot be written down: {error}") from error

    def stopped(self) -> set[str]:
        """The commitments of which nothing may be sent."""
        with self._lock:
            return {str(row[0]) for row in self._db.execute("SELECT commitment FROM stops WHERE frozen")}

    def _write(self, statement: str, payment_hashes: list[bytes]) -> None:
        with self._lock:
            try:
                self._db.executemany(statement, [(hash_,) for hash_ in payment_hashes])
            except sqlite3.Error as error:
                raise Unavailable("disk", f"the tally of what was sent cannot be written: {error}") from error
