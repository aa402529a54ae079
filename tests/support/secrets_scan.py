"""Finds secrets where they must not be: in every file of a run, as it is and as a database reads it, and in every spelling."""

import base64
import contextlib
import gzip
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

START, HASH_BITS = 8, 24
MIX = np.uint64(0x9E3779B97F4A7C15)
PUBLIC = ("active", "answers_to")
"""Of the fields of key files: the name of a key, and a public key."""
SQLITE = b"SQLite format 3\x00"
WINDOW, OVERLAP = 1 << 24, 1 << 10
"""Bytes of a file that are looked at at a time, and how many of them once more with the next."""


def at_home(path: Path) -> bool:
    """Whether a path is of those that hold secrets by design: keys in their folder, and what Lightning nodes keep.

    The nodes' logs are not: whoever runs a node hands them on.
    """
    return "keys" in path.parts or ("lnd" in path.parts and not is_log(path))


def is_log(path: Path) -> bool:
    """Of a node, also one that was set aside and compressed."""
    return "logs" in path.parts or ".log" in path.suffixes


def key_values(keys: Path) -> dict[str, bytes]:
    """Every hex value of 32 bytes in the key files, and what makes every macaroon good, by where it comes from."""
    found: dict[str, bytes] = {}
    for path in keys.glob("*.json"):
        if path.name == "handovers.json":
            continue  # public: who follows whom
        for name, value in _values(json.loads(path.read_bytes()), path.stem):
            if len(value) == 64 and not name.endswith(PUBLIC):
                found[name] = bytes.fromhex(value)
    for path in keys.glob("*.macaroon"):
        found[path.name] = signature(path.read_bytes())
    return found


def signature(macaroon: bytes) -> bytes:
    """The last field of it. Whoever has that has the macaroon, in whatever form; all the others may be known."""
    return macaroon[-32:]


def _values(content: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _values(value, f"{name}.{key}")
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _values(value, f"{name}.{number}")
    elif isinstance(content, str):
        yield name, content


def spellings(secret: bytes) -> tuple[bytes, ...]:
    """How a secret may be written down.

    Raw; hex in both cases; base64 in both alphabets, alone or from the middle of something longer; the first two of these
    once more inside of base64, as a document inside of a message is; and as bytes or a list print in Python and Go.
    """
    hexed, numbers = secret.hex().encode(), list(map(str, secret))
    printed = repr(secret)[2:-1].encode()
    return tuple({
        secret, hexed, hexed.upper(), *_base64(secret), *_base64(hexed), *_base64(base64.b64encode(secret).rstrip(b"=")),
        printed, json.dumps(printed.decode())[1:-1].encode(), *(mark.join(numbers).encode() for mark in (", ", ",", " ")),
    })  # fmt: skip


def _base64(content: bytes) -> Iterator[bytes]:
    """What is the same wherever it begins and whatever comes before and after it: three shifts, in both alphabets."""
    for shift, spoiled in ((0, 0), (1, 2), (2, 3)):
        whole = (shift + len(content)) // 3 * 3 - shift
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(shift) + content[:whole])[spoiled:]


class Needles:
    """Thousands of secrets in all their spellings, looked for in one pass: by a hash of eight bytes, then by themselves."""

    def __init__(self, secrets: dict[str, bytes]) -> None:
        self._by_start: dict[bytes, list[tuple[str, bytes]]] = {}
        for name, secret in secrets.items():
            for written in spellings(secret):
                assert START <= len(written) <= OVERLAP, f"{name} is too short or too long to be looked for"
                self._by_start.setdefault(written[:START], []).append((name, written))
        self._hashes = np.zeros(1 << HASH_BITS, dtype=np.bool_)
        self._hashes[_hashed(np.frombuffer(b"".join(self._by_start), dtype="<u8"))] = True

    def found_in(self, content: bytes) -> set[str]:
        """The names of those that are written there."""
        found: set[str] = set()
        for shift in range(min(START, len(content) - START + 1)):
            words = np.frombuffer(content, dtype="<u8", offset=shift, count=(len(content) - shift) // START)
            for place in np.flatnonzero(self._hashes[_hashed(words)]):
                at = shift + START * int(place)
                for name, written in self._by_start.get(content[at : at + START], ()):
                    if content.startswith(written, at):
                        found.add(name)
        return found


def _hashed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (words * MIX) >> np.uint64(64 - HASH_BITS)


def scan(
    folder: Path, secrets: dict[str, bytes], *, may: Callable[[str, Path], bool] = lambda _, inside: at_home(inside)
) -> list[str]:
    """`NAME in FILE` for each secret in each file below the folder, where it is not one that `may` hold it."""
    needles, found = Needles(secrets), []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            inside = path.relative_to(folder)
            names = set().union(*map(needles.found_in, contents(path)))
            found += sorted(f"{name} in {inside}" for name in names if not may(name, inside))
    return found


def contents(path: Path) -> Iterator[bytes]:
    """What a file says: as it is on the disk; besides, a database's values one by one, which a page may end in the middle
    of and a write-ahead log may still hold; and what is compressed."""
    with path.open("rb") as file:
        database, before = file.read(len(SQLITE)) == SQLITE, b""
        file.seek(0)
        while read := file.read(WINDOW):
            yield before + read
            before = read[-OVERLAP:]
    if database:
        yield dumped(path)
    if path.suffix == ".gz":
        yield gzip.decompress(path.read_bytes())


def dumped(database: Path) -> bytes:
    """Every value of every table of a SQLite file, a line each."""
    with contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        tables = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
        return b"\n".join(
            value if isinstance(value, bytes) else str(value).encode()
            for (table,) in tables
            for row in connection.execute(f'select * from "{table.decode()}"')  # noqa: S608 - its own names
            for value in row
        )
