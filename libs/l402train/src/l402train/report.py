"""What a run comes to, as one document: the JSON report, its schema, and what must hold of it. It reads nothing."""

from typing import Any

import msgspec
from l402_peer_agent.adversaries.names import HOLD_WORK, HONEST


class SubmissionReport(msgspec.Struct, frozen=True, kw_only=True):
    """One peer's gradient of one round. Money in msat, scores in nats per token."""

    submission_id: str
    """The commitment."""
    peer: str
    """Its name, or its public key where it joined from elsewhere."""
    kind: str
    """honest, guest, or the name of an attack."""
    fee_msat: int
    locked_msat: int
    score: float | None
    """Mean paired loss drop on the hidden shards; null where nothing was measured."""
    interval: tuple[float, float] | None
    """Mean ± 3 standard errors."""
    reward_msat: int
    verdict: str
    reasons: tuple[str, ...]
    trace_id: str


class TrancheReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a sponsor pledged for a round, and what became of it. Money in msat, scores in nats per token."""

    sponsorship: str
    tranche: int
    payment_hash: str
    amount_msat: int
    margin: float
    """By which the new checkpoint had to beat its parent."""
    gain: float | None
    """Mean paired loss drop from parent to child on shards of its own; null where nothing was measured."""
    interval: tuple[float, float] | None
    """Mean ± 3 standard errors."""
    outcome: str
    """settled, returned, or open."""
    reason: str


class RoundReport(msgspec.Struct, frozen=True, kw_only=True):
    """One round, with the held-out loss of its base and of what came out of it, nats per token."""

    round: int
    loss_before: float | None
    loss_after: float | None
    submissions: tuple[SubmissionReport, ...]
    tranche: TrancheReport | None = None
    """The sponsor's, where the round has one."""


class AccountReport(msgspec.Struct, frozen=True, kw_only=True):
    """One account's posted sums, and what is still pending on it."""

    debits_msat: int
    credits_msat: int
    pending_debits_msat: int = 0
    pending_credits_msat: int = 0


class LedgerReport(msgspec.Struct, frozen=True, kw_only=True):
    """The trial balance."""

    debits_msat: int
    credits_msat: int
    open_escrows: int
    """Submissions with money still locked."""
    accounts: dict[str, AccountReport]


class TraceReport(msgspec.Struct, frozen=True, kw_only=True):
    """Which services one trace went through."""

    services: tuple[str, ...]
    spans: int


class PartsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that are not ours, by name and version."""

    nats: str
    redis: str
    lightning: str
    database: str


class FlowReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one round moved between the coordinator and one payout node."""

    round: int
    fees_msat: int
    rewards_msat: int

    @property
    def net_msat(self) -> int:
        """What it left with the coordinator; negative where the peer earned more than it paid."""
        return self.fees_msat - self.rewards_msat


class ChannelReport(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of the coordinator's node: balances as the node told them, flow as the books have it."""

    channel_id: str
    peer: str
    """The node on the other side: its name, or its public key where it is none of this run's."""
    capacity_msat: int
    local_before_msat: int
    local_after_msat: int
    remote_after_msat: int
    """Theirs at the end; what is locked in flight belongs to neither side."""
    needed_msat: int
    """What the next round may take of it."""
    slots_used: int
    """Outgoing HTLCs at the end."""
    slots_free: int
    fees_msat: int
    """What that node's submissions paid since the books began."""
    rewards_msat: int
    """What they were paid."""
    flow: tuple[FlowReport, ...]
    """The newest rounds in which anything flowed with that node, oldest first."""
    warning: str
    """Why it may soon carry no ladder; "" where it will."""


class NextRoundReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a full next round takes of all channels together, and what is there."""

    needed_msat: int
    sendable_msat: int
    slots_needed: int
    slots_free: int
    warning: str
    """Why it may run short; "" where it will not."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run. docs/report.schema.json is made from this class."""

    parts: PartsReport
    rounds: tuple[RoundReport, ...]
    ledger: LedgerReport
    traces: dict[str, TraceReport]
    """By trace id: those of the submissions."""
    channels: tuple[ChannelReport, ...] = ()
    """The coordinator's, widest first."""
    next_round: NextRoundReport | None = None
    """What stands against one more round like it; None where nothing is known of channels."""


def by_number(peer: str) -> tuple[int, str]:
    """Sorts peer-10 after peer-9, and guests, who are public keys, last."""
    return len(peer), peer


def schema() -> dict[str, Any]:
    """JSON Schema of the report."""
    made: dict[str, Any] = msgspec.json.schema(Report)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "l402-train report", **made}


def encode(report: Report) -> bytes:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def faults(report: Report, *, settled_msat: int, services: frozenset[str]) -> list[str]:
    """What must hold of every run and does not, one sentence each; none for a run as it should be."""
    ledger = report.ledger
    submissions = [submission for round_ in report.rounds for submission in round_.submissions]
    found = []
    if ledger.debits_msat != ledger.credits_msat:
        found.append(f"the books do not balance: debits {ledger.debits_msat}, credits {ledger.credits_msat} msat")
    if ledger.open_escrows:
        found.append(f"{ledger.open_escrows} escrows are still open")
    for name, account in ledger.accounts.items():
        if name.startswith("peer:") and account.debits_msat != account.credits_msat:
            found.append(f"{name[:21]}… earned {account.credits_msat} and was booked {account.debits_msat} msat")
    decided = sum(submission.reward_msat for submission in submissions)
    if decided != settled_msat:
        found.append(f"the oracle decided {decided} msat and {settled_msat} msat were settled")
    if not decided:
        found.append("nobody was paid for anything")
    for submission in submissions:
        missing = services - set(report.traces.get(submission.trace_id, _NO_TRACE).services)
        if submission.reward_msat and missing:
            found.append(f"{submission.submission_id[:16]}…: its trace lacks {', '.join(sorted(missing))}")
        if submission.kind not in (HONEST, "guest", *HOLD_WORK) and submission.reward_msat:
            found.append(f"{submission.peer} ({submission.kind}) was paid {submission.reward_msat} msat")
    return found + sponsor_faults(report)


def sponsors_msat(ledger: LedgerReport) -> int:
    """What sponsors have paid for progress, by the books."""
    return sum(one.credits_msat for name, one in ledger.accounts.items() if name.startswith("sponsors:"))


def sponsor_faults(report: Report) -> list[str]:
    """Every tranche has ended, and the books took in exactly what was earned."""
    tranches = [round_.tranche for round_ in report.rounds if round_.tranche is not None]
    found = [
        f"tranche {one.tranche} of sponsorship {one.sponsorship[:16]}… is still open"
        for one in tranches
        if one.outcome == "open"
    ]
    earned = sum(one.amount_msat for one in tranches if one.outcome == "settled")
    booked = sponsors_msat(report.ledger)
    if earned != booked:
        found.append(f"sponsors' tranches settled {earned} msat and {booked} msat were booked")
    return found


_NO_TRACE = TraceReport(services=(), spans=0)
