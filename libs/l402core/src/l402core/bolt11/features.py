"""Feature bits of an invoice (BOLT 9). It knows which ones we understand, and refuses required ones we do not."""

from functools import lru_cache

from l402core.bolt11.bech32 import int_to_groups, to_int
from l402core.bolt11.invoice import InvalidInvoice

VAR_ONION = 8
PAYMENT_SECRET = 14
BASIC_MPP = 16
PAYMENT_METADATA = 48

_KNOWN = {VAR_ONION, PAYMENT_SECRET, BASIC_MPP, PAYMENT_METADATA}
_NEEDS = {PAYMENT_SECRET: VAR_ONION, BASIC_MPP: PAYMENT_SECRET}
"""Even bit numbers; the odd bit above each is the same feature, optional."""


@lru_cache(maxsize=64)
def read_features(groups: bytes) -> frozenset[int]:
    """The bits that are set; one node's invoices all have the same.

    Raises InvalidInvoice for an unknown even bit, or a feature without what it builds on.
    """
    value = to_int(groups)
    bits = frozenset(i for i in range(value.bit_length()) if value >> i & 1)
    unknown = sorted(bit for bit in bits if bit % 2 == 0 and bit not in _KNOWN)
    if unknown:
        raise InvalidInvoice(f"it requires feature {unknown[0]}, which we do not know")
    offered = {bit & ~1 for bit in bits}
    for feature, needed in _NEEDS.items():
        if feature in offered and needed not in offered:
            raise InvalidInvoice(f"it offers feature {feature} without feature {needed}, which that builds on")
    return bits


def write_features(bits: frozenset[int]) -> bytes:
    """The shortest field for these bits; empty for none."""
    return int_to_groups(sum(1 << bit for bit in bits)) if bits else b""
