"""The signature of an invoice. It knows secp256k1 and refuses to know any other field."""

from hashlib import sha256

from coincurve import PrivateKey, PublicKey

from l402core.bolt11.bech32 import to_int
from l402core.bolt11.invoice import InvalidInvoice

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def sign(private_key: bytes, prefix: str, groups: bytes) -> bytes:
    """65 bytes over the prefix and the five-bit groups before the signature."""
    return PrivateKey(private_key).sign_recoverable(_digest(prefix, groups), hasher=None)


def checked_payee(signature: bytes, prefix: str, groups: bytes, named: bytes | None) -> bytes:
    """The 33-byte key that signed. Raises InvalidInvoice.

    Where the invoice names its payee, that key must verify a low-S signature; where it does not, the key is recovered,
    and a high-S signature is as good (BOLT 11, requirements of the `n` field).
    """
    if signature[64] > 3:
        raise InvalidInvoice(f"the recovery id of the signature is {signature[64]}, not 0 to 3")
    digest = _digest(prefix, groups)
    if named is not None:
        return _verified(signature, digest, named)
    try:
        return PublicKey.from_signature_and_message(signature, digest, hasher=None).format()
    except ValueError as error:  # coincurve says "failed to recover" and "failed to parse" so
        raise InvalidInvoice("no key can have made the signature") from error


def is_public_key(data: bytes) -> bool:
    """Whether these 33 bytes are a compressed point of the curve."""
    try:
        PublicKey(data)
    except ValueError:
        return False
    return True


def _verified(signature: bytes, digest: bytes, named: bytes) -> bytes:
    if int.from_bytes(signature[32:64], "big") > _ORDER // 2:
        raise InvalidInvoice("the signature is in its high-S form, which an invoice that names its payee may not have")
    try:
        valid = PublicKey(named).verify(_der(signature), digest, hasher=None)
    except ValueError as error:
        raise InvalidInvoice("the named payee is not a point of the curve, or the signature is out of range") from error
    if not valid:
        raise InvalidInvoice("the signature is not the named payee's")
    return named


def _digest(prefix: str, groups: bytes) -> bytes:
    bits = len(groups) * 5
    padding = -bits % 8
    return sha256(prefix.encode() + (to_int(groups) << padding).to_bytes((bits + padding) // 8, "big")).digest()


def _der(signature: bytes) -> bytes:
    """r and s in the encoding that libsecp256k1's wrapper verifies."""
    numbers = b"".join(_der_integer(signature[i : i + 32]) for i in (0, 32))
    return b"\x30" + bytes([len(numbers)]) + numbers


def _der_integer(number: bytes) -> bytes:
    digits = number.lstrip(b"\0") or b"\0"
    if digits[0] & 0x80:
        digits = b"\0" + digits
    return b"\x02" + bytes([len(digits)]) + digits
