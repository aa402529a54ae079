"""A closed round as one value, what can be decided from it alone, and what is certified about it.

Pure: the time is an argument. It asks no database, holds no key and says nothing.
"""

from collections.abc import Container, Sequence

import msgspec
from l402core.documents import JUDGED_LATEST_MS, Conditions, ObjectRef, Receipt, RoundRoot, Terms, mask_indices
from l402core.events import GradientMeasured, RoundAggregate, RoundAssessed
from l402core.evidence import JudgedEntry, JudgedRound, Yardstick, counts, pay_inputs, receipts_root

from l402_oracle.adapters.decisions import Round
from l402_oracle.attestor.judgement import Submission, Verdict, root_trouble
from l402_oracle.code import JUDGE
from l402_oracle.reputation import Rating

HEARING_MS = 15_000
"""An attestor that was away hears of a closed round in any order: so long it waits for the rest, also past judge_by, but
never past the moment at which the round lapses."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A closed round with everything heard of it."""

    row: Round
    terms: Terms
    root: RoundRoot
    offered: tuple[str, ...]
    uploaded: tuple[Submission, ...]
    """In the root's order."""
    refused: tuple[str, ...] = ()
    """Commitments that get no offer."""
    reputations: dict[str, Rating] = {}
    """Of its peers, from earlier rounds."""
    yardstick: GradientMeasured | None = None
    """What the oracle's own update was measured at."""


def trouble_of(case: Case, *, now_ms: int) -> str:
    """Why the settler's closing of this round cannot be true; '' where it can. Such a round is frozen."""
    row = case.row
    if row.commits is not None and row.closed is not None and row.commits.body != row.closed.root.body:
        return "the root at closing is not the one under which uploads began"
    if trouble := root_trouble(case.root, case.offered):
        return trouble
    if now_ms >= heard_by_ms(case) and uploaded_unoffered(case):
        return "the closing names an upload for which no offer was ever asked"
    return ""


def unoffered(case: Case) -> frozenset[str]:
    """The root's commitments for which no offer was asked, or not yet. Without an upload they earn and cost nothing."""
    return frozenset(case.root.commitments) - frozenset(case.offered) - frozenset(case.refused)


def uploaded_unoffered(case: Case) -> bool:
    """Whether an upload is named for which no offer was asked, or not yet."""
    closed = case.row.closed
    return closed is not None and not (unoffered(case) | frozenset(case.refused)).isdisjoint(closed.uploaded)


def heard_by_ms(case: Case) -> int:
    """When all that was said of the round should have reached us: later where the closing itself came late."""
    terms, heard_ms = case.terms, case.row.closed_at_ms
    if heard_ms <= (terms.upload_until_ms + terms.judge_by_ms) // 2:
        return terms.judge_by_ms
    return max(terms.judge_by_ms, heard_ms + HEARING_MS)


def lapses_at_ms(terms: Terms) -> int:
    """What is not decided by then never is: soon a peer may be told so, and give its rungs back."""
    return terms.judge_by_ms + JUDGED_LATEST_MS


def judged_by_ms(case: Case) -> int:
    """When we stop waiting for a measurement: at judge_by, or a little later where the closing came late."""
    return min(heard_by_ms(case), lapses_at_ms(case.terms))


def half_ms(case: Case) -> int:
    """From here on whoever is ready is assessed without the others."""
    return (case.row.closed_at_ms + judged_by_ms(case)) // 2


def may_assess(case: Case, *, now_ms: int) -> bool:
    """All is there; or half of the judging time is over and something is; or all of it is over; or nothing is judged."""
    if case.row.lapsed_at_ms:
        return not uploaded_unoffered(case)
    closing, until_ms = case.row.closed, judged_by_ms(case)
    assert closing is not None
    if now_ms >= until_ms:
        return True
    if unoffered(case):
        return False
    ready = sum(s.is_ready for s in case.uploaded)
    whole = ready == len(closing.uploaded) and (case.row.yardstick is not None or not case.terms.yardstick)
    return whole or (ready > 0 and now_ms >= half_ms(case))


def must_wait(case: Case, unpaid: Container[str], height: int | None, *, now_ms: int) -> bool:
    """For measurements as long as there is time, and for a height until the round lapses."""
    assessed = case.row.assessed
    if case.row.lapsed_at_ms or assessed is None:
        return False
    if case.uploaded and height is None:
        return True
    return bool(unmeasured(case, unpaid)) and now_ms < judged_by_ms(case)


