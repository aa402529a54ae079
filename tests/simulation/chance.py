"""All randomness of a history from one seed, that of keys and boxes included. It opens no source of entropy.

A sealed box made here opens like any other: only its ephemeral key is drawn from the seed.
"""

import contextlib
import hashlib
import os
import random
import secrets
import threading
from collections.abc import Iterator
from unittest import mock

import nacl.secret
from nacl import bindings


class Chance:
    """One named stream of a seed; streams do not disturb each other."""

    def __init__(self, seed: int, purpose: str) -> None:
        self._random = random.Random(f"{seed}/{purpose}")

    def below(self, limit: int) -> int:
        """A whole number from 0 below `limit`."""
        return int(self._random.random() * limit)

    def between(self, low: float, high: float) -> float:
        """Evenly spread."""
        return low + (high - low) * self._random.random()

    def happens(self, probability: float) -> bool:
        """Whether it does, this time."""
        return self._random.random() < probability

    def bytes(self, count: int) -> bytes:
        """So many bytes."""
        return self._random.randbytes(count)


def key_of(name: str) -> bytes:
    """A private key that belongs to a name, 32 bytes."""
    return hashlib.sha256(f"key of {name}".encode()).digest()


@contextlib.contextmanager
def seeded(chance: Chance) -> Iterator[None]:
    """Inside the block whoever asks for random bytes in this thread gets the seed's; other threads are no part of it."""
    here, urandom, seal = threading.get_ident(), os.urandom, bindings.crypto_box_seal

    def drawn(count: int = 32) -> bytes:
        return chance.bytes(count) if threading.get_ident() == here else urandom(count)

    def sealed_box(message: bytes, public: bytes) -> bytes:
        if threading.get_ident() != here:
            sealed: bytes = seal(message, public)
            return sealed
        ephemeral, secret = bindings.crypto_box_seed_keypair(chance.bytes(32))
        nonce = hashlib.blake2b(ephemeral + public, digest_size=24).digest()
        return ephemeral + bindings.crypto_box(message, nonce, public, secret)

    with (
        mock.patch.object(os, "urandom", drawn),
        mock.patch.object(secrets, "token_bytes", drawn),
        mock.patch.object(secrets, "token_hex", lambda count=32: drawn(count).hex()),
        mock.patch.object(nacl.secret, "random", drawn),
        mock.patch.object(bindings, "crypto_box_seal", sealed_box),
    ):
        yield
