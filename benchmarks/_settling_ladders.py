"""A ladder to be settled, with all that can be computed before the clock starts: what its peer and the attestor sign."""

import hashlib

import msgspec
from _history import RUNGS
from l402core.documents import Accepted, ObjectRef, Receipt, Terms
from l402core.events import GradientScored, RegisterAccepted, RegisterUpload
from l402core.schedule import PPM
from l402core.signing import SigningKey

MASK = (1 << RUNGS) - 1
REFERENCE = 10_000_000
"""Nano-nats; any that the terms allow, with a drop so far above it that the whole ladder is earned."""
ATTESTOR = SigningKey(b"\x02" * 32)


class Ladder(msgspec.Struct):
    """One escrow that waits to be settled, and everything precomputed."""

    peer: SigningKey
    commitment: str
    preimages: list[bytes]
    node: int
    accepted: RegisterAccepted
    upload: RegisterUpload
    scored: GradientScored
    posted: int = 0
    begun_s: float = 0.0
    collected_s: float = 0.0
    """When its last rung was settled at the payee's node."""
    done_s: float = 0.0
    """When the books had it."""


def precomputed(terms: Terms, peer: SigningKey, name: str, node: int) -> Ladder:
    """The ladder of that name in the round of these terms, collected at the node of that number."""
    commitment = sha(name)
    preimages = [hashlib.sha256(f"{name} {rung}".encode()).digest() for rung in range(RUNGS)]
    hashes = tuple(hashlib.sha256(one).hexdigest() for one in preimages)
    claim = Accepted(
        commitment=commitment, round=terms.round, peer=peer.public, payment_hashes=hashes, expiry_heights=(400,) * RUNGS
    )
    receipt = Receipt(
        commitment=commitment, round=terms.round, peer=peer.public, verdict="accepted", reasons=(), checks=(),
        checkpoint="", payload_hash="", content_key="", terms=terms.digest(), seed="", root="", shards=(), eval_tokens=0,
        drop_mean=10 * REFERENCE, drop_low=1, drop_high=20 * REFERENCE, reference=REFERENCE,
        floor=REFERENCE * terms.phi_ppm // PPM, quality_ppm=terms.quality_cap_ppm, units=sum(terms.rungs), mask=MASK,
        reward_msat=terms.ladder_msat(), model_id="", losses=None, previous="",
    )  # fmt: skip
    return Ladder(
        peer=peer, commitment=commitment, preimages=preimages, node=node,
        accepted=RegisterAccepted(
            round=terms.round, commitment=commitment, peer=peer.public, accepted=peer.sign(Accepted.tag, claim)
        ),
        upload=RegisterUpload(
            round=terms.round, commitment=commitment, peer=peer.public,
            payload=ObjectRef(uri="file:///p", sha256=sha(f"payload {name}"), size=9),
        ),
        scored=GradientScored(
            id="s", occurred_at_ms=0, round=terms.round, commitment=commitment, peer=peer.public, mask=MASK,
            reward_msat=terms.ladder_msat(), verdict="accepted", reasons=(), sealed_preimages=("00" * 80,) * RUNGS,
            receipt=ATTESTOR.sign(Receipt.tag, receipt),
        ),
    )  # fmt: skip


def sha(text: str) -> str:
    """In hex, as identifiers are."""
    return hashlib.sha256(text.encode()).hexdigest()
