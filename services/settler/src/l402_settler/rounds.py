"""When a round's phases end, and what its terms say. Pure: clocks, heights and counts are arguments."""

import msgspec
from l402core.documents import LADDER, ObjectRef, Offer, Recipe, Terms, TrancheTerms
from l402core.escrow import Escrow
from l402core.signing import Signed

from l402_settler.config import Config

COMMIT, UPLOAD, JUDGE, DONE = "commit", "upload", "judge", "done"
ORACLE_SILENT_MS = 30_000
"""How long after judge_by a missing decision is taken for none at all."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who signs and who judges, as the terms name them."""

    settler: str
    attestor: str
    attestor_url: str
    reading_key: str
    hand_overs: tuple[Signed, ...] = ()


def make_terms(
    config: Config,
    identity: Identity,
    *,
    round_: int,
    checkpoint: ObjectRef,
    model_id: str,
    seed_commitment: str,
    reference_previous: int,
    now_ms: int,
    height: int,
    yardstick: bool = False,
    tranche: TrancheTerms | None = None,
) -> Terms:
    """The contract of one round."""
    commit_until = now_ms + config.commit_s * 1000
    lock_by = commit_until + config.lock_s * 1000
    upload_until = lock_by + config.upload_s * 1000
    return Terms(
        network=config.lnd_network,
        round=round_,
        checkpoint=checkpoint,
        model_id=model_id,
        seed_commitment=seed_commitment,
        opened_at_ms=now_ms,
        commit_until_ms=commit_until,
        lock_by_ms=lock_by,
        upload_until_ms=upload_until,
        judge_by_ms=upload_until + config.judge_s * 1000,
        reveal_by_height=height + config.reveal_blocks,
        fee_msat=config.fee_msat,
        unit_msat=config.unit_msat,
        places=config.places,
        budget_msat=config.places * sum(LADDER) * config.unit_msat,
        phi_ppm=config.phi_ppm,
        reference_previous=reference_previous,
        eval_tokens=config.eval_tokens,
        cltv_min=config.cltv_min,
        cltv_max=config.cltv_max,
        invoice_expiry_min_s=config.invoice_expiry_min_s,
        payload_max_bytes=config.payload_max_bytes,
        expected_peers=config.expected_peers,
        recipe=Recipe(
            inner_steps=config.inner_steps,
            batch=config.batch,
            sequence_length=config.sequence_length,
            learning_rate_ppm=config.learning_rate_ppm,
            feedback_decay_ppm=config.feedback_decay_ppm,
            outer_rate_ppm=config.outer_rate_ppm,
            chunk_k=config.chunk_k,
        ),
        settler=identity.settler,
        attestor=identity.attestor,
        attestor_url=identity.attestor_url,
        reading_key=identity.reading_key,
        yardstick=yardstick,
        tranche=tranche,
        hand_overs=identity.hand_overs,
    )


def commits_are_over(terms: Terms, *, peers: frozenset[str], now_ms: int) -> bool:
    """The deadline has come, or everybody whom the terms expect has opened."""
    everybody = bool(terms.expected_peers) and frozenset(terms.expected_peers) <= peers
    return now_ms >= terms.commit_until_ms or everybody


def uploads_are_over(terms: Terms, *, states: tuple[Escrow, ...], now_ms: int) -> bool:
    """The deadline has come, or every opened submission is uploaded or will never be.

    Ending early needs at least one submission: an empty round waits for its deadline.
    """
    through = {Escrow.UPLOADED, Escrow.SCORED, Escrow.FAILED, Escrow.ENDED}
    return now_ms >= terms.upload_until_ms or (bool(states) and all(state in through for state in states))


OWED_LOCK_MARGIN_MS = 10_000
"""Before a new offer of what is owed lapses: so much is left to begin paying."""


def owed_locks_until_ms(offer: Offer) -> int:
    """Invoices of what is owed come before this."""
    return offer.lock_by_ms - OWED_LOCK_MARGIN_MS


def locks_until_ms(terms: Terms) -> int:
    """Invoices come before this: the last fifth of the time to lock is for paying them.

    Later ones could not be sent any more, and "never sent" would look like our fault.
    """
    return terms.lock_by_ms - (terms.lock_by_ms - terms.commit_until_ms) // 5


def missed(terms: Terms, state: Escrow, *, phase: str, now_ms: int) -> str:
    """The reason why this escrow's deadline has passed; '' while it has not."""
    if state in (Escrow.OPENED, Escrow.OFFERED, Escrow.LOCKING) and now_ms >= terms.lock_by_ms:
        return {
            Escrow.OPENED: "the oracle made no offer in time",
            Escrow.OFFERED: "the reward invoices did not come in time",
            Escrow.LOCKING: "the ladder was not locked at both ends in time",
        }[state]
    if state is Escrow.LOCKED and (now_ms >= terms.upload_until_ms or phase in (JUDGE, DONE)):
        return "the gradient was not uploaded in time"
    if state is Escrow.UPLOADED and now_ms >= terms.judge_by_ms + ORACLE_SILENT_MS:
        return "the oracle made no decision in time"
    return ""
