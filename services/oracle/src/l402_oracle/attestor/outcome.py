"""What a decided round has to say: the aggregate, the receipts with their page, or that the checkpoint stays.

It signs and builds; what was decided it is told, and it says nothing itself.
"""

from collections.abc import Sequence

from l402core.documents import Receipt
from l402core.events import AggregateItem, CheckpointPublished, GradientScored, RoundAggregate, RoundAssessed
from l402core.evidence import JudgedRound
from l402core.signing import Signed

from l402_oracle.adapters.decisions import Round
from l402_oracle.attestor.case import Case, judged_round, published, receipt_of
from l402_oracle.attestor.judgement import Submission, Verdict
from l402_oracle.attestor.parts import Parts
from l402_oracle.attestor.yardsticks import own_item
from l402_oracle.derive import seed_commitment
from l402_oracle.reputation import admitted

Verdicts = Sequence[tuple[Submission, Verdict]]
"""In the root's order."""


def aggregate_of(parts: Parts, case: Case, assessed: RoundAssessed, verdicts: Verdicts) -> RoundAggregate:
    """What workers are to apply: whoever is paid and has a place, and the yardstick beside them."""
    assert case.row.announced is not None
    accepted = [s for s, verdict in verdicts if verdict.verdict == "accepted"]
    pairs = [(s.commitment, s.offer.peer) for s in accepted]
    enter = admitted(pairs, case.reputations, parts.aggregate_places)
    items = tuple(
        AggregateItem(commitment=s.commitment, peer=s.offer.peer, payload=s.uploaded.payload)
        for s in accepted
        if s.commitment in enter and s.uploaded is not None
    )
    items = (*items, *own_item(case.row.yardstick, assessed, case.yardstick)) if items else ()
    return RoundAggregate(
        id=parts.new_id(), occurred_at_ms=parts.now_ms(), round=case.row.number, checkpoint=case.terms.checkpoint,
        model_id=case.row.announced.model_id, items=items, clip_norms=assessed.clip_norms,
        outer_rate_ppm=case.terms.recipe.outer_rate_ppm, init_seed=0,
    )  # fmt: skip


def same_checkpoint(parts: Parts, row: Round, reference: int) -> CheckpointPublished:
    """A round of which nothing is used leaves the checkpoint as it is, and needs no worker."""
    old, number = row.announced, row.number + 1
    assert old is not None
    seed = parts.seed(number, old.checkpoint.sha256)
    return CheckpointPublished(
        id=parts.new_id(), occurred_at_ms=parts.now_ms(), round=number, checkpoint=old.checkpoint,
        parent=old.checkpoint.sha256, model_id=old.model_id, seed_commitment=seed_commitment(seed),
        reference_previous=reference, held_out_before=old.held_out_after, held_out_after=old.held_out_after,
        accepted=(), yardstick=parts.yardstick,
    )  # fmt: skip


def papers_of(
    parts: Parts,
    case: Case,
    assessed: RoundAssessed,
    verdicts: Verdicts,
    reference: int,
    aggregate: RoundAggregate,
) -> tuple[list[GradientScored], Signed]:
    """One signed receipt each, chained in the root's order, and the signed page that names them all. Raises Unavailable."""
    events: list[GradientScored] = []
    receipts: list[tuple[Receipt, str]] = []
    previous, signing = "", parts.keys.signing.named(case.terms.attestor)
    for submission, verdict in verdicts:
        key = parts.content_key(published(submission, verdict))
        receipt = receipt_of(case, assessed, submission, verdict, reference, previous, key)
        signed: Signed = signing.sign(Receipt.tag, receipt)
        previous = signed.digest()
        receipts.append((receipt, previous))
        events.append(
            GradientScored(
                id=parts.new_id(), occurred_at_ms=parts.now_ms(), round=case.row.number,
                commitment=submission.commitment, peer=submission.offer.peer, mask=verdict.mask,
                reward_msat=receipt.reward_msat, verdict=verdict.verdict, reasons=verdict.reasons, receipt=signed,
                sealed_preimages=(),
            )
        )  # fmt: skip
    made, keys = case.row.yardstick, ("", "")
    if made is not None and assessed.yardstick:
        keys = (parts.content_key(made.sealed_key), parts.content_key(made.sealed_state_key))
    judged = judged_round(case, assessed, receipts, reference, aggregate, keys)
    return events, signing.sign(JudgedRound.tag, judged)
