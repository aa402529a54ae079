"""What has happened in a network, joined from the facts on its bus in any order. It asks nothing and prints nothing."""

from collections.abc import Callable
from typing import Any

import msgspec
from l402core import events
from l402core.documents import Receipt, Terms
from l402core.events import EVENTS, Event

from l402train.peers import Peer
from l402train.report import RoundReport, SubmissionReport, by_number
from l402train.sponsored import Tranches

NANO = 1e-9
_BY_NAME: dict[str, type[Event]] = {kind.name: kind for kind in EVENTS if kind.stream == events.FACTS}


class Submission:
    """One submission as far as facts tell."""

    def __init__(self, commitment: str) -> None:
        self.commitment = commitment
        self.peer = ""
        self.seq = 0
        self.round = 0
        self.fee_msat = 0
        self.locked = False
        self.uploaded = False
        self.receipt: Receipt | None = None
        self.problem = ""
        self.ended: dict[int, int] = {}
        """What each rung that has ended paid, msat."""
        self.trace_id = ""


class Round:
    """One round as far as facts tell."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.terms: Terms | None = None
        self.commits_closed = False
        self.closed = False

    @property
    def phase(self) -> str:
        """What the peers or the oracle are doing now."""
        if self.closed:
            return "judge and aggregate"
        return "upload" if self.commits_closed else "train, pay and lock"


class Facts:
    """Everything so far. `on_change` is called after each fact, with its event."""

    def __init__(self, cast: tuple[Peer, ...], clock: Callable[[], float]) -> None:
        self.rounds: dict[int, Round] = {}
        self.submissions: dict[str, Submission] = {}
        self.losses: dict[int, float] = {}
        """Held-out loss of the checkpoint that is each round's base, nats per token."""
        self.tranches = Tranches()
        self.first_paid_s: float | None = None
        """By `clock`: when the first rung settled."""
        self._cast = {peer.identity: peer for peer in cast}
        self._clock = clock

    def take(self, subject: str, body: bytes, traceparent: str) -> Event | None:
        """One fact from the bus; None for what is not known here."""
        kind = _BY_NAME.get(".".join(subject.split(".")[:3]))
        if kind is None:
            return None
        fact: Any = msgspec.json.decode(body, type=kind)
        if isinstance(fact, events.SubmissionEvent):
            self._take_submission(fact, traceparent)
        if isinstance(fact, events.RoundEvent):
            self._take_round(fact)
        self.tranches.take(fact)
        return fact  # type: ignore[no-any-return]  # decoded as `kind`, which is an Event

    def _take_round(self, fact: events.RoundEvent) -> None:
        if isinstance(fact, events.CheckpointPublished):
            self.losses[fact.round] = fact.held_out_after * NANO
        elif isinstance(fact, events.RoundOpened):
            self._round(fact.round).terms = msgspec.json.decode(fact.terms.body, type=Terms)
        elif isinstance(fact, events.CommitsClosed):
            self._round(fact.round).commits_closed = True
        elif isinstance(fact, events.RoundClosed):
            self._round(fact.round).closed = True

    def _round(self, number: int) -> Round:
        return self.rounds.setdefault(number, Round(number))

    def _take_submission(self, fact: events.SubmissionEvent, traceparent: str) -> None:
        submission = self.submissions.setdefault(fact.commitment, Submission(fact.commitment))
        submission.round = fact.round
        match fact:
            case events.SubmissionOpened():
                submission.peer, submission.seq, submission.fee_msat = fact.peer, fact.seq, fact.fee_msat
                submission.trace_id = traceparent[3:35]
            case events.EscrowLocked():
                submission.locked = True
            case events.GradientUploaded():
                submission.uploaded = True
            case events.GradientScored():
                submission.receipt = msgspec.json.decode(fact.receipt.body, type=Receipt)
            case events.SubmissionExpired() | events.EscrowFailed():
                submission.problem = fact.reason
            case events.EscrowSettled():
                submission.ended[fact.index] = fact.amount_msat
                if self.first_paid_s is None:
                    self.first_paid_s = self._clock()
            case events.EscrowReturned():
                submission.ended[fact.index] = 0
            case _:
                pass

    def of_round(self, number: int) -> list[Submission]:
        """Opened submissions, in order of their numbers."""
        mine = [
            submission for submission in self.submissions.values() if submission.round == number and submission.peer
        ]
        return sorted(mine, key=lambda submission: submission.seq)

    def current(self) -> Round | None:
        """The last round that was opened."""
        return self.rounds[max(self.rounds)] if self.rounds else None

    def is_over(self, number: int) -> bool:
        """Whether the round has its next checkpoint and each of its submissions an end that is known."""
        return number + 1 in self.losses and all(self._has_end(submission) for submission in self.of_round(number))

    def _has_end(self, submission: Submission) -> bool:
        return submission.receipt is not None or bool(submission.problem)

    def is_settled(self) -> bool:
        """Whether every rung and every tranche that was locked has ended."""
        return self.tranches.are_over() and all(
            len(submission.ended) == len(self._rungs(submission))
            for submission in self.submissions.values()
            if submission.locked
        )

    def _rungs(self, submission: Submission) -> tuple[int, ...]:
        round_ = self.rounds.get(submission.round)
        return round_.terms.rung_msat() if round_ is not None and round_.terms is not None else ()

    def settled_msat(self) -> int:
        """What peers have collected in all."""
        return sum(sum(submission.ended.values()) for submission in self.submissions.values())

    def report(self, number: int) -> RoundReport:
        """One round as the report has it, peers in the order of their numbers."""
        return RoundReport(
            round=number,
            loss_before=self.losses.get(number),
            loss_after=self.losses.get(number + 1),
            submissions=tuple(
                sorted(
                    (self._reported(submission) for submission in self.of_round(number)),
                    key=lambda one: by_number(one.peer),
                )
            ),
            tranche=self.tranches.report(number),
        )

    def _reported(self, submission: Submission) -> SubmissionReport:
        peer = self._cast.get(submission.peer)
        receipt = submission.receipt
        measured = receipt is not None and bool(receipt.drop_mean or receipt.drop_low or receipt.drop_high)
        return SubmissionReport(
            submission_id=submission.commitment,
            peer=peer.name if peer else submission.peer,
            kind=peer.kind if peer else "guest",
            fee_msat=submission.fee_msat,
            locked_msat=sum(self._rungs(submission)) if submission.locked else 0,
            score=receipt.drop_mean * NANO if receipt and measured else None,
            interval=(receipt.drop_low * NANO, receipt.drop_high * NANO) if receipt and measured else None,
            reward_msat=receipt.reward_msat if receipt else 0,
            verdict=receipt.verdict if receipt else "unscored",
            reasons=receipt.reasons if receipt else (submission.problem or "no decision was made",),
            trace_id=submission.trace_id,
        )
