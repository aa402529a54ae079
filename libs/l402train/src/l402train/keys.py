"""The keys of a local network, all from one seed, each in the file that its service reads. It prints none of them."""

import hashlib
import hmac
import secrets
from collections.abc import Callable

import msgspec
from l402core.l402 import keys as root_keys
from l402core.rights import USERS
from l402core.sealing import UnsealingKey
from l402core.secret import Secret
from l402core.signing import SigningKey

from l402train.folder import Folder


class Keyring:
    """Derives 32-byte keys by name. The same seed gives the same keys, so a demo with a seed is only a demo."""

    def __init__(self, master: bytes) -> None:
        self._master = master

    @classmethod
    def from_seed(cls, seed: int | None) -> "Keyring":
        """From a number that anybody can guess, for demos; from the system's randomness for None."""
        if seed is None:
            return cls(secrets.token_bytes(32))
        return cls(hashlib.sha256(b"l402-train/local/%d" % seed).digest())

    def secret(self, name: str) -> bytes:
        """32 bytes for a name."""
        return hmac.digest(self._master, name.encode(), "sha256")

    def password(self, name: str) -> Secret:
        """The same as text: 64 hex digits."""
        return Secret(self.secret(name).hex().encode())

    def passwords(self) -> dict[str, Secret]:
        """One for each user of the bus."""
        return {user: self.password(f"bus/{user}") for user in USERS}

    def stream(self, name: str) -> Callable[[int], bytes]:
        """A source of bytes for a name, as `l402core` asks for one."""
        counter = iter(range(1 << 32))

        def take(count: int) -> bytes:
            blocks = b""
            while len(blocks) < count:
                blocks += self.secret(f"{name}/{next(counter)}")
            return blocks[:count]

        return take


class Public(msgspec.Struct, frozen=True):
    """What the parties know of one another."""

    settler: str
    attestor: str
    reading: str
    peers: tuple[str, ...]
    """Identities in order of the names: peers, then whoever else has a node of its own."""


def files(ring: Keyring, peers: tuple[str, ...]) -> dict[str, dict[str, object]]:
    """What stands in the key file of each service and of each peer, but the gateway's ring."""
    return {
        "settler": {
            "signing_key": ring.secret("settler/signing").hex(),
            "sealing_key": ring.secret("settler/sealing").hex(),
        },
        "attestor": {
            "signing_key": ring.secret("attestor/signing").hex(),
            "seed_key": ring.secret("attestor/seed").hex(),
            "answers_key": ring.secret("attestor/answers").hex(),
            "preimage_keys": {"k1": ring.secret("attestor/preimages/k1").hex()},
        },
        "worker": {
            "reading_key": ring.secret("worker/reading").hex(),
            "answers_to": UnsealingKey(ring.secret("attestor/answers")).public,
        },
        **{name: peer_file(ring, name) for name in peers},
    }


def peer_file(ring: Keyring, name: str) -> dict[str, object]:
    """One peer's two keys."""
    return {"identity": ring.secret(f"{name}/identity").hex(), "sealing": ring.secret(f"{name}/sealing").hex()}


def public_halves(ring: Keyring, peers: tuple[str, ...]) -> Public:
    """Of those keys that others must know."""
    return Public(
        settler=SigningKey(ring.secret("settler/signing")).public,
        attestor=SigningKey(ring.secret("attestor/signing")).public,
        reading=UnsealingKey(ring.secret("worker/reading")).public,
        peers=tuple(SigningKey(ring.secret(f"{name}/identity")).public for name in peers),
    )


def gateway_ring(ring: Keyring) -> root_keys.RootKeys:
    """The gateway's first root keys."""
    return root_keys.create(ring.stream("gateway/roots"))


def write_keys(folder: Folder, ring: Keyring, peers: tuple[str, ...]) -> Public:
    """Write every key file, mode 0600; returns the public halves."""
    for name, content in files(ring, peers).items():
        _write(folder, name, content)
    passwords = {user: one.reveal().decode() for user, one in ring.passwords().items()}
    _write(folder, folder.passwords.stem, passwords)
    root_keys.save(gateway_ring(ring), folder.keys / "gateway.json")
    return public_halves(ring, peers)


def write_peer_key(folder: Folder, ring: Keyring, name: str) -> None:
    """One peer's key file."""
    _write(folder, name, peer_file(ring, name))


def _write(folder: Folder, name: str, content: object) -> None:
    folder.write_private(folder.keys / f"{name}.json", msgspec.json.encode(content) + b"\n")