def unmeasured(case: Case, unpaid: Container[str]) -> frozenset[str]:
    """Whose measurements a decision waits for, the yardstick's included."""
    assessed = case.row.assessed
    assert assessed is not None
    open_ = {s.commitment for s in case.uploaded if s.measured is None and s.commitment not in unpaid}
    own = {assessed.yardstick} if assessed.yardstick and case.yardstick is None else set()
    return frozenset(open_ & set(assessed.measured) | own)


def receipt_of(
    case: Case, assessed: RoundAssessed, submission: Submission, verdict: Verdict, reference: int, previous: str, key: str,
) -> Receipt:  # fmt: skip
    """What is signed about one submission. `reference` in nano-nats; `previous`: the digest of the receipt before it;
    `key`: the payload's content key, where it is published."""
    measured, uploaded = submission.measured, submission.uploaded
    counted = measured if verdict.verdict != "unscored" and submission.commitment in assessed.measured else None
    assert case.row.announced is not None
    return Receipt(
        commitment=submission.commitment, round=case.row.number, peer=submission.offer.peer, verdict=verdict.verdict,
        reasons=verdict.reasons, checks=verdict.checks, checkpoint=case.terms.checkpoint.sha256,
        payload_hash=uploaded.payload.sha256 if uploaded else "", content_key=key,
        terms=case.terms.digest(), seed=assessed.seed, root=assessed.root, shards=assessed.shards,
        eval_tokens=counted.tokens if counted else 0, drop_mean=verdict.drop_mean, drop_low=verdict.drop_low,
        drop_high=verdict.drop_high, reference=reference, floor=reference * case.terms.phi_ppm // 1_000_000,
        quality_ppm=verdict.quality_ppm, units=verdict.units, mask=verdict.mask,
        reward_msat=verdict.units * case.terms.unit_msat, model_id=case.row.announced.model_id,
        losses=_public(counted.losses) if counted else None, previous=previous, clip_norms=assessed.clip_norms,
        outer_rate_ppm=case.terms.recipe.outer_rate_ppm, pay=pay_inputs(case.terms), judge=JUDGE,
        rungs_msat=tuple(case.terms.rung_msat()[index] for index in mask_indices(verdict.mask, len(case.terms.rungs))),
        conditions=counted.conditions if counted else Conditions(),
    )  # fmt: skip


def published(submission: Submission, verdict: Verdict) -> str:
    """The sealed key to the payload, for who wants to judge again. What was not judged is nobody's but the peer's."""
    screened = submission.screened
    return screened.sealed_key if screened is not None and verdict.verdict != "unscored" else ""


def _public(ref: ObjectRef | None) -> ObjectRef | None:
    """Found by its hash: where it lies on our disk is nobody's business."""
    return None if ref is None else msgspec.structs.replace(ref, uri="")


def judged_round(
    case: Case,
    assessed: RoundAssessed,
    receipts: Sequence[tuple[Receipt, str]],
    reference: int,
    aggregate: RoundAggregate,
    keys: tuple[str, str],
) -> JudgedRound:
    """The round on one page, for all receipts with their digests in the root's order; `keys`: to the yardstick's payload, and
    to the memory that it began with."""
    return JudgedRound(
        round=case.row.number, terms=case.terms.digest(), root=assessed.root, seed=assessed.seed,
        shards=assessed.shards, clip_norms=assessed.clip_norms, reference=reference,
        entries=tuple(
            JudgedEntry(
                commitment=receipt.commitment, peer=receipt.peer, verdict=receipt.verdict, drop_mean=receipt.drop_mean,
                drop_low=receipt.drop_low, units=receipt.units, receipt=digest, counts=counts(receipt),
            )
            for receipt, digest in receipts
        ),
        receipts_root=receipts_root(tuple(digest for _, digest in receipts)),
        aggregated=tuple(item.commitment for item in aggregate.items), yardstick=_yardstick(case, assessed, *keys),
    )  # fmt: skip


def _yardstick(case: Case, assessed: RoundAssessed, key: str, state_key: str) -> Yardstick | None:
    made, seen = case.row.yardstick, case.yardstick
    if not assessed.yardstick or made is None or made.payload is None or made.state is None:
        return None
    counted = seen if seen is not None and not seen.failure else None
    return Yardstick(
        name=made.yardstick, payload_hash=made.payload.sha256, content_key=key, norms=made.norms,
        state=made.state_before, state_object=made.state_object, state_key=state_key, next_state=made.state_after,
        drop_mean=counted.drop_mean if counted else 0,
        drop_low=counted.drop_low if counted else 0, drop_high=counted.drop_high if counted else 0,
        own_mean=counted.own_mean if counted else 0, own_excess_milli=counted.own_excess_milli if counted else 0,
        own_sequences=counted.own_sequences if counted else 0, losses=_public(counted.losses) if counted else None,
    )  # fmt: skip
