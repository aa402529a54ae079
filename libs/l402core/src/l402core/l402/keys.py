"""The ring of root keys: one mints, the others verify, the revoked refuse. It knows its file, and no token's meaning.

A token's own root key is derived, `HMAC-SHA256(root, "l402-train/root" ‖ token id)`: nothing is stored per token, and a
leaked token key opens one token, not the ring. The root key is found by the first four bytes of the token id.
"""

import hmac
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from l402core.errors import Malformed, Unauthorized
from l402core.l402.identifier import KEY_ID_BYTES, TOKEN_ID_BYTES
from l402core.secret import Secret

ROOT_KEY_BYTES = 32
MAX_KEYS = 64
MAX_REVOKED_TOKENS = 100_000

_DOMAIN = b"l402-train/root"


class RootKeys(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable ring: `rotate`, `revoke_key`, `revoke_token` return a new one. Raises ValueError when incoherent."""

    keys: Mapping[bytes, Secret]
    """Root keys of 32 bytes by id of 4 bytes."""
    active: bytes
    """The id that mints."""
    revoked_keys: frozenset[bytes] = frozenset()
    revoked_tokens: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        if self.active not in self.keys or self.active in self.revoked_keys:
            raise ValueError("the active root key must be in the ring and not revoked")
        if len(self.keys) > MAX_KEYS or len(self.revoked_tokens) > MAX_REVOKED_TOKENS:
            raise ValueError(f"a ring holds {MAX_KEYS} root keys and {MAX_REVOKED_TOKENS} revoked tokens at most")
        if any(len(i) != KEY_ID_BYTES or len(key.reveal()) != ROOT_KEY_BYTES for i, key in self.keys.items()):
            raise ValueError(f"a root key has {ROOT_KEY_BYTES} bytes and an id of {KEY_ID_BYTES}")

    def __repr__(self) -> str:
        return f"RootKeys(active={self.active.hex()}, keys={sorted(key_id.hex() for key_id in self.keys)})"

    def new_token_id(self, rng_bytes: Callable[[int], bytes]) -> bytes:
        """32 bytes: the active key's id, then 28 random ones."""
        return self.active + rng_bytes(TOKEN_ID_BYTES - KEY_ID_BYTES)

    def for_token(self, token_id: bytes) -> Secret:
        """The root key of one token. Raises Unauthorized: unknown_root_key, revoked."""
        key_id = token_id[:KEY_ID_BYTES]
        if key_id in self.revoked_keys or token_id in self.revoked_tokens:
            raise Unauthorized("revoked", "this token, or the key that signed it, has been revoked")
        root = self.keys.get(key_id)
        if root is None:
            raise Unauthorized("unknown_root_key", "no root key of ours has the id that this token names")
        return Secret(hmac.digest(root.reveal(), _DOMAIN + token_id, "sha256"))

    def is_revoked_token(self, token_id: bytes) -> bool:
        """Whether this very token was revoked, whatever became of its root key."""
        return token_id in self.revoked_tokens

    def rotate(self, rng_bytes: Callable[[int], bytes]) -> "RootKeys":
        """A new active key; the former ones go on verifying."""
        key_id = rng_bytes(KEY_ID_BYTES)
        if key_id in self.keys or key_id in self.revoked_keys:
            raise ValueError("the random source repeated a root-key id")
        keys = {**self.keys, key_id: Secret(rng_bytes(ROOT_KEY_BYTES))}
        return msgspec.structs.replace(self, keys=keys, active=key_id)

    def revoke_key(self, key_id: bytes) -> "RootKeys":
        """Every token of this key refuses from now on; its secret is dropped. Raises ValueError for the active key."""
        keys = {i: key for i, key in self.keys.items() if i != key_id}
        return msgspec.structs.replace(self, keys=keys, revoked_keys=self.revoked_keys | {key_id})

    def revoke_token(self, token_id: bytes) -> "RootKeys":
        """One token refuses from now on."""
        return msgspec.structs.replace(self, revoked_tokens=self.revoked_tokens | {token_id})


def create(rng_bytes: Callable[[int], bytes]) -> RootKeys:
    """A ring with one fresh key."""
    key_id = rng_bytes(KEY_ID_BYTES)
    return RootKeys(keys={key_id: Secret(rng_bytes(ROOT_KEY_BYTES))}, active=key_id)


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    """The file: JSON, all bytes in hex."""

    active: str
    keys: dict[str, str]
    revoked_keys: list[str] = []
    revoked_tokens: list[str] = []
    version: Literal[1] = 1


def load(path: Path) -> RootKeys:
    """Raises FileNotFoundError, and Malformed (never showing a key) where the file is not a ring."""
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
        return RootKeys(
            keys={bytes.fromhex(key_id): Secret(bytes.fromhex(key)) for key_id, key in stored.keys.items()},
            active=bytes.fromhex(stored.active),
            revoked_keys=frozenset(map(bytes.fromhex, stored.revoked_keys)),
            revoked_tokens=frozenset(map(bytes.fromhex, stored.revoked_tokens)),
        )
    except (msgspec.DecodeError, ValueError):
        # The cause may quote the file, so it is not chained.
        raise Malformed("bad_root_keys", f"{path} is not a ring of root keys") from None


def save(ring: RootKeys, path: Path) -> None:
    """Replace the file in one step; only its owner can read it."""
    stored = _Stored(
        active=ring.active.hex(),
        keys={key_id.hex(): key.reveal().hex() for key_id, key in ring.keys.items()},
        revoked_keys=sorted(key_id.hex() for key_id in ring.revoked_keys),
        revoked_tokens=sorted(token_id.hex() for token_id in ring.revoked_tokens),
    )
    # mkstemp makes the file 0600 from its first byte.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:  # half a key file is left behind by nobody, not even on Ctrl-C; passed on
        Path(temporary).unlink(missing_ok=True)
        raise
