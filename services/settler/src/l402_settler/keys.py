"""The settler's key file, read again when it is replaced: keys to sign, and keys that the oracle seals to. It prints none."""

from pathlib import Path

import msgspec
from l402core.keyfiles import read_key_file, ring_bytes
from l402core.rings import SigningRing, UnsealingRing
from l402core.sealing import UnsealingKey
from l402core.secret import Secret
from l402core.signing import SigningKey
from l402core.watched import Watched


class _File(msgspec.Struct, forbid_unknown_fields=True):
    signing_key: Secret
    sealing_key: Secret
    former_signing_keys: tuple[Secret, ...] = ()
    former_sealing_keys: tuple[Secret, ...] = ()


class SettlerKeys(msgspec.Struct, frozen=True):
    """Both rings, oldest first."""

    signing: tuple[SigningKey, ...]
    sealing: tuple[UnsealingKey, ...]


def read_settler_keys(path: Path) -> SettlerKeys:
    """Raises KeyFileError."""
    file = read_key_file(path, _File)
    signing = ring_bytes(path, "signing_key", file.former_signing_keys, file.signing_key)
    sealing = ring_bytes(path, "sealing_key", file.former_sealing_keys, file.sealing_key)
    return SettlerKeys(tuple(map(SigningKey, signing)), tuple(map(UnsealingKey, sealing)))


def rings(path: Path) -> tuple[SigningRing, UnsealingRing]:
    """What signs and what unseals, as the file is now. Raises KeyFileError."""
    file = Watched(path, read_settler_keys)
    return SigningRing(lambda: file.now().signing), UnsealingRing(lambda: file.now().sealing)
