"""How a round is judged: who is measured, what the reference is, what each submission earns and why.

Pure: every fact is an argument. It knows no database, no bus, no clock, no key and no tensor.
"""

from collections.abc import Container, Mapping, Sequence

import msgspec
from l402core.documents import LADDER, Check, Locked, Offer, RoundRoot, Terms
from l402core.errors import Contradiction
from l402core.events import (
    GradientMeasured,
    GradientScreened,
    GradientUploaded,
    RejectedEarly,
    RoundAssessed,
    YardstickMade,
)
from l402core.evidence import Yardstick
from sparseloco.clip import median_norms

from l402_oracle import scoring
from l402_oracle.attestor.own_data import Question, Tried, answer, not_own_data, question, tried
from l402_oracle.failures import OURS
from l402_oracle.scoring import PPM, Interval, PayRules, Reason
from l402_oracle.similarity import Duplicate

NANO = 1_000_000_000


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One uploaded submission, as far as it has been heard of."""

    commitment: str
    offer: Offer
    uploaded: GradientUploaded | None = None
    screened: GradientScreened | None = None
    locked: Locked | None = None
    measured: GradientMeasured | None = None
    traceparent: str = ""

    @property
    def is_ready(self) -> bool:
        """Nothing is missing that an assessment waits for."""
        return self.uploaded is not None and self.screened is not None and self.locked is not None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One submission's decision, before it is signed. Scores in nano-nats per token."""

    verdict: str
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    drop_mean: int = 0
    drop_low: int = 0
    drop_high: int = 0
    quality_ppm: int = 0
    units: int = 0
    mask: int = 0


def check_terms(terms: Terms) -> None:
    """Refuse terms that this oracle cannot judge by. Raises Contradiction."""
    if terms.rungs != LADDER or terms.quality_cap_ppm != scoring.MAX_QUALITY_PPM:
        raise Contradiction("terms_ladder", "the terms' ladder or quality cap is not the one this oracle pays by")
    if not 0 <= terms.phi_ppm < PPM or terms.unit_msat <= 0:
        raise Contradiction("terms_pay", f"phi {terms.phi_ppm} ppm or unit {terms.unit_msat} msat cannot be paid by")


def root_trouble(root: RoundRoot, offered: Sequence[str]) -> str:
    """Why the settler's root cannot be that of the offers made, `offered` by sequence number; '' where it can.

    A commitment whose offer is still on its way is no trouble yet.
    """
    unheard = [c for c in offered if c not in root.commitments]
    if unheard:
        return f"the root leaves out {_short(unheard[0])}, for which an offer was made"
    known = set(offered)
    if tuple(c for c in root.commitments if c in known) != tuple(offered):
        return "the root's order is not that of the sequence numbers in the offers"
    if len(set(root.commitments)) != len(root.commitments):
        return "the root names a commitment twice"
    return ""


def assess(
    event: RoundAssessed,
    submissions: Sequence[Submission],
    copies: Mapping[str, Duplicate],
    yardstick: YardstickMade | None = None,
) -> RoundAssessed:
    """`event` (root, seed and shards) with the norms to clip to, who is measured, and who is refused early and why.

    Who is in neither list was not screened in time, and is unscored.
    """
    rejected = [(s, fault) for s in submissions if (fault := _early_fault(s, copies))]
    refused = {s.commitment for s, _ in rejected}
    measured = [s for s in submissions if s.commitment not in refused and _may_be_measured(s)]
    norms = [s.screened.norms for s in measured if s.screened]
    usable = yardstick is not None and not yardstick.failure and len(yardstick.norms) == len(norms[0] if norms else ())
    return msgspec.structs.replace(
        event,
        yardstick=yardstick.yardstick if yardstick and usable else "",
        clip_norms=clip_norms(norms, yardstick.norms if yardstick and usable else ()),
        measured=tuple(s.commitment for s in measured),
        rejected=tuple(RejectedEarly(commitment=s.commitment, code=f.code, detail=f.sentence) for s, f in rejected),
    )


