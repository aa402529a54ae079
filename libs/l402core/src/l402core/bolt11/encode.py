"""Values to signed invoice text, as BOLT 11 asks of a writer. It refuses to know a node, a wallet and the time."""

from l402core.bolt11.amount import write_prefix
from l402core.bolt11.bech32 import CHARSET, int_to_groups, join, to_groups
from l402core.bolt11.features import BASIC_MPP, PAYMENT_SECRET, VAR_ONION, write_features
from l402core.bolt11.hints import write_fallback, write_hops
from l402core.bolt11.invoice import DEFAULT_EXPIRY_S, DEFAULT_MIN_FINAL_CLTV, Fallback, Hop
from l402core.bolt11.signature import sign

LND_FEATURES = frozenset({VAR_ONION, PAYMENT_SECRET, BASIC_MPP + 1})
"""What lnd puts into a plain invoice: variable onion and payment secret required, multi-part payment optional."""

_MAX_FIELD_GROUPS = 1_023


def encode(
    private_key: bytes,
    *,
    payment_hash: bytes,
    payment_secret: bytes,
    timestamp: int,
    amount_msat: int | None = None,
    description: str | None = None,
    description_hash: bytes | None = None,
    expiry: int | None = DEFAULT_EXPIRY_S,
    min_final_cltv: int | None = DEFAULT_MIN_FINAL_CLTV,
    network: str = "regtest",
    features: frozenset[int] = LND_FEATURES,
    route_hints: tuple[tuple[Hop, ...], ...] = (),
    fallbacks: tuple[Fallback, ...] = (),
    metadata: bytes | None = None,
    payee: bytes | None = None,
) -> str:
    """An invoice signed with `private_key` (32 bytes). Amounts are msat, times seconds.

    Without `description` and `description_hash` the description is empty; with None for `expiry` or `min_final_cltv` the
    field is left to its default. `payee` (33 bytes) is named only when given;
    it must then be the key's own. Raises ValueError for anything BOLT 11 cannot say.
    """
    if description is not None and description_hash is not None:
        raise ValueError("an invoice has a description or the hash of one, not both")
    if not 0 <= timestamp < 1 << 35:
        raise ValueError(f"the timestamp {timestamp} does not fit 35 bits")
    prefix = write_prefix(network, amount_msat)
    groups = b"".join(
        [
            int_to_groups(timestamp, 7),
            _field("p", to_groups(_exactly(payment_hash, 32, "payment hash"))),
            _field("d", to_groups((description or "").encode())) if description_hash is None else b"",
            _field("h", to_groups(_exactly(description_hash, 32, "description hash")))
            if description_hash is not None
            else b"",
            _field("m", to_groups(metadata)) if metadata is not None else b"",
            _field("n", to_groups(_exactly(payee, 33, "payee"))) if payee is not None else b"",
            _field("c", _number(min_final_cltv)) if min_final_cltv is not None else b"",
            _field("x", _number(expiry)) if expiry is not None else b"",
            *(_field("f", write_fallback(fallback)) for fallback in fallbacks),
            *(_field("r", write_hops(hops)) for hops in route_hints),
            _field("s", to_groups(_exactly(payment_secret, 32, "payment secret"))),
            _field("9", write_features(features)) if features else b"",
        ]
    )
    return join(prefix, groups + to_groups(sign(private_key, prefix, groups)))


def _field(tag: str, groups: bytes) -> bytes:
    if len(groups) > _MAX_FIELD_GROUPS:
        raise ValueError(f"the {tag!r} field has {len(groups)} groups of five bits; at most {_MAX_FIELD_GROUPS} fit")
    return bytes([CHARSET.index(tag), len(groups) >> 5, len(groups) & 31]) + groups


def _number(value: int) -> bytes:
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{value} does not fit 32 bits")
    return int_to_groups(value)


def _exactly(data: bytes, length: int, what: str) -> bytes:
    if len(data) != length:
        raise ValueError(f"the {what} has {len(data)} bytes, not {length}")
    return data
