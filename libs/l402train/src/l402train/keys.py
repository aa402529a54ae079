"""The keys of a local network, all from one seed, each in the file that its service reads. It prints none of them."""

import hashlib
import hmac
import secrets
from collections.abc import Callable

import msgspec
from l402core.l402 import keys as root_keys
from l402core.rights import USERS
from l402core.sealing import UnsealingKey
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

    def passwords(self) -> dict[str, str]:
        """One for each user of the bus."""
        return {user: self.secret(f"bus/{user}").hex() for user in USERS}

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


def write_keys(folder: Folder, ring: Keyring, peers: tuple[str, ...]) -> Public:
    """Write every key file, mode 0600; returns the public halves."""

    def write(name: str, content: object) -> None:
        folder.write_private(folder.keys / f"{name}.json", msgspec.json.encode(content) + b"\n")

    settler, attestor = ring.secret("settler/signing"), ring.secret("attestor/signing")
    reading = ring.secret("worker/reading")
    write("settler", {"signing_key": settler.hex(), "sealing_key": ring.secret("settler/sealing").hex()})
    write(
        "attestor",
        {
            "signing_key": attestor.hex(),
            "seed_key": ring.secret("attestor/seed").hex(),
            "preimage_keys": {"k1": ring.secret("attestor/preimages/k1").hex()},
        },
    )
    write("worker", {"reading_key": reading.hex()})
    write(folder.passwords.stem, ring.passwords())
    root_keys.save(root_keys.create(ring.stream("gateway/roots")), folder.keys / "gateway.json")
    for name in peers:
        write_peer_key(folder, ring, name)
    return Public(
        settler=SigningKey(settler).public,
        attestor=SigningKey(attestor).public,
        reading=UnsealingKey(reading).public,
        peers=tuple(SigningKey(ring.secret(f"{name}/identity")).public for name in peers),
    )


def write_peer_key(folder: Folder, ring: Keyring, name: str) -> None:
    """One peer's two keys."""
    content = {"identity": ring.secret(f"{name}/identity").hex(), "sealing": ring.secret(f"{name}/sealing").hex()}
    folder.write_private(folder.keys / f"{name}.json", msgspec.json.encode(content) + b"\n")
