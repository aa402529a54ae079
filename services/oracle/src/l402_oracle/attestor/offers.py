"""What is offered: the whole ladder before the work, or what is owed of it afterwards, and never two that can both pay.

A new offer is made only for a reward that is decided and whose last offer is withheld for good; from then on the former
one's preimages never leave. What the settler claims about rungs is its own affair: nothing here depends on it.
"""

import msgspec
import structlog
from l402core.documents import Offer, Terms, mask_indices
from l402core.errors import Contradiction, Unavailable
from l402core.events import GradientScored, OfferMake
from l402core.outbox import Transaction

from l402_oracle.adapters import decisions as books
from l402_oracle.attestor.parts import Parts
from l402_oracle.attestor.reveal import Reveal, may_reveal
from l402_oracle.derive import payment_hash, preimage

log = structlog.get_logger()
LOCK_MAX_MS = 30 * 86_400_000
REVEAL_MAX_BLOCKS = 2_016
"""Farthest deadlines of a new offer."""


def first_offer(event: OfferMake, terms: Terms, key_id: str) -> Offer:
    """The whole ladder under the terms' deadlines; its hashes are missing yet."""
    return Offer(
        commitment=event.commitment, round=event.round, seq=event.seq, peer=event.peer, seal_to=event.seal_to,
        terms=event.terms.digest(), key_id=key_id, amounts_msat=terms.rung_msat(), attempt=event.attempt,
        lock_by_ms=terms.lock_by_ms, upload_until_ms=terms.upload_until_ms, judge_by_ms=terms.judge_by_ms,
        reveal_by_height=terms.reveal_by_height, cltv_min=terms.cltv_min, cltv_max=terms.cltv_max, reward_hashes=(),
    )  # fmt: skip


def owed_offer(parts: Parts, tx: Transaction, event: OfferMake, terms: Terms) -> Offer | None:
    """Exactly the earned rungs, under new deadlines. None where the last offer was revealed: then that is told again.

    Raises Contradiction where nothing is owed or it can still be delivered, Unavailable without a height.
    """
    scored = books.read_decision(tx, event.commitment)
    if scored is None or scored.mask == 0:
        raise Contradiction(
            "offer_not_owed", f"nothing is owed for {event.commitment[:16]}…, and a new offer was asked"
        )
    attempt, fate = books.read_fate(tx, event.commitment)
    if event.attempt != attempt + 1:
        raise Contradiction("offer_order", f"offer {event.attempt} was asked after offer {attempt}")
    if fate == books.REVEALED:
        log.warning("offer.revealed_before", commitment=event.commitment, attempt=attempt)
        books.say_again(tx, event.commitment)
        return None
    height = parts.heights.recent()
    if height is None:
        raise Unavailable("height", "no recent block height, and without one no deadline is set")
    if fate == books.OPEN:
        _withhold(parts, tx, scored, attempt, height)
    _check_deadlines(event, now_ms=parts.now_ms(), height=height)
    if not books.next_attempt(tx, event.commitment, event.attempt):
        raise Contradiction("offer_order", f"offer {attempt} of {event.commitment[:16]}… is not withheld")
    amounts = tuple(terms.rung_msat()[index] for index in mask_indices(scored.mask, len(terms.rungs)))
    return msgspec.structs.replace(
        first_offer(event, terms, parts.key_id),
        amounts_msat=amounts, lock_by_ms=event.lock_by_ms, upload_until_ms=event.lock_by_ms,
        judge_by_ms=event.lock_by_ms, reveal_by_height=event.reveal_by_height,
    )  # fmt: skip


def _withhold(parts: Parts, tx: Transaction, scored: GradientScored, attempt: int, height: int) -> None:
    """An offer that was never locked, or is too near its end, is given up for good. Raises Contradiction otherwise."""
    last = books.read_submission(tx, scored.commitment, attempt)
    assert last is not None
    if may_reveal(last.offer, last.locked, height, parts.expiry_margin_blocks) is not Reveal.NEVER:
        raise Contradiction(
            "offer_deliverable",
            f"offer {attempt} of {scored.commitment[:16]}… can be revealed, and a new one was asked",
        )
    books.settle_fate(tx, scored.commitment, attempt, books.WITHHELD)


def _check_deadlines(event: OfferMake, *, now_ms: int, height: int) -> None:
    in_time = now_ms < event.lock_by_ms <= now_ms + LOCK_MAX_MS
    if not in_time or not height < event.reveal_by_height <= height + REVEAL_MAX_BLOCKS:
        raise Contradiction(
            "offer_deadlines", f"a new offer until {event.lock_by_ms} and height {event.reveal_by_height}"
        )


def with_hashes(core: Offer, parts: Parts) -> Offer:
    """The offer with the hashes of its preimages. Raises Unavailable where its key is not at hand."""
    key = parts.preimage_key(core.key_id)
    hashes = tuple(payment_hash(preimage(key, core, index)) for index in range(len(core.amounts_msat)))
    return msgspec.structs.replace(core, reward_hashes=hashes)
