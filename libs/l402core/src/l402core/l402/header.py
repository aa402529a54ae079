"""L402 as text: challenges, credentials and their grammar. It refuses to know whether a credential is any good.

Strict where we are the server: anchored, length-capped, one credential. Tolerant where we are the client: servers write
`macaroon=` or `token=`, quoted or not, in any order, and several challenges in one header.
"""

import base64
import binascii
import re
from collections.abc import Sequence

import msgspec

from l402core.bolt11 import Invoice
from l402core.bolt11 import decode as decode_invoice
from l402core.errors import Malformed
from l402core.l402 import identifier
from l402core.l402.authenticate import parse_challenges
from l402core.l402.caveats import PREIMAGE_KEY
from l402core.l402.macaroon import Macaroon, decode
from l402core.l402.wire import MAX_MACAROON_BYTES
from l402core.secret import Secret

MAX_HEADER_CHARS = 8_192
MAX_HEADER_LINES = 16

_SCHEME = re.compile(r"(?:L402|LSAT)(?![!#$%&'*+.^_`|~0-9A-Za-z-])", re.ASCII | re.IGNORECASE)
_CREDENTIAL = re.compile(r"(?:L402|LSAT) +([A-Za-z0-9+/_-]+={0,2}):([0-9A-Fa-f]{64})", re.ASCII | re.IGNORECASE)
_PREIMAGE = re.compile(rb"[0-9A-Fa-f]{64}")
_BOLT11 = re.compile(r"[A-Za-z0-9]+", re.ASCII)


class Credential(msgspec.Struct, frozen=True):
    """A macaroon and the preimage that makes it worth something. Shows neither."""

    macaroon: Macaroon
    preimage: Secret

    def __repr__(self) -> str:
        return "Credential(…)"


class Challenge(msgspec.Struct, frozen=True):
    """What a server asks. The invoice is decoded, and its payment hash is the macaroon's."""

    macaroon: Macaroon
    bolt11: str
    invoice: Invoice

    def __repr__(self) -> str:
        return f"Challenge({self.invoice.amount_msat} msat)"


def challenge(macaroon: Macaroon, bolt11: str) -> str:
    """The one WWW-Authenticate value that every known client parses and that also satisfies the newer text."""
    if not _BOLT11.fullmatch(bolt11):
        raise ValueError("a bolt11 has only letters and digits")
    encoded = base64.b64encode(macaroon.encode()).decode()
    return f'L402 macaroon="{encoded}", invoice="{bolt11}", version="0", token="{encoded}"'


def credential(macaroon: Macaroon, preimage: Secret) -> str:
    """The Authorization value, for clients."""
    return f"L402 {base64.b64encode(macaroon.encode()).decode()}:{preimage.reveal().hex()}"


def parse_credential(authorization: Sequence[str]) -> Credential | None:
    """The credential in all Authorization values of a request; None when none of them is an L402 one.

    Raises Malformed for one that is not in the grammar, beyond the limits, or for two that differ.
    """
    _limit(authorization)
    lines = [line.strip(" \t") for line in authorization]
    return _single([_parse_line(line) for line in lines if _SCHEME.match(line)])


def parse_grpc_metadata(values: Sequence[str]) -> Credential | None:
    """The credential in all `Grpc-Metadata-Macaroon` (or `Macaroon`) values: hex, with a caveat `preimage=<hex>`.

    None for no values. Raises Malformed as `parse_credential` does, and for several preimages that differ.
    """
    _limit(values)
    return _single([_parse_hex(value.strip(" \t")) for value in values])


def parse_challenge(value: str) -> Challenge:
    """The first usable L402 (else LSAT) challenge of a WWW-Authenticate value.

    Raises Malformed (also InvalidInvoice) where there is none, or where the invoice pays for another macaroon.
    """
    _limit([value])
    offers = [(scheme.upper(), params) for scheme, params in parse_challenges(value)]
    offers = sorted((offer for offer in offers if offer[0] in ("L402", "LSAT")), key=lambda offer: offer[0])
    if not offers:
        raise Malformed("no_challenge", "the header has no L402 or LSAT challenge")
    failure = Malformed("no_challenge", "no challenge was read")
    for _, params in offers:
        try:
            return _read_offer(params)
        except Malformed as error:
            failure = error
    raise failure


def _read_offer(params: dict[str, str]) -> Challenge:
    named = {params[name] for name in ("macaroon", "token") if name in params}
    bolt11 = params.get("invoice")
    if len(named) != 1 or bolt11 is None:
        raise Malformed(
            "bad_challenge", "a challenge needs one invoice and one macaroon (or token), not two that differ"
        )
    macaroon = decode(_from_base64(named.pop()))
    invoice = decode_invoice(bolt11)
    if identifier.decode(macaroon.identifier).payment_hash != invoice.payment_hash:
        raise Malformed("challenge_mismatch", "paying this invoice would not pay for this macaroon: the hashes differ")
    return Challenge(macaroon, bolt11, invoice)


def _parse_line(line: str) -> Credential:
    parts = _CREDENTIAL.fullmatch(line)
    if parts is None:
        raise Malformed("bad_credential", "an L402 credential is 'L402 <base64 macaroon>:<preimage, 64 hex digits>'")
    return Credential(decode(_from_base64(parts[1])), Secret(bytes.fromhex(parts[2])))


def _parse_hex(text: str) -> Credential:
    try:
        macaroon = decode(binascii.unhexlify(text))
    except ValueError:  # binascii.Error, and text that is not ASCII
        raise Malformed("bad_credential", "a macaroon in metadata is written in hex") from None
    prefix = f"{PREIMAGE_KEY}=".encode()
    told = {caveat[len(prefix) :].lower() for caveat in macaroon.caveats if caveat.startswith(prefix)}
    if len(told) != 1 or not _PREIMAGE.fullmatch(preimage := told.pop()):
        raise Malformed("bad_credential", "a macaroon in metadata carries one caveat 'preimage=<64 hex digits>'")
    return Credential(macaroon, Secret(bytes.fromhex(preimage.decode())))


def _single(credentials: list[Credential]) -> Credential | None:
    if any(other != credentials[0] for other in credentials[1:]):
        raise Malformed("credential_conflict", "the request carries several L402 credentials, and they differ")
    return credentials[0] if credentials else None


def _limit(values: Sequence[str]) -> None:
    if len(values) > MAX_HEADER_LINES or sum(map(len, values)) > MAX_HEADER_CHARS:
        raise Malformed(
            "header_too_long", f"more than {MAX_HEADER_LINES} lines or {MAX_HEADER_CHARS} characters of header"
        )


def _from_base64(text: str) -> bytes:
    """Standard or URL-safe, padded or not; exactly one text per alphabet and padding for any bytes."""
    bare = text.rstrip("=")
    standard = bare.replace("-", "+").replace("_", "/")
    try:
        raw = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:
        raise Malformed("bad_base64", "the macaroon is not in base64") from None
    if len(raw) > MAX_MACAROON_BYTES:
        raise Malformed("bad_macaroon", f"the macaroon has more than {MAX_MACAROON_BYTES} bytes")
    urlsafe, padding = base64.urlsafe_b64encode(raw).decode(), text[len(bare) :]
    plain = base64.b64encode(raw).decode()
    if bare not in (plain.rstrip("="), urlsafe.rstrip("=")) or padding not in ("", plain[len(bare) :]):
        raise Malformed("bad_base64", "the macaroon's base64 is not canonical: alphabet, padding or last bits")
    return raw