def clip_norms(norms: Sequence[Sequence[float]], yardstick: Sequence[float]) -> tuple[float, ...]:
    """Per tensor: the yardstick's norms, which no submission moves; without one, the medians of those measured."""
    if yardstick:
        return tuple(yardstick)
    return median_norms(norms) if norms else ()


def _may_be_measured(submission: Submission) -> bool:
    screened = submission.screened
    return submission.is_ready and screened is not None and screened.passed


def _early_fault(submission: Submission, copies: Mapping[str, Duplicate]) -> Reason | None:
    screened, commitment = submission.screened, submission.commitment
    if screened is not None and not screened.passed and screened.code not in OURS:
        return Reason(screened.code, screened.detail)
    return _copied(copies[commitment]) if commitment in copies else None


def _copied(copy: Duplicate) -> Reason:
    how, earlier = copy.likeness, _short(copy.earlier)
    if copy.mixed:
        where = f"they hold {copy.mixed:.0%} of its indices, {earlier} most of them"
        return Reason("mixture", f"It is patched together of earlier submissions: {where}.")
    shared = f"{how.overlap:.0%} of its indices, cosine {how.cosine:.2f}"
    return Reason("duplicate", f"It copies an earlier submission ({earlier}): it shares {shared}.")


def question_of(
    assessed: RoundAssessed, submissions: Sequence[Submission], yardstick: GradientMeasured | None = None
) -> Question | None:
    """What the round asks of everybody's assigned data, and how sure it can be."""
    own = tried(yardstick) if yardstick is not None and yardstick.drop_low > 0 else None
    return question(_tried(assessed, submissions), own)


def late_faults(
    assessed: RoundAssessed, submissions: Sequence[Submission], asked: Question | None
) -> dict[str, Reason]:
    """By commitment: what only measurements beside one another show to be wrong."""
    return not_own_data(_tried(assessed, submissions), asked)


def reference_of(
    terms: Terms,
    assessed: RoundAssessed,
    submissions: Sequence[Submission],
    faults: Container[str],
    yardstick: GradientMeasured | None = None,
) -> int:
    """The round's reference drop in nano-nats, over what improves and has no late fault; 0 while no round has had one."""
    counted = [s for s in submissions if s.commitment not in faults]
    return reference_from(terms, [m.drop_mean for s in counted if (m := _improving(assessed, s))], yardstick)


def reference_from(terms: Terms, drops: Sequence[int], yardstick: GradientMeasured | Yardstick | None) -> int:
    """The same from what is public: the drops that count and the yardstick's, all in nano-nats."""
    shown = yardstick.drop_mean / NANO if yardstick is not None and yardstick.drop_low > 0 else None
    previous = terms.reference_previous / NANO if terms.reference_previous else None
    value = scoring.reference([drop / NANO for drop in drops], terms.phi_ppm, previous, shown)
    return round(value * NANO) if value else 0


def judge(
    terms: Terms,
    assessed: RoundAssessed,
    submission: Submission,
    reference: int,
    fault: Reason | None = None,
    asked: Question | None = None,
) -> Verdict:
    """What one submission earns, and why; `fault`: its own of `late_faults`, `asked`: the round's `question_of`."""
    early = next((r for r in assessed.rejected if r.commitment == submission.commitment), None)
    if early is not None:
        return _refused(Reason(early.code, early.detail), passed=_passed_before(early.code))
    if submission.commitment not in assessed.measured:
        return unscored(Reason("not_screened", _why_not_screened(submission)))
    measured = submission.measured
    if measured is None:
        return unscored(Reason("not_measured", "It was not measured before the judging ended; its fee is credited."))
    if measured.failure:
        return _failed(measured.failure)
    seen = Interval(measured.drop_mean / NANO, (measured.drop_high - measured.drop_mean) / NANO / 3, measured.sequences)
    rules = PayRules(phi_ppm=terms.phi_ppm, rungs=len(terms.rungs))
    decision = scoring.decide(seen, (fault,) if fault else (), reference / NANO if reference else None, rules)
    return Verdict(
        verdict=decision.verdict,
        reasons=tuple(reason.sentence for reason in decision.reasons),
        checks=(
            *_passed(measured, fault, asked),
            *(_check(reason, passed=decision.mask > 0) for reason in decision.reasons),
        ),
        drop_mean=measured.drop_mean,
        drop_low=measured.drop_low,
        drop_high=measured.drop_high,
        quality_ppm=decision.quality_ppm,
        units=decision.units,
        mask=decision.mask,
    )


