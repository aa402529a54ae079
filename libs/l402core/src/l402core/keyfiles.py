"""Key files: JSON with keys in hex. It refuses files that others may read, and prints nothing of their contents."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from l402core.secret import Secret

T = TypeVar("T")


class KeyFileError(ValueError):
    """The key file cannot be used; the sentence says why, without a word of its contents."""


def read_key_file(path: Path, kind: type[T]) -> T:
    """The file's fields. Raises KeyFileError."""
    try:
        if path.stat().st_mode & 0o037:
            raise KeyFileError(f"{path.name} can be read by others; its mode must be 0600 (0640 from a group)")
        return msgspec.json.decode(path.read_bytes(), type=kind, dec_hook=_secret)
    except OSError as error:
        raise KeyFileError(f"{path.name} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError:
        raise KeyFileError(f"{path.name} does not have the fields of a key file") from None


def _secret(kind: type, value: object) -> Secret:
    """A key as it is written, in hex."""
    if kind is not Secret or not isinstance(value, str):
        raise ValueError("a key is written in hex")
    return Secret(value.encode())


def key_bytes(path: Path, name: str, written: Secret) -> bytes:
    """32 bytes, to be made a key of at once. Raises KeyFileError."""
    try:
        value = bytes.fromhex(written.reveal().decode())
    except ValueError:
        value = b""
    if len(value) != 32:
        raise KeyFileError(f"{name} in {path.name} is not 64 hex digits")
    return value


def ring_bytes(path: Path, name: str, former: Sequence[Secret], newest: Secret) -> list[bytes]:
    """The keys of a ring, oldest first. Raises KeyFileError."""
    return [key_bytes(path, f"a former {name}", key) for key in former] + [key_bytes(path, name, newest)]
