"""What the attestor says and asks of the workers: offers, decisions, checkpoints, what is to be measured."""

import msgspec

from l402core.documents import ObjectRef, Recipe
from l402core.events.base import WORK, RoundEvent, SponsorshipEvent, SubmissionEvent, TrancheEvent
from l402core.money import Msat
from l402core.signing import Signed


class OfferMade(SubmissionEvent, frozen=True, kw_only=True):
    """The oracle's signed `Offer`."""

    name = "offer.made.v1"
    writer = "attestor"

    offer: Signed


class CheckpointPublished(RoundEvent, frozen=True, kw_only=True):
    """The base of `round`, and what the attestor binds itself to before it can see a gradient."""

    name = "checkpoint.published.v1"
    writer = "attestor"

    checkpoint: ObjectRef
    parent: str
    model_id: str
    seed_commitment: str
    reference_previous: int
    held_out_before: int
    """Held-out loss of the parent, nano-nats per token; equal to `held_out_after` for the first checkpoint."""
    held_out_after: int
    accepted: tuple[str, ...]
    yardstick: bool = False
    """Whether the oracle trains an update of its own in `round`, beside which all others are judged."""


class RejectedEarly(msgspec.Struct, frozen=True, kw_only=True):
    """A submission that needs no measurement to be refused."""

    commitment: str
    code: str
    detail: str


class RoundAssessed(RoundEvent, frozen=True, kw_only=True):
    """What holds for the whole round: order, seed, shards, medians, who is not measured and why."""

    name = "round.assessed.v1"
    writer = "attestor"

    root: str
    seed: str
    shards: tuple[int, ...]
    clip_norms: tuple[float, ...]
    """Per tensor, L2; payloads above are clipped to it before scoring."""
    measured: tuple[str, ...]
    rejected: tuple[RejectedEarly, ...]
    yardstick: str = ""
    """The name of the oracle's own update, which is measured like the others; '' where there is none."""


class GradientMeasure(SubmissionEvent, frozen=True, kw_only=True):
    """Measure this payload: paired loss drop on the hidden shards at the clipped step."""

    name = "gradient.measure.v1"
    stream = WORK
    writer = "attestor"

    peer: str
    checkpoint: ObjectRef
    model_id: str
    payload: ObjectRef
    clip_norms: tuple[float, ...]
    shards: tuple[int, ...]
    eval_tokens: int
    outer_rate_ppm: int
    own_key: str = ""
    """Draws the peer's assigned data."""
    own_windows: tuple[int, ...] = ()
    """Those of its assigned windows that it is tried on as well; none: not tried."""
    own_batch: int = 1
    """Windows per inner step."""


class GradientScored(SubmissionEvent, frozen=True, kw_only=True):
    """The one decision: its signed `Receipt`, and the earned rungs' preimages sealed to the peer."""

    name = "gradient.scored.v1"
    writer = "attestor"

    peer: str
    mask: int
    reward_msat: Msat
    verdict: str
    reasons: tuple[str, ...]
    receipt: Signed
    sealed_preimages: tuple[str, ...]
    """Hex, one per revealed rung, lowest first, each a sealed box to the peer's `seal_to`."""
    attempt: int = 1
    """The offer whose preimages these are. Only ever one offer's are revealed."""
    withheld: bool = False
    """It is too late for that offer's ladder: its preimages will never leave, and the reward is owed."""


class AggregateItem(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted payload of a round."""

    commitment: str
    peer: str
    payload: ObjectRef


class RoundAggregate(RoundEvent, frozen=True, kw_only=True):
    """Apply the accepted payloads to the checkpoint. Without a checkpoint: make the first one from `init_seed`."""

    name = "round.aggregate.v1"
    stream = WORK
    writer = "attestor"

    checkpoint: ObjectRef | None
    model_id: str
    items: tuple[AggregateItem, ...]
    clip_norms: tuple[float, ...]
    outer_rate_ppm: int
    init_seed: int


class YardstickMake(RoundEvent, frozen=True, kw_only=True):
    """Train the round's yardstick: what one honest peer's work by the recipe is, from this checkpoint and state."""

    name = "yardstick.make.v1"
    stream = WORK
    writer = "attestor"

    checkpoint: ObjectRef
    model_id: str
    recipe: Recipe
    state: ObjectRef | None
    """What the round before left: AdamW's memory and the error feedback. None: begin anew."""


class SponsorshipAnnounced(SponsorshipEvent, frozen=True, kw_only=True):
    """The oracle's signed `Announcement`."""

    name = "sponsorship.announced.v1"
    writer = "attestor"

    announcement: Signed


class CheckpointMeasure(RoundEvent, frozen=True, kw_only=True):
    """Measure what came out of a round against its base, on these shards."""

    name = "checkpoint.measure.v1"
    stream = WORK
    writer = "attestor"

    parent: ObjectRef
    checkpoint: ObjectRef
    model_id: str
    shards: tuple[int, ...]


class SponsorshipJudged(TrancheEvent, frozen=True, kw_only=True):
    """The one decision on a tranche: a signed `TrancheReceipt`."""

    name = "sponsorship.judged.v1"
    writer = "attestor"

    round: int
    payment_hash: str
    earned: bool
    receipt: Signed
    sealed_preimage: str
    """Hex, sealed to the settler; '' where nothing was earned, or it may no longer be revealed."""
