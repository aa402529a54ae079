"""The journal in SQLite: every row is on disk before the peer acts on it. It decides nothing."""

import os
import sqlite3
from pathlib import Path
from typing import TypeVar

import msgspec
from l402core.secret import Secret

from l402_peer_agent.journal import Attempt, Payment

T = TypeVar("T", Attempt, Payment)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS attempts (round INTEGER PRIMARY KEY, done INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS payments (
    payment_hash TEXT PRIMARY KEY, amount_msat INTEGER NOT NULL, status TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS credits (payment_hash TEXT PRIMARY KEY, tries_left INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS debts (round INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS pins (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
CREDIT_TRIES = 8
"""Rounds in which a credit is asked for before it is given up."""


class Journal:
    """One file, mode 0600. Calls are short and synchronous on purpose: nothing else may happen before they are done."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # Attempts.

    def attempt(self, round_: int) -> Attempt | None:
        """This peer's attempt at a round."""
        row = self._db.execute("SELECT body FROM attempts WHERE round = ?", (round_,)).fetchone()
        return decoded(row[0], Attempt) if row else None

    def save(self, attempt: Attempt) -> None:
        """Remember how far it has come."""
        row = (attempt.round, attempt.done, encoded(attempt))
        self._db.execute("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?)", row)

    def unfinished(self) -> list[Attempt]:
        """Attempts that were cut off, oldest first."""
        rows = self._db.execute("SELECT body FROM attempts WHERE NOT done ORDER BY round").fetchall()
        return [decoded(row[0], Attempt) for row in rows]

    def finished(self) -> int:
        """How many rounds were played to their end."""
        return int(self._db.execute("SELECT count(*) FROM attempts WHERE done").fetchone()[0])

    def last_round(self) -> int:
        """The newest round that was begun; -1 before the first."""
        return int(self._db.execute("SELECT coalesce(max(round), -1) FROM attempts").fetchone()[0])

    # Fees.

    def payment(self, payment_hash: str) -> Payment | None:
        """A fee payment by its hash."""
        row = self._db.execute("SELECT body FROM payments WHERE payment_hash = ?", (payment_hash,)).fetchone()
        return decoded(row[0], Payment) if row else None

    def save_payment(self, payment: Payment) -> None:
        """Remember a payment: before it is sent, and when its end is known."""
        row = (payment.payment_hash, payment.amount_msat, payment.status, encoded(payment))
        self._db.execute("INSERT OR REPLACE INTO payments VALUES (?, ?, ?, ?)", row)

    def committed_msat(self) -> int:
        """All that was paid, or may have been."""
        query = "SELECT coalesce(sum(amount_msat), 0) FROM payments WHERE status <> 'failed'"
        return int(self._db.execute(query).fetchone()[0])

    # Credits: paid fees that were not served.

    def owe_credit(self, payment_hash: str) -> None:
        """This fee bought nothing; ask for its credit in later rounds."""
        self._db.execute("INSERT OR IGNORE INTO credits VALUES (?, ?)", (payment_hash, CREDIT_TRIES))

    def credits(self) -> list[str]:
        """Payment hashes for which a credit may be due."""
        rows = self._db.execute("SELECT payment_hash FROM credits WHERE tries_left > 0 ORDER BY rowid").fetchall()
        return [str(row[0]) for row in rows]

    def credit_refused(self, payment_hash: str) -> None:
        """None was open; ask a limited number of times."""
        self._db.execute("UPDATE credits SET tries_left = tries_left - 1 WHERE payment_hash = ?", (payment_hash,))

    def credit_spent(self, payment_hash: str) -> None:
        """It opened a submission."""
        self._db.execute("DELETE FROM credits WHERE payment_hash = ?", (payment_hash,))

    # Debts: rewards that were decided and not delivered.

    def owe(self, round_: int) -> None:
        """The coordinator owes us this round's reward."""
        self._db.execute("INSERT OR IGNORE INTO debts VALUES (?)", (round_,))

    def owing(self) -> list[Attempt]:
        """Attempts whose reward is owed, oldest first."""
        query = "SELECT body FROM attempts WHERE round IN (SELECT round FROM debts) ORDER BY round"
        return [decoded(row[0], Attempt) for row in self._db.execute(query).fetchall()]

    def paid(self, round_: int) -> None:
        """Nothing is owed of this round any more."""
        self._db.execute("DELETE FROM debts WHERE round = ?", (round_,))

    # Keys trusted on first use.

    def pinned(self, name: str) -> str:
        """The value remembered under this name; '' for none."""
        row = self._db.execute("SELECT value FROM pins WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def pin(self, name: str, value: str) -> None:
        """Remember the first value under this name."""
        self._db.execute("INSERT OR IGNORE INTO pins VALUES (?, ?)", (name, value))


def encoded(one: Attempt | Payment) -> bytes:
    """As it stands in the file, secrets and all: a peer spends what it remembers."""
    return msgspec.json.encode(one, enc_hook=_revealed)


def decoded(body: bytes, kind: type[T]) -> T:
    """The same, read again."""
    return msgspec.json.decode(body, type=kind, dec_hook=_secret)


def _revealed(value: object) -> bytes:
    assert isinstance(value, Secret)
    return value.reveal()


def _secret(kind: type, value: object) -> Secret:
    assert kind is Secret
    return Secret(msgspec.convert(value, bytes))
