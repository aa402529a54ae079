"""The key files of both roles, read once. It refuses files that others may read, and prints nothing of their contents."""

from pathlib import Path
from typing import TypeVar

import msgspec
from l402core.sealing import UnsealingKey
from l402core.secret import Secret
from l402core.signing import SigningKey

T = TypeVar("T")


class KeyFileError(ValueError):
    """The key file cannot be used; the sentence says why, without a word of its contents."""


class _AttestorFile(msgspec.Struct, forbid_unknown_fields=True):
    signing_key: str
    seed_key: str
    preimage_keys: dict[str, str]


class _WorkerFile(msgspec.Struct, forbid_unknown_fields=True):
    reading_key: str


class AttestorKeys:
    """What the attestor alone holds: one key to sign, one for seeds, and preimage keys by id."""

    def __init__(self, signing: SigningKey, seed: Secret, preimages: dict[str, Secret]) -> None:
        self.signing = signing
        self.seed = seed
        self.preimages = preimages

    def newest(self) -> str:
        """The last id of the file: the key for new offers."""
        return list(self.preimages)[-1]


def read_attestor_keys(path: Path) -> AttestorKeys:
    """Raises KeyFileError."""
    file = _read(path, _AttestorFile)
    if not file.preimage_keys:
        raise KeyFileError(f"{path.name} has no preimage key")
    return AttestorKeys(
        SigningKey(_key(path, "signing_key", file.signing_key)),
        Secret(_key(path, "seed_key", file.seed_key)),
        {name: Secret(_key(path, f"preimage key {name}", value)) for name, value in file.preimage_keys.items()},
    )


def read_reading_key(path: Path) -> UnsealingKey:
    """Raises KeyFileError."""
    return UnsealingKey(_key(path, "reading_key", _read(path, _WorkerFile).reading_key))


def _read(path: Path, kind: type[T]) -> T:
    try:
        if path.stat().st_mode & 0o037:
            raise KeyFileError(f"{path.name} can be read by others; its mode must be 0600 (0640 from a group)")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise KeyFileError(f"{path.name} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError:
        raise KeyFileError(f"{path.name} does not have the fields of a key file") from None


def _key(path: Path, name: str, text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise KeyFileError(f"{name} in {path.name} is not 64 hex digits")
    return value
