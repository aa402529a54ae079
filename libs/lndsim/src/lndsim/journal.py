"""An append-only file of everything a network was told, to be told again after a restart. It knows no operations."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

_LENGTH_BYTES = 4
MAX_ENTRY_BYTES = 1 << 20


class Journal:
    """Length-prefixed MessagePack entries. An entry is in the file, safe from `kill -9`, when `append` returns.

    A torn entry at the end was never acknowledged and is cut off when the file is opened again.
    One process at a time: opening raises RuntimeError while another has the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._encoder = msgspec.msgpack.Encoder()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise RuntimeError(f"{path} is in use by another process") from error

    def append(self, entry: list[Any]) -> None:
        """One write, so that no other entry can come between."""
        body = self._encoder.encode(entry)
        if len(body) > MAX_ENTRY_BYTES:
            raise ValueError(f"a journal entry has {len(body)} bytes, more than {MAX_ENTRY_BYTES}")
        os.write(self._fd, len(body).to_bytes(_LENGTH_BYTES, "big") + body)

    def entries(self) -> Iterator[list[Any]]:
        """All whole entries from the first; afterwards the file ends with the last of them."""
        good = 0
        with self.path.open("rb") as file:
            while len(prefix := file.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
                length = int.from_bytes(prefix, "big")
                body = file.read(length) if length <= MAX_ENTRY_BYTES else b""
                if len(body) != length:
                    break
                good += _LENGTH_BYTES + length
                yield msgspec.msgpack.decode(body, type=list[Any])
        os.ftruncate(self._fd, good)

    def close(self) -> None:
        os.close(self._fd)
