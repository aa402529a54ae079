"""Route hints and on-chain fallbacks of an invoice, to values and back. It refuses to know addresses or the graph."""

import struct

from l402core.bolt11.bech32 import to_bytes, to_groups
from l402core.bolt11.invoice import Fallback, Hop, InvalidInvoice
from l402core.bolt11.signature import is_public_key

_HOP = struct.Struct(">33sQIIH")
_PROGRAM_BYTES = {0: (20, 32), 1: (32,), 17: (20,), 18: (20,)}


def read_hops(groups: bytes) -> tuple[Hop, ...]:
    """One `r` field: the hops from a public node to the payee. Raises InvalidInvoice."""
    data = to_bytes(groups, "route hint")
    if not data or len(data) % _HOP.size:
        raise InvalidInvoice(f"a route hint of {len(data)} bytes is not a number of whole hops of {_HOP.size}")
    hops = tuple(Hop(*hop) for hop in _HOP.iter_unpack(data))
    for hop in hops:
        if not is_public_key(hop.pubkey):
            raise InvalidInvoice(f"a route hint names {hop.pubkey.hex()}, which is no public key")
    return hops


def write_hops(hops: tuple[Hop, ...]) -> bytes:
    """The groups of one `r` field. Raises ValueError for a hop whose numbers do not fit."""
    try:
        return to_groups(
            b"".join(
                _HOP.pack(
                    hop.pubkey,
                    hop.short_channel_id,
                    hop.fee_base_msat,
                    hop.fee_proportional_millionths,
                    hop.cltv_expiry_delta,
                )
                for hop in hops
            )
        )
    except struct.error as error:
        raise ValueError(f"a hop does not fit its field: {error}") from error


def read_fallback(groups: bytes) -> Fallback | None:
    """One `f` field, or None for a version that a reader skips. Raises InvalidInvoice."""
    if len(groups) < 2:
        raise InvalidInvoice("a fallback address is empty")
    if groups[0] > 18:
        return None
    version, program = groups[0], to_bytes(groups[1:], "fallback address")
    allowed = _PROGRAM_BYTES.get(version, range(2, 41))
    if len(program) not in allowed:
        raise InvalidInvoice(f"a fallback address of version {version} has {len(program)} bytes")
    return Fallback(version, program)


def write_fallback(fallback: Fallback) -> bytes:
    """The groups of one `f` field."""
    return bytes([fallback.version]) + to_groups(fallback.program)
