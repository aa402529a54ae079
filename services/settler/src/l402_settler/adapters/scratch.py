"""Somebody else's list, kept by payment hash for as long as one comparison lasts. It knows no node and no books.

A node tells its payments in the order of time, the books are read in the order of hashes, and either may be longer than
memory: SQLite sorts them in a temporary file, which is gone with the connection.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Generic, Self, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)
KEYS_MAX = 500
"""So many hashes are asked for at a time; SQLite takes a few thousand parameters."""


class Scratch(Generic[T]):
    """Documents by payment hash (hex); a later one replaces an earlier one."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._file = sqlite3.connect("", isolation_level=None)  # "" is a private temporary file
        self._file.execute("PRAGMA journal_mode=OFF")
        self._file.execute("CREATE TABLE told (hash TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def put(self, documents: Iterable[tuple[str, T]]) -> None:
        """Keep a page of the list."""
        encode = msgspec.msgpack.encode
        rows = ((hash_, encode(document)) for hash_, document in documents)
        self._file.execute("BEGIN")
        self._file.executemany("INSERT OR REPLACE INTO told VALUES (?, ?)", rows)
        self._file.execute("COMMIT")

    def between(self, after: str, upto: str | None, at_most: int) -> dict[str, T]:
        """The first documents whose hash lies above `after` and not above `upto` (None: no end), in order of hashes."""
        query = "SELECT hash, document FROM told WHERE hash > ? AND hash <= ? ORDER BY hash LIMIT ?"
        return self._found(query, (after, upto if upto is not None else "g", at_most))

    def at(self, hashes: Sequence[str]) -> dict[str, T]:
        """The documents of these hashes, as far as there are any."""
        found: dict[str, T] = {}
        for start in range(0, len(hashes), KEYS_MAX):
            some = hashes[start : start + KEYS_MAX]
            marks = ",".join("?" * len(some))
            found |= self._found(f"SELECT hash, document FROM told WHERE hash IN ({marks})", some)  # noqa: S608 - marks
        return found

    def _found(self, query: str, parameters: Sequence[object]) -> dict[str, T]:
        return {hash_: self._decoder.decode(document) for hash_, document in self._file.execute(query, parameters)}
