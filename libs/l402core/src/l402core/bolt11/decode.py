"""Text to `Invoice`, as BOLT 11 asks of a reader. It refuses to know the time, our network and our wallet."""

from collections.abc import Iterator
from functools import lru_cache

from l402core.bolt11.amount import parse_prefix
from l402core.bolt11.bech32 import CHARSET, split, to_bytes, to_int
from l402core.bolt11.features import read_features
from l402core.bolt11.hints import read_fallback, read_hops
from l402core.bolt11.invoice import (
    DEFAULT_EXPIRY_S,
    DEFAULT_MIN_FINAL_CLTV,
    Fallback,
    Hop,
    InvalidInvoice,
    Invoice,
)
from l402core.bolt11.signature import checked_payee

_TIMESTAMP_GROUPS = 7
_SIGNATURE_GROUPS = 104
_MAX_NUMBER = 2**32 - 1
_MAX_NUMBER_GROUPS = 13
"""Leading zeros are read up to 64 bits, as lnd does."""
_FIXED_LENGTH = {"p": 52, "s": 52, "h": 52, "n": 53}
"""A field of these that has another length is skipped, not refused."""


def decode(text: str) -> Invoice:
    """Read, check and verify one invoice. Raises InvalidInvoice, and nothing else for any text.

    Stricter than the reader's minimum in three places where readers differ: a single-valued field may not come twice,
    exactly one of description and its hash must be there, and padding must be zero.
    """
    return _decode(text)


@lru_cache(maxsize=1024)
def _decode(text: str) -> Invoice:
    """Whoever checks an invoice, pays it and tracks it reads it each time; finding the payee is most of the cost."""
    prefix, groups = split(text)
    network, amount_msat = parse_prefix(prefix)
    if len(groups) < _TIMESTAMP_GROUPS + _SIGNATURE_GROUPS:
        raise InvalidInvoice("it is too short for a timestamp and a signature")
    signed, signature = groups[:-_SIGNATURE_GROUPS], to_bytes(groups[-_SIGNATURE_GROUPS:], "signature")
    fields = _Fields(_fields(signed[_TIMESTAMP_GROUPS:]))
    payee = checked_payee(signature, prefix, signed, fields.data("n", "payee"))
    description_hash = fields.data("h", "description hash")
    description = fields.text("d", "description")
    if (description is None) == (description_hash is None):
        raise InvalidInvoice("it needs either a description or the hash of one, and not both")
    return Invoice(
        network=network,
        amount_msat=amount_msat,
        timestamp=to_int(groups[:_TIMESTAMP_GROUPS]),
        payment_hash=fields.required("p", "payment hash"),
        payment_secret=fields.required("s", "payment secret"),
        payee=payee,
        description=description,
        description_hash=description_hash,
        expiry=fields.number("x", "expiry", DEFAULT_EXPIRY_S),
        min_final_cltv=fields.number("c", "final CLTV delta", DEFAULT_MIN_FINAL_CLTV),
        features=read_features(fields.single.get("9", b"")),
        route_hints=tuple(fields.route_hints),
        fallbacks=tuple(fields.fallbacks),
        metadata=fields.data("m", "metadata"),
        unknown=tuple(fields.unknown),
        signature=signature,
    )


def _fields(groups: bytes) -> Iterator[tuple[str, bytes]]:
    """Each (tag letter, groups) in order."""
    position = 0
    while position < len(groups):
        if position + 3 > len(groups):
            raise InvalidInvoice("the last tagged field is cut off in its header")
        tag = CHARSET[groups[position]]
        end = position + 3 + 32 * groups[position + 1] + groups[position + 2]
        if end > len(groups):
            raise InvalidInvoice(f"the {tag!r} field is longer than the data that is left")
        yield tag, groups[position + 3 : end]
        position = end


class _Fields:
    """The tagged fields by kind: single-valued ones, repeatable ones, and those a reader skips."""

    def __init__(self, fields: Iterator[tuple[str, bytes]]) -> None:
        self.single: dict[str, bytes] = {}
        self.route_hints: list[tuple[Hop, ...]] = []
        self.fallbacks: list[Fallback] = []
        self.unknown: list[tuple[str, bytes]] = []
        for tag, groups in fields:
            self._sort(tag, groups)

    def _sort(self, tag: str, groups: bytes) -> None:
        if tag == "r":
            self.route_hints.append(read_hops(groups))
        elif tag == "f" and (fallback := read_fallback(groups)):
            self.fallbacks.append(fallback)
        elif tag not in "pshndxcm9" or len(groups) != _FIXED_LENGTH.get(tag, len(groups)):
            self.unknown.append((tag, groups))
        elif tag in self.single:
            raise InvalidInvoice(f"there are two {tag!r} fields")
        else:
            self.single[tag] = groups

    def data(self, tag: str, what: str) -> bytes | None:
        groups = self.single.get(tag)
        return None if groups is None else to_bytes(groups, what)

    def required(self, tag: str, what: str) -> bytes:
        if tag not in self.single:
            raise InvalidInvoice(f"it has no {what} of 32 bytes")
        return to_bytes(self.single[tag], what)

    def text(self, tag: str, what: str) -> str | None:
        data = self.data(tag, what)
        try:
            return None if data is None else str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInvoice(f"the {what} is not UTF-8") from error

    def number(self, tag: str, what: str, default: int) -> int:
        groups = self.single.get(tag)
        if groups is not None and len(groups) > _MAX_NUMBER_GROUPS:
            raise InvalidInvoice(
                f"the {what} is written in {len(groups)} groups of five bits, not in as few as it needs"
            )
        value = default if groups is None else to_int(groups)
        if value > _MAX_NUMBER:
            raise InvalidInvoice(f"the {what} is more than 32 bits can hold")
        return value
