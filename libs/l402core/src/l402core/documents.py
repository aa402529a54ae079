"""What the parties sign: terms, statement, offer, locked, receipts. It knows no bus and no database.

Times are unix milliseconds, money integer msat, keys and hashes lower-case hex, heights absolute block heights.
Each class names the tag under which it is signed; a signature under another tag means nothing.
"""

import hashlib
from typing import ClassVar

import msgspec

from l402core.money import Msat
from l402core.signing import Signed, canonical, tagged_hash

LADDER = (1, 2, 4, 8, 16, 32)
"""Rungs in units: any whole number of units up to 63 is the sum of some of them."""


class ObjectRef(msgspec.Struct, frozen=True, kw_only=True):
    """A claim check: bytes in the object store. Large bytes never ride the bus."""

    uri: str
    sha256: str
    size: int


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How a peer is expected to train. Floats are ppm integers, so that the signed bytes have one form."""

    inner_steps: int
    batch: int
    sequence_length: int
    learning_rate_ppm: int
    feedback_decay_ppm: int
    outer_rate_ppm: int
    chunk_k: int


class TrancheTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Who funds a round: a sponsor's money that already waits, and what the round must be worth for it to be paid."""

    sponsorship: str
    tranche: int
    payment_hash: str
    amount_msat: Msat
    margin: int
    """Nano-nats per token by which the new checkpoint must beat its parent, mean - 3·SE."""


JUDGED_LATEST_MS = 15_000
"""How long after a round's judge_by the oracle may still decide. What is undecided then stays unscored, whatever comes.

Whoever waits for a decision waits longer: the settler until it takes the oracle for silent, a peer (`L402_PEER_GRACE_S`)
until it gives its rungs back.
"""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """A round's contract, signed by the settler before anybody pays."""

    tag: ClassVar[str] = "l402-train/terms/1"

    version: int = 1
    network: str
    round: int
    checkpoint: ObjectRef
    model_id: str
    seed_commitment: str
    """sha256 of the attestor's round seed: binds it before it can see a gradient."""
    opened_at_ms: int
    commit_until_ms: int
    lock_by_ms: int
    upload_until_ms: int
    judge_by_ms: int
    reveal_by_height: int
    fee_msat: Msat
    unit_msat: Msat
    rungs: tuple[int, ...] = LADDER
    places: int
    budget_msat: Msat
    phi_ppm: int
    quality_cap_ppm: int = 2_000_000
    reference_previous: int
    """Last round's reference, in nano-nats of paired loss drop; 0 before the first."""
    eval_tokens: int
    cltv_min: int
    cltv_max: int
    invoice_expiry_min_s: int
    payload_max_bytes: int
    expected_peers: tuple[str, ...]
    """Where not empty, a phase ends once all of these are through it."""
    recipe: Recipe
    settler: str
    attestor: str
    attestor_url: str
    reading_key: str
    """X25519 public key that payloads are sealed to."""
    yardstick: bool = False
    """Whether norms, reference and the question of assigned data are taken from an update of the oracle's own, trained by
    the recipe, instead of from what the others of the round do."""
    tranche: TrancheTerms | None = None
    """The sponsor's tranche that this round may earn; rewards are paid all the same."""
    hand_overs: tuple[Signed, ...] = ()
    """How the keys above follow from those that a peer has pinned: `HandOver`s, oldest first."""

    def digest(self) -> str:
        """The terms' hash: sha256 of the signed body."""
        return hashlib.sha256(canonical(self)).hexdigest()

    def rung_msat(self) -> tuple[int, ...]:
        """The ladder's amounts, one per rung."""
        return tuple(self.unit_msat * rung for rung in self.rungs)

    def ladder_msat(self) -> int:
        """What one submission locks."""
        return sum(self.rung_msat())


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer claims when it opens a submission."""

    tag: ClassVar[str] = "l402-train/statement/1"

    round: int
    checkpoint: str
    commitment: str
    peer: str
    seal_to: str
    """The peer's X25519 public key: preimages reach it sealed."""
    token_id: str
    terms: str
    payout_node: str
    """The payee of the reward invoices, 66 hex digits."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """The oracle's promise: it holds these preimages, and reveals what is earned."""

    tag: ClassVar[str] = "l402-train/offer/1"

    commitment: str
    round: int
    seq: int
    peer: str
    seal_to: str
    terms: str
    key_id: str
    amounts_msat: tuple[Msat, ...]
    attempt: int
    lock_by_ms: int
    upload_until_ms: int
    judge_by_ms: int
    reveal_by_height: int
    cltv_min: int
    cltv_max: int
    reward_hashes: tuple[str, ...]

    def core(self) -> bytes:
        """The bytes the preimages are derived from: everything but the hashes themselves."""
        return canonical(msgspec.structs.replace(self, reward_hashes=()))


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The peer's word that every rung's HTLC waits at its node."""

    tag: ClassVar[str] = "l402-train/accepted/1"

    commitment: str
    round: int
    peer: str
    payment_hashes: tuple[str, ...]
    expiry_heights: tuple[int, ...]


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """The settler's word: accepted at the peer's node and in flight at ours."""

    tag: ClassVar[str] = "l402-train/locked/1"

    commitment: str
    round: int
    peer: str
    payment_hashes: tuple[str, ...]
    expiry_height: int
    """The lowest of the rungs' HTLC expiry heights."""
    locked_at_ms: int


class UploadReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """The settler's word that the bytes arrived in time."""

    tag: ClassVar[str] = "l402-train/upload/1"

    commitment: str
    round: int
    peer: str
    payload_hash: str
    size: int
    uploaded_at_ms: int


class RoundRoot(msgspec.Struct, frozen=True, kw_only=True):
    """The ordered commitments of a round, closed."""

    tag: ClassVar[str] = "l402-train/root/1"

    round: int
    commitments: tuple[str, ...]

    def root(self) -> str:
        """One hash over the ordered commitments."""
        return tagged_hash(self.tag, canonical(self)).hex()


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check's outcome, for a person and for a program."""

    code: str
    passed: bool
    detail: str


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """How a measurement was made: what must be equal for it to be repeated to the bit. Empty where nothing was measured."""

    hardware: str = ""
    """The hardware class: device, torch, threads."""
    dtype: str = ""
    batch: tuple[int, ...] = ()
    """Sequences and tokens of one forward pass."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """Of the model's tensors, in their flat order."""
    corpus: str = ""
    """sha256 of the text that shards are drawn from."""
    code: str = ""
    """Version of the measuring code, and a hash of its source."""


class PayInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the terms give to the formula of pay, so that a receipt can be read alone."""

    phi_ppm: int
    quality_cap_ppm: int
    unit_msat: Msat
    rungs: tuple[int, ...]
    reference_previous: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Why this amount: everything needed to judge the same payload again. Scores in nano-nats per token."""

    tag: ClassVar[str] = "l402-train/receipt/1"

    commitment: str
    round: int
    peer: str
    verdict: str
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    checkpoint: str
    payload_hash: str
    content_key: str
    """Opens the sealed payload, so that anyone can replay; published because it is judged."""
    terms: str
    seed: str
    root: str
    shards: tuple[int, ...]
    clip_norms: tuple[float, ...] = ()
    """Per tensor: the update was clipped to these before it was measured; the yardstick's, or the round's medians."""
    outer_rate_ppm: int = 0
    """The step at which it was measured."""
    eval_tokens: int
    drop_mean: int
    drop_low: int
    drop_high: int
    reference: int
    floor: int
    pay: PayInputs | None = None
    quality_ppm: int
    units: int
    mask: int
    reward_msat: Msat
    rungs_msat: tuple[Msat, ...] = ()
    """The amounts of the rungs that are revealed, lowest first: they add up to the reward."""
    model_id: str
    conditions: Conditions = Conditions()
    judge: str = ""
    """Version of the deciding code."""
    losses: ObjectRef | None
    """Per-sequence losses before and after, in the object store."""
    previous: str
    """Digest of the receipt before this one in the round, in order of commitment; '' for the first."""


def commitment_of(*, payload_hash: str, peer: str, round_: int, checkpoint: str, nonce: str) -> str:
    """c = H(tag ‖ payload hash ‖ peer ‖ round ‖ checkpoint ‖ nonce), hex. All but the round are 32 bytes in hex."""
    parts = (payload_hash, peer, checkpoint, nonce)
    raw = [bytes.fromhex(part) for part in parts]
    if any(len(part) != 32 for part in raw):
        raise ValueError("payload hash, peer, checkpoint and nonce are 32 bytes each")
    data = raw[0] + raw[1] + round_.to_bytes(8, "big") + raw[2] + raw[3]
    return tagged_hash("l402-train/commitment/1", data).hex()


def mask_indices(mask: int, rungs: int) -> tuple[int, ...]:
    """Which rungs a mask reveals, lowest first."""
    return tuple(index for index in range(rungs) if mask >> index & 1)
