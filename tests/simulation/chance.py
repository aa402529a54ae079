"""All randomness of a history from one seed, that of keys and boxes included. It opens no source of entropy.

A sealed box made here opens like any other: only its ephemeral key is drawn from the seed.
"""

import contextlib
import hashlib
import os
import random
import secrets
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
    """Inside the block whoever asks for random bytes gets the seed's."""

    def sealed_box(message: bytes, public: bytes) -> bytes:
        ephemeral, secret = bindings.crypto_box_seed_keypair(chance.bytes(32))
        nonce = hashlib.blake2b(ephemeral + public, digest_size=24).digest()
        return ephemeral + bindings.crypto_box(message, nonce, public, secret)

    with (
        mock.patch.object(os, "urandom", chance.bytes),
        mock.patch.object(secrets, "token_bytes", lambda count=32: chance.bytes(count)),
        mock.patch.object(secrets, "token_hex", lambda count=32: chance.bytes(count).hex()),
        mock.patch.object(nacl.secret, "random", chance.bytes),
        mock.patch.object(bindings, "crypto_box_seal", sealed_box),
    ):
        yield
