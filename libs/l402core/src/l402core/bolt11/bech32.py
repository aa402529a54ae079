"""Bech32 (BIP 173) without its 90-character limit. It refuses to know what the groups mean."""

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


def _fold(top: int) -> int:
    folded = 0
    for bit, term in enumerate(_GENERATOR):
        if top >> bit & 1:
            folded ^= term
    return folded


_FOLDED = tuple(_fold(top) for top in range(32))


def _after_two(top: int) -> int:
    """What is left of a checksum's upper ten bits once two groups, both zero, have come in."""
    once = (top << 20 & 0x1FFFFFF) << 5 ^ _FOLDED[top >> 5]
    return (once & 0x1FFFFFF) << 5 ^ _FOLDED[once >> 25]


_AFTER_TWO = tuple(map(_after_two, range(1024)))


def _polymod(*parts: bytes) -> int:
    """BIP 173's checksum, two groups at a time: it is linear, and most of the time is Python's between two of them."""
    groups = b"".join(parts)
    checksum = 1
    if len(groups) % 2:
        checksum = 32 ^ groups[0]
        groups = groups[1:]
    for first, second in zip(groups[::2], groups[1::2], strict=True):
        checksum = (checksum & 0xFFFFF) << 10 ^ first << 5 ^ second ^ _AFTER_TWO[checksum >> 20]
    return checksum
