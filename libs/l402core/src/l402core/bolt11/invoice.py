"""What an invoice says, as values. It knows the fields of BOLT 11 and refuses to know how they are written."""

import msgspec

from l402core.errors import Malformed

DEFAULT_EXPIRY_S = 3_600
DEFAULT_MIN_FINAL_CLTV = 18
NETWORK_OF_PREFIX = {"bc": "mainnet", "tb": "testnet", "tbs": "signet", "bcrt": "regtest", "sb": "simnet"}
PREFIX_OF_NETWORK = {network: prefix for prefix, network in NETWORK_OF_PREFIX.items()}


class InvalidInvoice(Malformed):
    """The text is not an invoice that may be paid. `code` is always `invalid_invoice`; `detail` says why."""

    def __init__(self, detail: str) -> None:
        super().__init__("invalid_invoice", detail)


class Hop(msgspec.Struct, frozen=True):
    """One channel of a route hint. `pubkey` (33 bytes) is the node at the channel's start."""

    pubkey: bytes
    short_channel_id: int
    fee_base_msat: int
    fee_proportional_millionths: int
    cltv_expiry_delta: int


class Fallback(msgspec.Struct, frozen=True):
    """An on-chain address: witness version 0..16 and program, or 17 (P2PKH) or 18 (P2SH) and a hash of 20 bytes."""

    version: int
    program: bytes


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded, signature-checked invoice. Amounts are msat (None: the payer chooses), times unix seconds."""

    network: str
    """mainnet, testnet, signet, regtest or simnet."""
    amount_msat: int | None
    timestamp: int
    payment_hash: bytes
    payment_secret: bytes
    payee: bytes
    """33 bytes, recovered from the signature or, where the invoice names it, checked against the signature."""
    description: str | None = None
    description_hash: bytes | None = None
    """Exactly one of `description` and `description_hash` is there."""
    expiry: int = DEFAULT_EXPIRY_S
    min_final_cltv: int = DEFAULT_MIN_FINAL_CLTV
    features: frozenset[int] = frozenset()
    """Numbers of the feature bits that are set."""
    route_hints: tuple[tuple[Hop, ...], ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    metadata: bytes | None = None
    unknown: tuple[tuple[str, bytes], ...] = ()
    """Fields a reader must skip: (tag letter, five-bit groups), in order."""
    signature: bytes
    """64 bytes r and s, then one byte recovery id."""

    def expires_at_ms(self) -> int:
        """From this moment on no payment of it may begin, unix milliseconds."""
        return (self.timestamp + self.expiry) * 1_000
