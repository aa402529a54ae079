"""Signed documents: BIP340 over a tagged hash of exact bytes. It knows no keys' owners and reads no clock.

A `Signed` carries its body as text, so that what was signed is what is read: nobody has to agree on a canonical form.
"""

import hashlib
from typing import TypeVar

import msgspec
from coincurve import PrivateKey, PublicKeyXOnly

from l402core.errors import Unauthorized

T = TypeVar("T", bound=msgspec.Struct)


def tagged_hash(tag: str, data: bytes) -> bytes:
    """BIP340's tagged hash: sha256(sha256(tag) ‖ sha256(tag) ‖ data), 32 bytes."""
    prefix = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(prefix + prefix + data).digest()


def canonical(document: msgspec.Struct) -> bytes:
    """JSON with sorted keys and no spaces: the bytes that are hashed and signed."""
    return msgspec.json.encode(document, order="sorted")


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A document and who stands behind it."""

    body: str
    """The document's canonical JSON, verbatim."""
    signer: str
    """X-only public key, 64 hex digits."""
    signature: str
    """BIP340 signature over the tagged hash of `body`, 128 hex digits."""

    def digest(self) -> str:
        """sha256 of the body, hex: how other documents refer to this one."""
        return hashlib.sha256(self.body.encode()).hexdigest()


class SigningKey:
    """A BIP340 key. It cannot be printed."""

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)
        self.public: str = PublicKeyXOnly.from_secret(secret).format().hex()

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public})"

    def sign(self, tag: str, document: msgspec.Struct) -> Signed:
        """Sign a document under a tag, which keeps a signature from meaning anything elsewhere."""
        body = canonical(document)
        signature = self._key.sign_schnorr(tagged_hash(tag, body))
        return Signed(body=body.decode(), signer=self.public, signature=signature.hex())

    def sign_bytes(self, tag: str, data: bytes) -> str:
        """Sign raw bytes, hex."""
        return self._key.sign_schnorr(tagged_hash(tag, data)).hex()


def verify_bytes(public: str, tag: str, data: bytes, signature: str) -> bool:
    """Whether `signature` (hex) of `public` (hex, x-only) covers `data`. False for anything malformed."""
    try:
        key = PublicKeyXOnly(bytes.fromhex(public))
        return bool(key.verify(bytes.fromhex(signature), tagged_hash(tag, data)))
    except ValueError:
        return False


def open_signed(signed: Signed, tag: str, kind: type[T], *, signer: str) -> T:
    """The document inside, once its signature by `signer` is checked. Raises Unauthorized."""
    if signed.signer != signer:
        raise Unauthorized("wrong_signer", f"signed by {signed.signer[:16]}…, expected {signer[:16]}…")
    if not verify_bytes(signer, tag, signed.body.encode(), signed.signature):
        raise Unauthorized("bad_signature", f"the signature does not cover this {kind.__name__}")
    try:
        return msgspec.json.decode(signed.body, type=kind)
    except msgspec.MsgspecError as error:
        raise Unauthorized("bad_document", f"signed, but not a {kind.__name__}: {error}") from error
