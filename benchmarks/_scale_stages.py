"""When each stage of each round was reached, from the facts on the bus. Pure: it asks no clock and starts nothing."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from l402core import events
from l402core.documents import Terms
from l402core.events import EVENTS, FACTS, Event

KINDS: dict[str, type[Event]] = {kind.name: kind for kind in EVENTS if kind.stream == FACTS}
STAGES = ("trained", "fee paid", "opened", "offered", "locked", "uploaded", "judged", "settled", "next checkpoint")
_AT_ONCE: dict[type[Event], str] = {
    events.SubmissionOpened: "opened",
    events.OfferMade: "offered",
    events.EscrowLocked: "locked",
    events.GradientUploaded: "uploaded",
    events.GradientScored: "judged",
}
DEADLINE = {
    "trained": "commit", "fee paid": "commit", "opened": "commit", "offered": "lock", "locked": "lock", "uploaded": "upload",
    "judged": "judge",
}  # fmt: skip
"""By which of the terms' deadlines a stage must be through; the others have none."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A stage of one round, seconds after it was opened."""

    count: int
    first_s: float
    median_s: float
    last_s: float


class RoundTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One round: how long each stage took, who got how far, and for how much."""

    round: int
    opened_at_ms: int
    deadlines_s: dict[str, float]
    stages: dict[str, Spread]
    opened: int
    locked: int
    uploaded: int
    judged: int
    accepted: int
    paid: int
    """Submissions of which at least one rung was settled."""
    fees_msat: int
    locked_msat: int
    rewards_msat: int
    """Decided."""
    settled_msat: int
    loss_before_nano: int
    loss_after_nano: int
    reasons: dict[str, int]
    """Why the others were not accepted, and how often."""


class Story:
    """All facts of a run, in any order."""

    def __init__(self) -> None:
        self.facts: list[Event] = []
        self.bytes = 0

    def take(self, subject: str, body: bytes, traceparent: str = "") -> None:
        """One message of the stream of facts."""
        del traceparent
        kind = KINDS.get(".".join(subject.split(".")[:3]))
        if kind is not None:
            self.facts.append(msgspec.json.decode(body, type=kind))
            self.bytes += len(body)

    def terms(self) -> dict[int, Terms]:
        """Of each round that was opened."""
        opened = [fact for fact in self.facts if isinstance(fact, events.RoundOpened)]
        return {fact.round: msgspec.json.decode(fact.terms.body, type=Terms) for fact in opened}

    def published(self) -> dict[int, events.CheckpointPublished]:
        """The checkpoint that each round began from."""
        return {fact.round: fact for fact in self.facts if isinstance(fact, events.CheckpointPublished)}

    def is_over(self, rounds: int) -> bool:
        """Whether so many rounds are over, and every rung of theirs that was locked has ended."""
        locked = {fact.commitment for fact in self.facts if isinstance(fact, events.EscrowLocked)}
        ends = len({(fact.commitment, fact.index) for fact in self._ends() if fact.commitment in locked})
        rungs = len(next(iter(self.terms().values())).rungs) if self.terms() else 0
        return rounds + 1 in self.published() and ends == rungs * len(locked)

    def _ends(self) -> Iterable[events.EscrowSettled | events.EscrowReturned]:
        return (fact for fact in self.facts if isinstance(fact, events.EscrowSettled | events.EscrowReturned))

    def rounds(self, trained: Mapping[int, list[int]] | None = None) -> list[RoundTimes]:
        """Every round that was opened; `trained`: when its peers had trained, Unix milliseconds, as they say themselves."""
        terms = self.terms()
        return [self._round(terms, number, (trained or {}).get(number, [])) for number in sorted(terms)]

    def _round(self, all_terms: dict[int, Terms], number: int, trained: list[int]) -> RoundTimes:
        terms, mine = all_terms[number], [fact for fact in self.facts if getattr(fact, "round", None) == number]
        at: dict[str, list[int]] = {"trained": trained, "fee paid": self._fees(all_terms, number)}
        for fact in mine:
            if name := _AT_ONCE.get(type(fact)):
                at.setdefault(name, []).append(fact.occurred_at_ms)
        at["settled"] = list(_last_ends(mine).values())
        following = self.published().get(number + 1)
        at["next checkpoint"] = [following.occurred_at_ms] if following else []
        scored = [fact for fact in mine if isinstance(fact, events.GradientScored)]
        settled = [fact for fact in mine if isinstance(fact, events.EscrowSettled)]
        opened = [fact for fact in mine if isinstance(fact, events.SubmissionOpened)]
        locked = sum(isinstance(fact, events.EscrowLocked) for fact in mine)
        base = self.published().get(number)
        return RoundTimes(
            round=number, opened_at_ms=terms.opened_at_ms, deadlines_s=deadlines_s(terms),
            stages={name: spread(terms.opened_at_ms, at[name]) for name in STAGES if at.get(name)},
            opened=len(opened), locked=locked, uploaded=len(at.get("uploaded", [])), judged=len(scored),
            accepted=sum(fact.verdict == "accepted" for fact in scored), paid=len({fact.commitment for fact in settled}),
            fees_msat=sum(fact.fee_msat for fact in opened), locked_msat=locked * sum(terms.rung_msat()),
            rewards_msat=sum(fact.reward_msat for fact in scored), settled_msat=sum(fact.amount_msat for fact in settled),
            loss_before_nano=base.held_out_after if base else 0,
            loss_after_nano=following.held_out_after if following else 0, reasons=_reasons(mine),
        )  # fmt: skip

    def _fees(self, terms: dict[int, Terms], number: int) -> list[int]:
        """A fee names no round: it belongs to the one that was open when it was paid."""
        begins = terms[number].opened_at_ms
        ends = terms[number + 1].opened_at_ms if number + 1 in terms else 1 << 62
        paid = (fact.occurred_at_ms for fact in self.facts if isinstance(fact, events.FeeSettled))
        return [at for at in paid if begins <= at < ends]


def deadlines_s(terms: Terms) -> dict[str, float]:
    """The end of each phase, seconds after the opening."""
    ends = {
        "commit": terms.commit_until_ms, "lock": terms.lock_by_ms, "upload": terms.upload_until_ms,
        "judge": terms.judge_by_ms,
    }  # fmt: skip
    return {name: (at - terms.opened_at_ms) / 1_000 for name, at in ends.items()}


def spread(opened_at_ms: int, at_ms: list[int]) -> Spread:
    """The first, the middle and the last of them. Raises ValueError for none."""
    seconds = sorted((at - opened_at_ms) / 1_000 for at in at_ms)
    return Spread(
        count=len(seconds), first_s=seconds[0], median_s=statistics.median(seconds), last_s=seconds[-1]
    )  # fmt: skip


def _last_ends(mine: list[Event]) -> dict[str, int]:
    """Commitment -> when the last of its rungs ended."""
    last: dict[str, int] = {}
    for fact in mine:
        if isinstance(fact, events.EscrowSettled | events.EscrowReturned):
            last[fact.commitment] = max(last.get(fact.commitment, 0), fact.occurred_at_ms)
    return last


def _reasons(mine: list[Event]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for fact in mine:
        reason = ""
        if isinstance(fact, events.GradientScored) and fact.verdict != "accepted":
            reason = f"{fact.verdict}: {fact.reasons[0] if fact.reasons else ''}"
        elif isinstance(fact, events.SubmissionExpired | events.EscrowFailed):
            reason = fact.reason
        if reason:
            counted[reason] = counted.get(reason, 0) + 1
    return counted


def table(rounds: list[RoundTimes]) -> str:
    """Markdown: a row for each stage, first / median / last of each round in seconds after its opening."""
    head = ["stage", "through by", *(f"round {one.round}: first / median / last, s" for one in rounds)]
    lines = [head, ["---"] * len(head)]
    for stage in STAGES:
        due = rounds[0].deadlines_s.get(DEADLINE.get(stage, "")) if rounds else None
        cells = [_cell(one.stages.get(stage)) for one in rounds]
        lines.append([stage, f"{due:.0f}" if due is not None else "", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(found: Spread | None) -> str:
    return f"{found.first_s:.1f} / {found.median_s:.1f} / **{found.last_s:.1f}**" if found else ""


def money(rounds: list[RoundTimes], peers: int) -> str:
    """Markdown: who got how far, and the money."""
    head = [
        "round", "opened", "locked", "uploaded", "judged", "accepted", "paid", "fees, msat", "locked, msat",
        "decided, msat", "settled, msat", "held-out loss",
    ]  # fmt: skip
    lines: list[list[Any]] = [head, ["---"] * len(head)]
    for one in rounds:
        counts = (one.opened, one.locked, one.uploaded, one.judged, one.accepted, one.paid)
        amounts = (one.fees_msat, one.locked_msat, one.rewards_msat, one.settled_msat)
        loss = f"{one.loss_before_nano / 1e9:.3f} → {one.loss_after_nano / 1e9:.3f}" if one.loss_after_nano else ""
        lines.append([one.round, *(f"{count}" for count in counts), *(f"{amount:,}" for amount in amounts), loss])
    rows = "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
    return f"{rows}\n\nof {peers} peers each"
