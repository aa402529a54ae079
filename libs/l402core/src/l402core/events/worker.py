"""What workers found. None of it decides anything."""

from l402core.documents import Conditions, ObjectRef
from l402core.events.base import RoundEvent, SubmissionEvent


class GradientScreened(SubmissionEvent, frozen=True, kw_only=True):
    """The payload opened (or did not) and passed (or failed) the cheap checks."""

    name = "gradient.screened.v1"
    writer = "worker"

    passed: bool
    code: str
    detail: str
    norms: tuple[float, ...]
    sketch: ObjectRef | None
    """In a sealed box to the attestor: of a small model it is the payload itself."""
    sealed_key: str
    """Hex: the payload's content key in a sealed box to the attestor; '' where it did not open."""


class GradientMeasured(SubmissionEvent, frozen=True, kw_only=True):
    """Paired loss drop on the hidden shards: mean and mean ± 3·SE, nano-nats per token."""

    name = "gradient.measured.v1"
    writer = "worker"

    drop_mean: int
    drop_low: int
    drop_high: int
    sequences: int
    tokens: int
    losses: ObjectRef | None
    conditions: Conditions
    failure: str
    """Not empty when the payload could not be measured; then it is paid nothing and the operator is told."""
    own_mean: int = 0
    """Mean drop on the windows of its assigned data that it was tried on."""
    own_excess_milli: int = 0
    """By how much it helps these more than the hidden ones, in thousandths of a standard error."""
    own_sequences: int = 0
    """0: it was not tried on them."""


class RoundAggregated(RoundEvent, frozen=True, kw_only=True):
    """The next checkpoint, with held-out loss before and after in nano-nats per token."""

    name = "round.aggregated.v1"
    writer = "worker"

    checkpoint: ObjectRef
    model_id: str
    held_out_before: int
    held_out_after: int


class YardstickMade(RoundEvent, frozen=True, kw_only=True):
    """The oracle's own update of a round, sealed like any other. A failure is `code: sentence`: then there is none."""

    name = "yardstick.made.v1"
    writer = "worker"

    yardstick: str
    """Its name: drawn from round and checkpoint, it stands for a peer's key and for a commitment."""
    payload: ObjectRef | None
    sealed_key: str
    """Hex: the content key in a sealed box to the attestor."""
    norms: tuple[float, ...]
    state_before: str
    """sha256 of the state it began with, unsealed; '' where it began anew."""
    state: ObjectRef | None
    """For the next round's: sealed like the payload, under a content key of its own, which the next one tells."""
    state_after: str = ""
    """sha256 of what is in it."""
    state_object: str = ""
    """sha256 of the sealed bytes that it began with."""
    sealed_state_key: str = ""
    """Hex: the content key of these, in a sealed box to the attestor."""
    failure: str = ""


class CheckpointMeasured(RoundEvent, frozen=True, kw_only=True):
    """Paired loss drop from a round's base to what came out of it: mean and mean ± 3·SE, nano-nats per token."""

    name = "checkpoint.measured.v1"
    writer = "worker"

    parent: str
    checkpoint: str
    """sha256 of what was measured."""
    shards: tuple[int, ...]
    drop_mean: int
    drop_low: int
    drop_high: int
    sequences: int
    losses: ObjectRef | None
    hardware: str
    failure: str
    """Not empty when it could not be measured; then nothing is earned."""
