"""Finds secrets where they must not be: every file of a kept run except the places that are made for them."""

import base64
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

ALLOWED = ("keys", "lnd")
"""Folders that hold secrets by design. A peer's own state may hold its own preimages and tokens, and no one else's."""


def key_values(keys: Path) -> dict[str, bytes]:
    """Every hex value of 32 bytes in the key files, and every macaroon, by where it comes from."""
    found: dict[str, bytes] = {}
    for path in keys.glob("*.json"):
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


def scan(folder: Path, secrets: dict[str, bytes], *, leave_out: tuple[str, ...] = ALLOWED) -> list[str]:
    """`NAME in FILE` for each secret in each file below the folder, the left-out folders excepted."""
    wanted = [(name, written) for name, secret in secrets.items() for written in spellings(secret)]
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or inside.parts[0] in leave_out:
            continue
        content = path.read_bytes()
        found += sorted({f"{name} in {inside}" for name, written in wanted if written in content})
    return found


def rows(database: Path, query: str, *values: object) -> list[tuple[object, ...]]:
    """A query on a SQLite file, read-only."""
    connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()
