"""Key files: JSON with keys in hex. It refuses files that others may read, and prints nothing of their contents."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


class KeyFileError(ValueError):
    """The key file cannot be used; the sentence says why, without a word of its contents."""


def read_key_file(path: Path, kind: type[T]) -> T:
    """The file's fields. Raises KeyFileError."""
    try:
        if path.stat().st_mode & 0o037:
            raise KeyFileError(f"{path.name} can be read by others; its mode must be 0600 (0640 from a group)")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise KeyFileError(f"{path.name} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError:
        raise KeyFileError(f"{path.name} does not have the fields of a key file") from None


def key_bytes(path: Path, name: str, text: str) -> bytes:
    """32 bytes. Raises KeyFileError."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise KeyFileError(f"{name} in {path.name} is not 64 hex digits")
    return value


def ring_bytes(path: Path, name: str, former: Sequence[str], newest: str) -> list[bytes]:
    """The keys of a ring, oldest first. Raises KeyFileError."""
    return [key_bytes(path, f"a former {name}", text) for text in former] + [key_bytes(path, name, newest)]
