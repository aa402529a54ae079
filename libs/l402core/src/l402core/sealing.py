"""Sealed bytes: libsodium's sealed boxes, and payloads under a content key that can be published later.

A payload is `sealed_box(content key) ‖ secretbox(payload)`: the reading key opens it in secret, and once it is judged
the content key alone lets anybody replay the judgement.
"""

from typing import Protocol

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.secret import SecretBox

from l402core.errors import Malformed, PeerError

KEY_BOX_BYTES = 80
"""32 bytes of content key + 48 bytes of sealed-box overhead."""
OVERHEAD_BYTES = KEY_BOX_BYTES + 40
"""What sealing adds to a payload: the key's box, a 24-byte nonce and a 16-byte tag."""


class Unseals(Protocol):
    """A key, or a ring of them."""

    @property
    def public(self) -> str: ...

    def unseal(self, data: bytes) -> bytes: ...


class UnsealingKey:
    """An X25519 private key. It cannot be printed."""

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)
        self.public: str = bytes(self._key.public_key).hex()

    def __repr__(self) -> str:
        return f"UnsealingKey(public={self.public})"

    def unseal(self, data: bytes) -> bytes:
        """Open a sealed box. Raises PeerError when it was not sealed to this key."""
        try:
            return SealedBox(self._key).decrypt(data)
        except CryptoError as error:
            raise PeerError("unsealable", "not a sealed box for this reading key") from error


def seal(data: bytes, public: str) -> bytes:
    """A sealed box for the holder of `public` (hex, X25519). Raises Malformed for what nothing can be sealed to."""
    try:
        return SealedBox(PublicKey(bytes.fromhex(public))).encrypt(data)
    except (CryptoError, ValueError) as error:  # CryptoError: a point of low order, whose secret everybody knows
        raise Malformed("sealing_key", "not an X25519 public key that anything can be sealed to") from error


def seal_payload(data: bytes, public: str, content_key: bytes) -> bytes:
    """A payload sealed to the reading key. `content_key` is 32 random bytes, used once."""
    return seal(content_key, public) + bytes(SecretBox(content_key).encrypt(data))


def unseal_payload(sealed: bytes, key: Unseals) -> tuple[bytes, bytes]:
    """(payload, content key). Raises PeerError."""
    content_key = key.unseal(sealed[:KEY_BOX_BYTES])
    return open_payload(sealed, content_key), content_key


def open_payload(sealed: bytes, content_key: bytes) -> bytes:
    """The payload, by its published content key. Raises PeerError."""
    try:
        return SecretBox(content_key).decrypt(sealed[KEY_BOX_BYTES:])
    except (CryptoError, ValueError) as error:
        raise PeerError("unsealable", "the payload does not open with its own content key") from error
