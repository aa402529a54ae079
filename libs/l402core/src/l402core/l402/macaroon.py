"""Macaroons with first-party caveats: bytes, chain of HMACs, attenuation. It refuses to know what a caveat means.

Binary format V2 as in libmacaroons and gopkg.in/macaroon.v2; V1 is read, never written.
Chain: `key = HMAC("macaroons-key-generator", root)`, `sig_0 = HMAC(key, identifier)`,
`sig_i = HMAC(sig_{i-1}, caveat_i)`.
"""

import hmac
from collections.abc import Iterable

import msgspec
import pymacaroons
from pymacaroons.serializers.binary_serializer import BinarySerializer

from l402core.errors import Malformed
from l402core.l402.wire import MAX_CAVEATS, MAX_MACAROON_BYTES, read, write
from l402core.secret import Secret


class Macaroon(msgspec.Struct, frozen=True):
    """One macaroon. With the preimage it is money's worth, so its repr shows nothing of it."""

    location: bytes
    """A hint for people; not covered by the signature."""
    identifier: bytes
    caveats: tuple[bytes, ...]
    signature: bytes

    def __repr__(self) -> str:
        return f"Macaroon(… {len(self.caveats)} caveats)"

    def encode(self) -> bytes:
        """Binary format V2."""
        return write(self.location, self.identifier, self.caveats, self.signature)


def decode(raw: bytes) -> Macaroon:
    """Read V2 or V1, strictly: no slack, no third-party caveat, within the limits. Raises Malformed with the offset."""
    return Macaroon(*read(raw))


def mint(root_key: Secret, identifier: bytes, caveats: Iterable[bytes], location: bytes) -> Macaroon:
    """A new macaroon. Raises ValueError beyond the limits, UnicodeDecodeError where a caveat is not UTF-8."""
    made = pymacaroons.Macaroon(
        location=location, identifier=identifier, key=root_key.reveal(), version=pymacaroons.MACAROON_V2
    )
    for caveat in caveats:
        made.add_first_party_caveat(caveat)
    try:
        return decode(BinarySerializer().serialize_raw(made))
    except Malformed as error:
        raise ValueError(
            f"a macaroon of that identifier and those caveats would not be read: {error.detail}"
        ) from error


def append(macaroon: Macaroon, caveat: bytes) -> Macaroon:
    """The holder's attenuation: the same macaroon with one caveat more. Raises ValueError beyond the limits."""
    longer = msgspec.structs.replace(
        macaroon,
        caveats=(*macaroon.caveats, caveat),
        signature=hmac.digest(macaroon.signature, caveat, "sha256"),
    )
    if not caveat or len(longer.caveats) > MAX_CAVEATS or len(longer.encode()) > MAX_MACAROON_BYTES:
        raise ValueError(f"one caveat more is empty, or beyond {MAX_CAVEATS} caveats or {MAX_MACAROON_BYTES} bytes")
    return longer


def verify_signature(macaroon: Macaroon, root_key: Secret) -> bool:
    """Whether this root key signed exactly this identifier and these caveats, in this order. Constant time."""
    signature = hmac.digest(
        hmac.digest(b"macaroons-key-generator", root_key.reveal(), "sha256"), macaroon.identifier, "sha256"
    )
    for caveat in macaroon.caveats:
        signature = hmac.digest(signature, caveat, "sha256")
    return hmac.compare_digest(signature, macaroon.signature)
