"""Bech32 (BIP 173) without its 90-character limit. It refuses to know what the groups mean."""

from functools import cache

from l402core.bolt11.invoice import InvalidInvoice

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
MAX_CHARS = 7_089
"""What the largest QR code holds; lnd has the same limit."""

_NO_VALUE = 255
_VALUES = bytes(CHARSET.index(chr(code)) if chr(code) in CHARSET else _NO_VALUE for code in range(256))
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def split(text: str) -> tuple[str, bytes]:
    """Human-readable part and five-bit groups, checksum checked and removed. Raises InvalidInvoice."""
    if len(text) > MAX_CHARS:
        raise InvalidInvoice(f"{len(text)} characters are more than the {MAX_CHARS} an invoice may have")
    if not text.isascii() or not text.isalnum():
        raise InvalidInvoice("an invoice is made of ASCII letters and digits only")
    if text not in (text.lower(), text.upper()):
        raise InvalidInvoice("upper and lower case are mixed")
    prefix, separator, rest = text.lower().rpartition("1")
    if not separator or not prefix:
        raise InvalidInvoice("there is no '1' between the prefix and the data")
    groups = rest.encode().translate(_VALUES)
    if _NO_VALUE in groups:
        raise InvalidInvoice(f"{rest[groups.index(_NO_VALUE)]!r} is not a bech32 letter")
    if len(groups) < 6 or _polymod(_expand(prefix), groups) != 1:
        raise InvalidInvoice("the bech32 checksum does not match: a letter is wrong or missing")
    return prefix, groups[:-6]


def join(prefix: str, groups: bytes) -> str:
    """The text of `prefix` and five-bit `groups`, with its checksum."""
    checksum = _polymod(_expand(prefix), groups, bytes(6)) ^ 1
    tail = bytes((checksum >> 5 * (5 - i)) & 31 for i in range(6))
    return prefix + "1" + "".join(CHARSET[group] for group in groups + tail)


def to_bytes(groups: bytes, what: str) -> bytes:
    """Five-bit groups as whole bytes. Raises InvalidInvoice where the padding is a whole group or not zero."""
    padding = len(groups) * 5 % 8
    value = to_int(groups)
    if padding > 4 or value & ((1 << padding) - 1):
        raise InvalidInvoice(f"the padding of the {what} is not zero bits to the next group")
    return (value >> padding).to_bytes(len(groups) * 5 // 8, "big")


def to_groups(data: bytes) -> bytes:
    """Bytes as five-bit groups, padded with zero bits."""
    padding = -len(data) * 8 % 5
    return int_to_groups(int.from_bytes(data, "big") << padding, (len(data) * 8 + padding) // 5)


def to_int(groups: bytes) -> int:
    """Five-bit groups as one big-endian number."""
    # int() of a base-32 numeral is linear-time C code for a power of two, unlike shifting group by group.
    return int(groups.translate(_NUMERAL), 32) if groups else 0


def int_to_groups(value: int, length: int | None = None) -> bytes:
    """A number as `length` five-bit groups, or as few as it needs (one at least)."""
    count = max(1, -(-value.bit_length() // 5)) if length is None else length
    return bytes((value >> 5 * (count - 1 - i)) & 31 for i in range(count))


_NUMERAL = bytes.maketrans(bytes(range(32)), b"0123456789abcdefghijklmnopqrstuv")


def _expand(prefix: str) -> bytes:
    letters = prefix.encode()
    return bytes(letter >> 5 for letter in letters) + b"\0" + bytes(letter & 31 for letter in letters)


def _polymod(*parts: bytes) -> int:
    """BIP 173's checksum. It is linear: each of its bits is the parity of some bits of the groups, taken as one number.

    So thirty operations on long numbers stand for one step per group, which took most of the time of reading an invoice.
    """
    groups = b"".join(parts)
    value = 1 << 5 * len(groups) | to_int(groups)
    checksum = 0
    for mask in _masks(len(groups).bit_length()):
        checksum = checksum << 1 | (value & mask).bit_count() & 1
    return checksum


@cache
def _masks(log_groups: int) -> tuple[int, ...]:
    """By bit of the checksum, the highest first: the bits that it is the parity of, in up to 2 ** log_groups groups."""
    after = [1 << bit for bit in range(5)]
    """What each bit of one group has become of the checksum, once some zero groups have come in after it."""
    found: list[str] = []
    for _ in range(1 << log_groups):
        found += (f"{one:030b}" for one in after)
        after = [_step(one) for one in after]
    return tuple(int("".join(column), 2) for column in zip(*reversed(found), strict=True))


def _step(checksum: int) -> int:
    """One group of zero comes in."""
    following = (checksum & 0x1FFFFFF) << 5
    for bit, term in enumerate(_GENERATOR):
        if checksum >> 25 + bit & 1:
            following ^= term
    return following
