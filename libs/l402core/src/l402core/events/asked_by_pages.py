"""Questions behind the status page: the network, a round, one story, the oracle, what answers."""

import msgspec

from l402core.events.base import Question
from l402core.money import Msat


class ReadStatus(Question, frozen=True, kw_only=True):
    """The network at a glance, from the settler's books."""

    name = "status.read.v1"
    answered_by = "settler"


class RoundLine(msgspec.Struct, frozen=True, kw_only=True):
    """One round in a line. Its fees are those that were kept; its rewards are what was decided."""

    round: int
    phase: str
    submissions: int
    accepted: int
    rejected: int
    fees_msat: Msat
    rewards_msat: Msat
    sponsored_msat: Msat
    """What a sponsor has paid for its progress."""


class PeerLine(msgspec.Struct, frozen=True, kw_only=True):
    """One peer over the rounds that are told."""

    peer: str
    submissions: int
    accepted: int
    fees_msat: Msat
    rewards_msat: Msat
    last_round: int


class EscrowLine(msgspec.Struct, frozen=True, kw_only=True):
    """The open escrows in one state."""

    state: str
    """A state of `l402core.escrow`."""
    escrows: int
    locked_msat: Msat
    """In rungs whose end is not known."""
    oldest_ms: int
    """When the oldest of them was opened."""


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """What anybody may see of the whole: the newest rounds and who took part, and what is locked now."""

    at_ms: int
    rounds: tuple[RoundLine, ...]
    """The newest, oldest first."""
    peers: tuple[PeerLine, ...]
    """Of these rounds, who earned most after fees first."""
    peers_untold: int
    escrows: tuple[EscrowLine, ...]
    fees_msat: Msat
    """This and the following since the books began."""
    rewards_msat: Msat
    sponsored_msat: Msat
    owed_msat: Msat
    """Decided, and waiting for a new offer."""
    credits_msat: Msat
    """Fees that may be used once more."""


class ReadLineup(Question, frozen=True, kw_only=True):
    """Who takes part in one round, and how far each has come; the current one for 0."""

    name = "round.lineup.v1"
    answered_by = "settler"

    round: int = 0


class SubmissionLine(msgspec.Struct, frozen=True, kw_only=True):
    """One submission in a line."""

    commitment: str
    seq: int
    peer: str
    state: str
    """A state of `l402core.escrow`."""
    verdict: str
    """'' while nothing is decided."""
    fee_msat: Msat
    fee_kept: bool
    """False where it became a credit, or will."""
    reward_msat: Msat
    """What was decided."""


class LineupView(msgspec.Struct, frozen=True, kw_only=True):
    """A round's submissions in order."""

    round: int
    submissions: tuple[SubmissionLine, ...]
    untold: int


class ReadStory(Question, frozen=True, kw_only=True):
    """When what happened to one submission, from the books."""

    name = "submission.story.v1"
    answered_by = "settler"

    round: int
    commitment: str


class StoryLine(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of the books that are of one kind, or a document's date."""

    what: str
    """A transfer's kind and phase, such as "rung pending", or opened, locked, uploaded or decided."""
    first_ms: int
    last_ms: int
    times: int
    amount_msat: Msat


class StoryView(msgspec.Struct, frozen=True, kw_only=True):
    """One submission's life."""

    round: int
    commitment: str
    peer: str
    state: str
    trace_id: str
    lines: tuple[StoryLine, ...]
    """In order of their first times."""


class ReadOracle(Question, frozen=True, kw_only=True):
    """How the model gets on, and whether everybody can be measured in time."""

    name = "oracle.read.v1"
    answered_by = "attestor"


class CheckpointLine(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint in a line."""

    round: int
    """Whose base it is."""
    held_out: int
    """Nano-nats per token."""
    at_ms: int


class OraclePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What judging a full round takes, and how much of it the workers do in time."""

    peers: int
    window_ms: int
    needed_ms: int
    """0 while no pace is known."""
    peers_fitting: int
    """How many would be measured in time on all shards that the terms ask for."""
    shards: int
    wanted_shards: int
    fits: bool
    workers_percent: int
    """Of the present workers, what all of it in time would take."""
    says: str


class OracleView(msgspec.Struct, frozen=True, kw_only=True):
    """What the attestor says of the whole."""

    checkpoints: tuple[CheckpointLine, ...]
    """The newest, oldest first."""
    plan: OraclePlan | None


class ReadParts(Question, frozen=True, kw_only=True):
    """What a service needs, and whether it answers: its `/readyz` over the bus."""


class ReadSettlerParts(ReadParts, frozen=True, kw_only=True):
    """Of the settler."""

    name = "settler.parts.v1"
    answered_by = "settler"


class ReadInvoicerParts(ReadParts, frozen=True, kw_only=True):
    """Of the invoicer."""

    name = "invoicer.parts.v1"
    answered_by = "invoicer"


class ReadAttestorParts(ReadParts, frozen=True, kw_only=True):
    """Of the attestor."""

    name = "attestor.parts.v1"
    answered_by = "attestor"


class ReadWorkerParts(ReadParts, frozen=True, kw_only=True):
    """Of whichever worker answers first."""

    name = "worker.parts.v1"
    answered_by = "worker"


class PartsView(msgspec.Struct, frozen=True, kw_only=True):
    """Each part by its name, and whether it answers."""

    parts: dict[str, bool]
