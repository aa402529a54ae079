"""What a sponsor, the settler and the oracle sign about a sponsorship. It knows no bus and no database.

Money is integer msat, scores nano-nats per token, keys and hashes lower-case hex, heights absolute block heights.
"""

import hashlib
from typing import ClassVar

import msgspec

from l402core.documents import ObjectRef
from l402core.money import Msat
from l402core.signing import canonical, tagged_hash

TRANCHES_MAX = 255
"""A tranche's number is one byte of what its preimage is derived from."""


class Pledge(msgspec.Struct, frozen=True, kw_only=True):
    """What a sponsor offers: so much for each round that makes the model so much better."""

    tag: ClassVar[str] = "l402-train/pledge/1"

    network: str
    sponsor: str
    amount_msat: Msat
    """For one round."""
    tranches: int
    """Rounds."""
    margin: int
    """The tranche is earned only where mean - 3·SE of the paired loss drop from parent to child reaches this."""
    nonce: str
    """64 hex digits of the sponsor's choice, so that it may pledge the same twice."""

    def sponsorship(self) -> str:
        """The sponsorship's id."""
        return tagged_hash(self.tag, canonical(self)).hex()


class SponsorshipTerms(msgspec.Struct, frozen=True, kw_only=True):
    """The settler's word that it takes the pledge, and to which key the oracle seals what was earned."""

    tag: ClassVar[str] = "l402-train/sponsorship/1"

    sponsorship: str
    pledge: str
    """Digest of the sponsor's signed pledge."""
    sponsor: str
    amount_msat: Msat
    tranches: int
    margin: int
    seal_to: str
    """The settler's X25519 public key."""


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """The oracle's promise: it alone holds these preimages, and reveals one only where its round was worth it."""

    tag: ClassVar[str] = "l402-train/announcement/1"

    sponsorship: str
    pledge: str
    sponsor: str
    amount_msat: Msat
    tranches: int
    margin: int
    seal_to: str
    key_id: str
    hashes: tuple[str, ...]

    def core(self) -> bytes:
        """The bytes the preimages are derived from: everything but the hashes themselves."""
        return hashlib.sha256(canonical(msgspec.structs.replace(self, hashes=()))).digest()


class TrancheLocked(msgspec.Struct, frozen=True, kw_only=True):
    """The settler's word that the sponsor's money waits at the coordinator's node."""

    tag: ClassVar[str] = "l402-train/tranche-locked/1"

    sponsorship: str
    tranche: int
    payment_hash: str
    amount_msat: Msat
    expiry_height: int
    """Of the HTLC that expires first."""
    locked_at_ms: int


class TrancheReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """Why a tranche was earned or not: enough to measure both checkpoints again."""

    tag: ClassVar[str] = "l402-train/tranche-receipt/1"

    sponsorship: str
    tranche: int
    payment_hash: str
    amount_msat: Msat
    round: int
    terms: str
    """Digest of the round's terms."""
    parent: str
    checkpoint: str
    """sha256 of the round's base and of what came out of it."""
    root: str
    shards: tuple[int, ...]
    """Hidden shards that nothing else of the round was measured on."""
    sequences: int
    drop_mean: int
    drop_low: int
    drop_high: int
    margin: int
    earned: bool
    reason: str
    hardware: str
    losses: ObjectRef | None


def is_earned(drop_low: int, margin: int) -> bool:
    """Whether the child beat its parent by the margin, with three standard errors to spare."""
    return drop_low >= margin > 0
