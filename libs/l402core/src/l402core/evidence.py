"""What anybody needs to hold an oracle to its word: a judged round on one signed page, and its receipts. It judges nothing.

A receipt says why one amount was paid. The page is signed once per round and names every receipt by its digest, so that
no receipt can be exchanged or left out later without a second signature that contradicts the first.
"""

from typing import ClassVar

import msgspec

from l402core.documents import Check, ObjectRef, PayInputs, Receipt, Terms
from l402core.signing import Signed, tagged_hash

FAULTY = frozenset({"not_own_data"})
"""Checks that are failed by what was measured, and says nothing about how much a round's work is worth."""


class JudgedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One submission's place in its round. Scores in nano-nats per token."""

    commitment: str
    peer: str
    verdict: str
    drop_mean: int
    drop_low: int
    units: int
    receipt: str
    """The digest of its signed receipt."""
    counts: bool = True
    """Whether its drop, where it is one, counts for the round's reference: what was found faulty later does not."""


class Yardstick(msgspec.Struct, frozen=True, kw_only=True):
    """The oracle's own update of a round: honest work by the recipe, beside which the others are judged.

    Anybody can train it again: its data is drawn from its name, its name from round and checkpoint.
    """

    name: str
    payload_hash: str
    content_key: str
    norms: tuple[float, ...]
    state: str
    """sha256 of the memory it began with, which the round before left; '' where it began anew."""
    state_object: str
    """sha256 of the sealed bytes in which that memory lies."""
    state_key: str
    """Their content key: by now it may be seen."""
    next_state: str
    drop_mean: int
    drop_low: int
    drop_high: int
    own_mean: int
    """On the data that its name draws, nano-nats per token."""
    own_excess_milli: int
    """By how much it helps these more than the hidden ones, in thousandths of a standard error."""
    own_sequences: int
    losses: ObjectRef | None


class JudgedRound(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about a round, in the order of commitment."""

    tag: ClassVar[str] = "l402-train/judged/1"

    round: int
    terms: str
    root: str
    seed: str
    shards: tuple[int, ...]
    clip_norms: tuple[float, ...]
    reference: int
    entries: tuple[JudgedEntry, ...]
    receipts_root: str
    aggregated: tuple[str, ...] = ()
    """The commitments whose updates make the next checkpoint: all that were accepted, or as many as have places."""
    yardstick: Yardstick | None = None
    """Null where the terms ask for none, or where it was not made and measured in time."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The public record of a round, or of one submission of it: what `l402-train verify-receipt` reads."""

    terms: Signed
    """`Terms`, by the settler."""
    judged: Signed
    """`JudgedRound`, by the attestor."""
    receipts: tuple[Signed, ...]
    """`Receipt`, by the attestor: all of the round in the order of their chain, or one."""


def late_faults(receipt: Receipt) -> tuple[Check, ...]:
    """What only measurements beside one another showed to be wrong; who does not improve is never asked."""
    return tuple(
        check for check in receipt.checks if check.code in FAULTY and not check.passed and receipt.drop_low > 0
    )


def counts(receipt: Receipt) -> bool:
    """Whether a receipt's drop counts for its round's reference."""
    return not late_faults(receipt)


def receipts_root(digests: tuple[str, ...]) -> str:
    """One hash over the ordered receipts of a round."""
    return tagged_hash("l402-train/receipts/1", b"".join(bytes.fromhex(digest) for digest in digests)).hex()


def pay_inputs(terms: Terms) -> PayInputs:
    """What the terms give to the formula of pay."""
    return PayInputs(
        phi_ppm=terms.phi_ppm, quality_cap_ppm=terms.quality_cap_ppm, unit_msat=terms.unit_msat, rungs=terms.rungs,
        reference_previous=terms.reference_previous,
    )  # fmt: skip