def _passed(measured: GradientMeasured, fault: Reason | None, asked: Question | None) -> tuple[Check, ...]:
    one = tried(measured)
    if fault or one is None or asked is None:
        return _PASSED
    return (*_PASSED, Check(code="own_data", passed=True, detail=answer(one, asked)))


def fared(verdicts: Sequence[tuple[Submission, Verdict]]) -> dict[str, int]:
    """How each peer did, for its reputation: the drop of its best accepted work; what was not judged does not count."""
    best: dict[str, int] = {}
    for submission, verdict in verdicts:
        if verdict.verdict != "unscored":
            drop = verdict.drop_mean if verdict.verdict == "accepted" else 0
            best[submission.offer.peer] = max(drop, best.get(submission.offer.peer, 0))
    return best


_PASSED = (
    Check(code="locked", passed=True, detail="The reward was locked before the measurement."),
    Check(code="screened", passed=True, detail="The payload opened, and it is well-formed for this round and peer."),
    Check(code="original", passed=True, detail="It repeats no earlier submission."),
)


def _counted(assessed: RoundAssessed, submission: Submission) -> GradientMeasured | None:
    measured = submission.measured
    if measured is None or measured.failure or submission.commitment not in assessed.measured:
        return None
    return measured


def _improving(assessed: RoundAssessed, submission: Submission) -> GradientMeasured | None:
    measured = _counted(assessed, submission)
    return measured if measured is not None and measured.drop_low > 0 else None


def _tried(assessed: RoundAssessed, submissions: Sequence[Submission]) -> dict[str, Tried]:
    improvements = {s.commitment: m for s in submissions if (m := _improving(assessed, s))}
    return {commitment: one for commitment, m in improvements.items() if (one := tried(m))}


def _failed(failure: str) -> Verdict:
    code, _, detail = failure.partition(": ")
    if code in OURS:
        return unscored(
            Reason("not_measured", f"It could not be measured on our side ({detail}); its fee is credited.")
        )
    return _refused(Reason(code, detail), passed=_PASSED)


def _why_not_screened(submission: Submission) -> str:
    if submission.screened is not None and not submission.screened.passed:
        return f"It could not be read on our side ({submission.screened.detail}); its fee is credited."
    return "It was not opened before the judging had to begin; its fee is credited."


def _passed_before(code: str) -> tuple[Check, ...]:
    """What an early fault leaves true: the lock, and a payload that opened, where that is not the fault."""
    lock, opened, _ = _PASSED
    return (lock, *((opened,) if code in ("duplicate", "mixture") else ()))


def _refused(reason: Reason, *, passed: tuple[Check, ...] = ()) -> Verdict:
    return Verdict(verdict="rejected", reasons=(reason.sentence,), checks=(*passed, _check(reason, passed=False)))


def unscored(reason: Reason) -> Verdict:
    """Not judged, for no fault of its own."""
    return Verdict(verdict="unscored", reasons=(reason.sentence,), checks=(_check(reason, passed=False),))


def _check(reason: Reason, *, passed: bool) -> Check:
    return Check(code=reason.code, passed=passed, detail=reason.sentence)


def _short(commitment: str) -> str:
    return f"{commitment[:16]}…"
