"""The two binary formats of a macaroon, read strictly. It refuses to know keys, chains and meanings."""

from collections.abc import Iterable

from l402core.errors import Malformed

MAX_MACAROON_BYTES = 4_096
MAX_CAVEATS = 64
SIGNATURE_BYTES = 32

_END, _LOCATION, _IDENTIFIER, _VERIFICATION, _SIGNATURE = 0, 1, 2, 4, 6
_V2 = 2
_HEX = b"0123456789abcdefABCDEF"

Parts = tuple[bytes, bytes, tuple[bytes, ...], bytes]
"""Location, identifier, caveats, signature."""


def read(raw: bytes) -> Parts:
    """V2, or V1 (which begins with a hex digit). Raises Malformed."""
    if not raw:
        raise _bad(0, "is empty")
    if len(raw) > MAX_MACAROON_BYTES:
        raise _bad(MAX_MACAROON_BYTES, f"goes on beyond {MAX_MACAROON_BYTES} bytes")
    if raw[0] == _V2:
        return _ReaderV2(raw).read()
    if raw[0] in _HEX:
        return _ReaderV1(raw).read()
    raise _bad(0, "begins neither as version 2 nor as version 1")


def write(location: bytes, identifier: bytes, caveats: Iterable[bytes], signature: bytes) -> bytes:
    """V2. An empty location is left out."""
    out = bytearray([_V2])
    if location:
        out += _field(_LOCATION, location)
    out += _field(_IDENTIFIER, identifier)
    out.append(_END)
    for caveat in caveats:
        out += _field(_IDENTIFIER, caveat)
        out.append(_END)
    out.append(_END)
    out += _field(_SIGNATURE, signature)
    return bytes(out)


class _ReaderV2:
    """Field by field: tag, length as varint, data; sections end with a zero byte."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 1

    def read(self) -> Parts:
        location = self._optional(_LOCATION)
        identifier = self._field(_IDENTIFIER, "the identifier")
        self._end("the header")
        caveats: list[bytes] = []
        while self._peek() != _END:
            if len(caveats) == MAX_CAVEATS:
                raise _bad(self._at, f"has more than {MAX_CAVEATS} caveats")
            caveats.append(self._caveat())
        self._end("the caveats")
        signature = self._field(_SIGNATURE, "the signature")
        return _checked((location, identifier, tuple(caveats), signature), self._at, len(self._raw))

    def _caveat(self) -> bytes:
        if self._peek() == _LOCATION:
            raise _bad(self._at, "has a caveat with a location, that is a third-party one, which we refuse")
        start = self._at
        caveat = self._field(_IDENTIFIER, "a caveat")
        if not caveat:
            raise _bad(start, "has an empty caveat")
        if self._peek() == _VERIFICATION:
            raise _bad(self._at, "has a third-party caveat, which we refuse")
        self._end("a caveat")
        return caveat

    def _peek(self) -> int:
        if self._at >= len(self._raw):
            raise _bad(self._at, "ends too early")
        return self._raw[self._at]

    def _end(self, what: str) -> None:
        if self._peek() != _END:
            raise _bad(self._at, f"should have a zero byte here, after {what}")
        self._at += 1

    def _optional(self, tag: int) -> bytes:
        return self._field(tag, "the location") if self._peek() == tag else b""

    def _field(self, tag: int, what: str) -> bytes:
        if self._peek() != tag:
            raise _bad(self._at, f"should have {what} (tag {tag}) here")
        self._at += 1
        length = self._varint()
        data = self._raw[self._at : self._at + length]
        if len(data) < length:
            raise _bad(self._at, f"ends before the {length} bytes of {what}")
        self._at += length
        return data

    def _varint(self) -> int:
        low = self._peek()
        self._at += 1
        if low < 0x80:
            return low
        # Two bytes hold every length below the size limit.
        high = self._peek()
        if not 0 < high < 0x80:
            raise _bad(self._at, "has a length that is beyond the limit or not in its shortest form")
        self._at += 1
        return high << 7 | low & 0x7F


class _ReaderV1:
    """Packets of four hex digits of length, a key, a space, data and a newline."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def read(self) -> Parts:
        location = self._packet(b"location")
        identifier = self._packet(b"identifier")
        caveats: list[bytes] = []
        while (key := self._key()) == b"cid":
            if len(caveats) == MAX_CAVEATS:
                raise _bad(self._at, f"has more than {MAX_CAVEATS} caveats")
            caveat = self._packet(b"cid")
            if not caveat:
                raise _bad(self._at, "has an empty caveat")
            caveats.append(caveat)
        if key in (b"vid", b"cl"):
            raise _bad(self._at, "has a third-party caveat, which we refuse")
        signature = self._packet(b"signature")
        return _checked((location, identifier, tuple(caveats), signature), self._at, len(self._raw))

    def _key(self) -> bytes:
        return self._raw[self._at + 4 : self._at + self._length()].partition(b" ")[0]

    def _length(self) -> int:
        digits = self._raw[self._at : self._at + 4]
        if len(digits) < 4 or any(digit not in _HEX for digit in digits):
            raise _bad(self._at, "should have four hex digits of packet length here")
        return int(digits, 16)

    def _packet(self, key: bytes) -> bytes:
        length = self._length()
        packet = self._raw[self._at : self._at + length]
        head = 4 + len(key) + 1
        if len(packet) < length or length < head + 1:
            raise _bad(self._at, f"has no whole packet of {length} bytes here")
        if packet[4:head] != key + b" " or packet[-1:] != b"\n":
            raise _bad(self._at, f"should have a packet '{key.decode()} …' that ends with a newline here")
        self._at += length
        return packet[head:-1]


def _checked(parts: Parts, at: int, size: int) -> Parts:
    signature = parts[-1]
    if len(signature) != SIGNATURE_BYTES:
        raise _bad(at, f"has a signature of {len(signature)} bytes, not {SIGNATURE_BYTES}")
    if at != size:
        raise _bad(at, f"goes on for {size - at} bytes after its signature")
    return parts


def _field(tag: int, data: bytes) -> bytes:
    length = len(data)
    if length >= 1 << 14:
        raise ValueError(f"a field of {length} bytes is beyond the limit")
    size = bytes([length]) if length < 0x80 else bytes([length & 0x7F | 0x80, length >> 7])
    return bytes([tag]) + size + data


def _bad(offset: int, what: str) -> Malformed:
    return Malformed("bad_macaroon", f"the macaroon {what} (offset {offset})")
