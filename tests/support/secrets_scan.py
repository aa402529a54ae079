"""Finds secrets where they must not be: every file of a kept run except the places that are made for them."""

import base64
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ALLOWED = ("keys", "lnd")
"""Folders that hold secrets by design. A peer's own state may hold its own preimages and tokens, and no one else's."""

START, HASH_BITS = 8, 24
MIX = np.uint64(0x9E3779B97F4A7C15)


def key_values(keys: Path) -> dict[str, bytes]:
    """Every hex value of 32 bytes in the key files, and every macaroon, by where it comes from."""
    found: dict[str, bytes] = {}
    for path in keys.glob("*.json"):
        if path.name == "handovers.json":
            continue  # public: who follows whom
        for name, value in _values(json.loads(path.read_bytes()), path.stem):
            if len(value) == 64 and not name.endswith("active"):
                found[name] = bytes.fromhex(value)
    for path in keys.glob("*.macaroon"):
        found[path.name] = path.read_bytes()
    return found


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
    """How a secret may be written down: raw, hex in both cases, base64 in both alphabets with and without padding."""
    standard, urlsafe = base64.b64encode(secret), base64.urlsafe_b64encode(secret)
    hexed = secret.hex().encode()
    return tuple({secret, hexed, hexed.upper(), standard.rstrip(b"="), urlsafe.rstrip(b"=")})


class Needles:
    """Thousands of secrets in all their spellings, looked for in one pass: by a hash of eight bytes, then by themselves."""

    def __init__(self, secrets: dict[str, bytes]) -> None:
        self._by_start: dict[bytes, list[tuple[str, bytes]]] = {}
        for name, secret in secrets.items():
            for written in spellings(secret):
                assert len(written) >= START, f"{name} is too short to be looked for"
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


def scan(folder: Path, secrets: dict[str, bytes], *, leave_out: tuple[str, ...] = ALLOWED) -> list[str]:
    """`NAME in FILE` for each secret in each file below the folder, the left-out folders excepted."""
    needles, found = Needles(secrets), []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or inside.parts[0] in leave_out:
            continue
        found += sorted(f"{name} in {inside}" for name in needles.found_in(path.read_bytes()))
    return found


def rows(database: Path, query: str, *values: object) -> list[tuple[object, ...]]:
    """A query on a SQLite file, read-only."""
    connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()
