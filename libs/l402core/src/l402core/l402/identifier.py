"""The 66-byte L402 identifier: version, payment hash, token id. It refuses to know keys."""

import struct

import msgspec

from l402core.errors import Malformed

TOKEN_ID_BYTES = 32
KEY_ID_BYTES = 4

_LAYOUT = struct.Struct(">H32s32s")


class Identifier(msgspec.Struct, frozen=True):
    """What a token is about. The first four bytes of the token id name the root key that signed."""

    payment_hash: bytes
    token_id: bytes
    version: int = 0

    @property
    def key_id(self) -> bytes:
        return self.token_id[:KEY_ID_BYTES]

    def encode(self) -> bytes:
        """u16 big-endian version | 32 B payment hash | 32 B token id. Raises ValueError for other lengths."""
        if (len(self.payment_hash), len(self.token_id), self.version) != (32, TOKEN_ID_BYTES, 0):
            raise ValueError("an identifier has version 0, a payment hash of 32 bytes and a token id of 32 bytes")
        return _LAYOUT.pack(self.version, self.payment_hash, self.token_id)


def decode(raw: bytes) -> Identifier:
    """Raises Malformed for another length or version."""
    if len(raw) != _LAYOUT.size:
        raise Malformed("bad_identifier", f"the macaroon's identifier has {len(raw)} bytes, not {_LAYOUT.size}")
    version, payment_hash, token_id = _LAYOUT.unpack(raw)
    if version != 0:
        raise Malformed("bad_identifier", f"the macaroon's identifier is of version {version}, and we know only 0")
    return Identifier(payment_hash, token_id, version)
