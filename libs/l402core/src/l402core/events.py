"""Every message of the system, in one place: who writes it, its subject, its fields. It knows no transport.

Facts are past tense and have one writer (stream FACTS); requests to a work queue are imperative (stream WORK); questions
are asked over core NATS and answered at once. The subject is `NAME.v1.<key>`; `Nats-Msg-Id` is `subject:revision`, so a
fact published again from the books is the same message. Consumers are idempotent and join in any order.
Times are unix milliseconds, money integer msat, hashes and keys lower-case hex, scores nano-nats per token.
"""

from typing import ClassVar

import msgspec

from l402core.documents import Conditions, ObjectRef, Recipe
from l402core.money import Msat
from l402core.signing import Signed

FACTS = "FACTS"
WORK = "WORK"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What every message on a stream carries. The traceparent rides in the headers and in the outbox row."""

    name: ClassVar[str]
    stream: ClassVar[str] = FACTS
    writer: ClassVar[str]

    id: str
    """Unique per occurrence, for people; the identity for machines is the subject and revision."""
    occurred_at_ms: int
    revision: int = 0

    def key(self) -> str:
        """The last part of the subject."""
        raise NotImplementedError

    @property
    def subject(self) -> str:
        """Where it is published."""
        return f"{self.name}.{self.key()}"

    @property
    def message_id(self) -> str:
        """The bus's deduplication id."""
        return f"{self.subject}:{self.revision}"


class RoundEvent(Event, frozen=True, kw_only=True):
    """About a whole round."""

    round: int

    def key(self) -> str:
        return str(self.round)


class SubmissionEvent(Event, frozen=True, kw_only=True):
    """About one submission, named by its commitment."""

    round: int
    commitment: str

    def key(self) -> str:
        return self.commitment


class SponsorshipEvent(Event, frozen=True, kw_only=True):
    """About a whole sponsorship."""

    sponsorship: str

    def key(self) -> str:
        return self.sponsorship


class TrancheEvent(SponsorshipEvent, frozen=True, kw_only=True):
    """About one tranche of a sponsorship."""

    tranche: int

    def key(self) -> str:
        return f"{self.sponsorship}.{self.tranche}"


class RungEvent(SubmissionEvent, frozen=True, kw_only=True):
    """About one rung of one submission's ladder."""

    index: int

    def key(self) -> str:
        return f"{self.commitment}.{self.index}"


# --- facts of the settler ---------------------------------------------------------------------------------------------


class RoundOpened(RoundEvent, frozen=True, kw_only=True):
    """A round is open under signed terms."""

    name = "round.opened.v1"
    writer = "settler"

    terms: Signed


class CommitsClosed(RoundEvent, frozen=True, kw_only=True):
    """No further submission opens; uploads may begin."""

    name = "commits.closed.v1"
    writer = "settler"

    root: Signed
    """A `RoundRoot` over the commitments in order of their sequence numbers."""


class RoundClosed(RoundEvent, frozen=True, kw_only=True):
    """No further upload counts; judgement may begin. Lists all opened submissions and those that may be measured."""

    name = "round.closed.v1"
    writer = "settler"

    root: Signed
    uploaded: tuple[str, ...]
    """Commitments, in order, whose upload was registered in time."""


class SubmissionOpened(SubmissionEvent, frozen=True, kw_only=True):
    """A paid submission has its place, its budget and its number."""

    name = "submission.opened.v1"
    writer = "settler"

    peer: str
    seq: int
    fee_msat: Msat


class GradientUploaded(SubmissionEvent, frozen=True, kw_only=True):
    """The sealed payload lies in the object store."""

    name = "gradient.uploaded.v1"
    writer = "settler"

    peer: str
    checkpoint: str
    model_id: str
    payload: ObjectRef


class SubmissionExpired(SubmissionEvent, frozen=True, kw_only=True):
    """A phase ended without the peer's step; the reason is for people."""

    name = "submission.expired.v1"
    writer = "settler"

    reason: str


class EscrowLocked(SubmissionEvent, frozen=True, kw_only=True):
    """Every rung waits at the peer's node and is in flight at ours: a signed `Locked`."""

    name = "escrow.locked.v1"
    writer = "settler"

    locked: Signed


class EscrowFrozen(SubmissionEvent, frozen=True, kw_only=True):
    """Nothing of it is to be sent until it is thawed; `revision` counts freezes and thaws, and the highest holds."""

    name = "escrow.frozen.v1"
    writer = "settler"


class EscrowThawed(SubmissionEvent, frozen=True, kw_only=True):
    """A person has looked: what was asked for may be sent."""

    name = "escrow.thawed.v1"
    writer = "settler"


class EscrowFailed(SubmissionEvent, frozen=True, kw_only=True):
    """The ladder could not be locked; the fee becomes a credit once every rung is terminal."""

    name = "escrow.failed.v1"
    writer = "settler"

    reason: str


class EscrowSettled(RungEvent, frozen=True, kw_only=True):
    """A rung was paid: LND says SUCCEEDED and the ledger has posted."""

    name = "escrow.settled.v1"
    writer = "settler"

    payment_hash: str
    amount_msat: Msat


class EscrowReturned(RungEvent, frozen=True, kw_only=True):
    """A rung came back: LND says FAILED and the ledger has voided."""

    name = "escrow.returned.v1"
    writer = "settler"

    payment_hash: str
    amount_msat: Msat


class RewardRevealed(SubmissionEvent, frozen=True, kw_only=True):
    """The decision and its sealed preimages are recorded; the peer may have them."""

    name = "reward.revealed.v1"
    writer = "settler"

    mask: int
    amount_msat: Msat


class RewardOwed(SubmissionEvent, frozen=True, kw_only=True):
    """Decided, but not to be delivered on this ladder any more: it is owed, and a new offer follows."""

    name = "reward.owed.v1"
    writer = "settler"

    amount_msat: Msat


class CancelRequested(SubmissionEvent, frozen=True, kw_only=True):
    """The peer is asked to cancel these rungs; its node's auto-cancel is the backstop."""

    name = "cancel.requested.v1"
    writer = "settler"

    payment_hashes: tuple[str, ...]


class CreditIssued(Event, frozen=True, kw_only=True):
    """A paid fee that could not be served may be used once more by the same peer."""

    name = "credit.issued.v1"
    writer = "settler"

    payment_hash: str
    peer: str
    amount_msat: Msat
    reason: str

    def key(self) -> str:
        return self.payment_hash


class CreditSpent(Event, frozen=True, kw_only=True):
    """The credit opened a submission."""

    name = "credit.spent.v1"
    writer = "settler"

    payment_hash: str
    peer: str
    commitment: str

    def key(self) -> str:
        return self.payment_hash


class SponsorshipLocked(TrancheEvent, frozen=True, kw_only=True):
    """The sponsor's money waits at our node: a signed `TrancheLocked`. A round may open on it."""

    name = "sponsorship.locked.v1"
    writer = "settler"

    locked: Signed


class SponsorshipSettled(TrancheEvent, frozen=True, kw_only=True):
    """The tranche was earned: LND says SETTLED and the ledger has posted."""

    name = "sponsorship.settled.v1"
    writer = "settler"

    round: int
    payment_hash: str
    amount_msat: Msat


class SponsorshipReturned(TrancheEvent, frozen=True, kw_only=True):
    """The sponsor has its money back, or never paid: the invoice is cancelled and the ledger voided."""

    name = "sponsorship.returned.v1"
    writer = "settler"

    round: int
    """0 where it funded none."""
    payment_hash: str
    amount_msat: Msat
    was_locked: bool
    reason: str


# --- requests of the settler ------------------------------------------------------------------------------------------


class OfferMake(SubmissionEvent, frozen=True, kw_only=True):
    """Make a signed offer for this submission."""

    name = "offer.make.v1"
    stream = WORK
    writer = "settler"

    peer: str
    seal_to: str
    seq: int
    terms: Signed
    attempt: int
    """1 for the submission's ladder; above for what is owed of it, with deadlines of its own."""
    lock_by_ms: int = 0
    reveal_by_height: int = 0


class EscrowLock(SubmissionEvent, frozen=True, kw_only=True):
    """Pay (lock) these hold invoices of the peer's node. Never begin a payment after `not_after_ms`."""

    name = "escrow.lock.v1"
    stream = WORK
    writer = "settler"

    offer: Signed
    bolt11s: tuple[str, ...]
    payee: str
    not_after_ms: int
    fee_limit_msat: Msat
    """Routing fee per rung, at most."""
    cltv_limit: int


class SponsorshipAnnounce(SponsorshipEvent, frozen=True, kw_only=True):
    """Announce one payment hash per tranche."""

    name = "sponsorship.announce.v1"
    stream = WORK
    writer = "settler"

    terms: Signed
    """`SponsorshipTerms`."""
    pledge: Signed
    """The sponsor's `Pledge`, so that nobody but the sponsor sets price and margin."""


class SponsorshipMint(TrancheEvent, frozen=True, kw_only=True):
    """Mint the tranche's hold invoice at our node, once. Never after `not_after_ms`."""

    name = "sponsorship.mint.v1"
    stream = WORK
    writer = "settler"

    announcement: Signed
    expiry_s: int
    cltv_expiry: int
    not_after_ms: int


# --- facts of the invoicer --------------------------------------------------------------------------------------------


class FeeSettled(Event, frozen=True, kw_only=True):
    """A fee invoice was paid, whether or not it is ever presented."""

    name = "fee.settled.v1"
    writer = "invoicer"

    payment_hash: str
    amount_msat: Msat
    settle_index: int

    def key(self) -> str:
        return self.payment_hash


class EscrowDispatched(RungEvent, frozen=True, kw_only=True):
    """A rung's payment is in flight at our node (or was found so)."""

    name = "escrow.dispatched.v1"
    writer = "invoicer"

    payment_hash: str
    status: str


class EscrowRefused(SubmissionEvent, frozen=True, kw_only=True):
    """A hint that the ladder was not sent, and why. Only LND's FAILED, or NotFound a minute on, is proof."""

    name = "escrow.refused.v1"
    writer = "invoicer"

    reason: str


class SponsorshipMinted(TrancheEvent, frozen=True, kw_only=True):
    """The hold invoice lies at our node."""

    name = "sponsorship.minted.v1"
    writer = "invoicer"

    payment_hash: str
    bolt11: str


class WorkDead(Event, frozen=True, kw_only=True):
    """A request of money's that the invoicer cannot do and will not be sent again: what it is about is frozen."""

    name = "work.dead.v1"
    writer = "invoicer"

    request: str
    """Its subject."""
    reason: str

    def key(self) -> str:
        return self.request


# --- facts and requests of the attestor -------------------------------------------------------------------------------


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


# --- facts of the workers ---------------------------------------------------------------------------------------------


class GradientScreened(SubmissionEvent, frozen=True, kw_only=True):
    """The payload opened (or did not) and passed (or failed) the cheap checks."""

    name = "gradient.screened.v1"
    writer = "worker"

    passed: bool
    code: str
    detail: str
    norms: tuple[float, ...]
    sketch: ObjectRef | None
    content_key: str


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
    content_key: str
    norms: tuple[float, ...]
    state_before: str
    """sha256 of the state it began with; '' where it began anew."""
    state: ObjectRef | None
    """For the next round's."""
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


# --- questions, asked over core NATS and answered at once ------------------------------------------------------------


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is answered at once, or refused with an error of the tree."""

    name: ClassVar[str]
    answered_by: ClassVar[str]


class FeeMint(Question, frozen=True, kw_only=True):
    """A plain fee invoice on the coordinator's node."""

    name = "fee.mint.v1"
    answered_by = "invoicer"

    round: int
    commitment: str
    amount_msat: Msat
    expiry_s: int


class FeeMinted(msgspec.Struct, frozen=True, kw_only=True):
    """A fee invoice, and when it can no longer be paid."""

    payment_hash: str
    bolt11: str
    expires_at_ms: int


class SubmissionOpen(Question, frozen=True, kw_only=True):
    """Spend the token and open the submission. The same request again gets the same answer."""

    name = "submission.open.v1"
    answered_by = "settler"

    round: int
    commitment: str
    peer: str
    token_id: str
    payment_hash: str
    credit: bool
    """The token is a fee credit's, so no fresh payment stands behind it."""
    statement: Signed
    request_hash: str
    """sha256 of the request's body: another body for the same commitment is a Conflict."""


class RegisterLocks(Question, frozen=True, kw_only=True):
    """The peer's reward invoices, one per rung."""

    name = "escrow.register_locks.v1"
    answered_by = "settler"

    round: int
    commitment: str
    peer: str
    bolt11s: tuple[str, ...]


class RegisterAccepted(Question, frozen=True, kw_only=True):
    """The peer's signed `Accepted`."""

    name = "escrow.register_accepted.v1"
    answered_by = "settler"

    round: int
    commitment: str
    peer: str
    accepted: Signed


class RegisterUpload(Question, frozen=True, kw_only=True):
    """The payload has arrived and its commitment was recomputed."""

    name = "submission.register_upload.v1"
    answered_by = "settler"

    round: int
    commitment: str
    peer: str
    payload: ObjectRef


class ReadRound(Question, frozen=True, kw_only=True):
    """One round; the current one for 0."""

    name = "round.read.v1"
    answered_by = "settler"

    round: int = 0


class RoundView(msgspec.Struct, frozen=True, kw_only=True):
    """What anybody may know of a round."""

    round: int
    phase: str
    """commit, upload, judge or done."""
    terms: Signed
    root: Signed | None
    opened: int
    uploaded: int
    scored: int
    places_left: int
    available: bool
    """Whether a fee should be sold now: place, budget, slots and liquidity are left, and our node answers."""
    unavailable_reason: str


class ReadStanding(Question, frozen=True, kw_only=True):
    """What is exposed to one peer, before it is sold a place."""

    name = "peer.standing.v1"
    answered_by = "settler"

    peer: str


class PeerStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A peer's rungs that are out or promised, hanging ones among them."""

    peer: str
    exposed_msat: Msat
    exposed_rungs: int
    available: bool
    unavailable_reason: str


class ReadSubmission(Question, frozen=True, kw_only=True):
    """One submission, as its peer may see it."""

    name = "submission.read.v1"
    answered_by = "settler"

    round: int
    commitment: str


class RungView(msgspec.Struct, frozen=True, kw_only=True):
    """One rung, in the settler's books."""

    index: int
    payment_hash: str
    amount_msat: Msat
    state: str
    attempt: int = 1
    """The offer that it belongs to."""


class SubmissionView(msgspec.Struct, frozen=True, kw_only=True):
    """One submission: the answer to every step, so that a lost reply is read again."""

    round: int
    commitment: str
    peer: str
    state: str
    """A state of `l402core.escrow`."""
    phase: str
    """The round's phase."""
    seq: int
    offer: Signed | None
    locked: Signed | None
    upload: Signed | None
    receipt: Signed | None
    sealed_preimages: tuple[str, ...]
    mask: int
    verdict: str
    reasons: tuple[str, ...]
    rungs: tuple[RungView, ...]
    cancel: tuple[str, ...]
    """Payment hashes of the rungs that the peer should cancel."""
    fee_msat: Msat
    credit_available: bool
    trace_id: str
    attempt: int = 1
    """The offer shown; above 1 it is for what is owed."""
    owed_msat: int = 0
    """Decided, not delivered on the first ladder, and to be paid through a new offer."""


class ClaimCredit(Question, frozen=True, kw_only=True):
    """The credit that stands for a paid fee. Only the peer it was issued to may ask."""

    name = "credit.claim.v1"
    answered_by = "settler"

    peer: str
    payment_hash: str
    token_id: str
    """Fresh, proposed by the gateway (its first four bytes name a root key); the first one proposed is kept."""
    replaces: str = ""
    """The token id that was kept, where its root key is no longer in the ring: it opens nothing any more."""


class CreditView(msgspec.Struct, frozen=True, kw_only=True):
    """A credit: a fresh token id over the paid payment hash."""

    payment_hash: str
    token_id: str
    peer: str
    amount_msat: Msat


class SponsorshipOpen(Question, frozen=True, kw_only=True):
    """Take a sponsor's pledge. The same pledge again gets the same answer."""

    name = "sponsorship.open.v1"
    answered_by = "settler"

    sponsor: str
    """Who signed the request."""
    pledge: Signed


class ReadSponsorship(Question, frozen=True, kw_only=True):
    """One sponsorship."""

    name = "sponsorship.read.v1"
    answered_by = "settler"

    sponsorship: str


class TrancheView(msgspec.Struct, frozen=True, kw_only=True):
    """One tranche, in the settler's books."""

    tranche: int
    payment_hash: str
    amount_msat: Msat
    state: str
    """announced, minting, minted, locked, funding, settling, returning, settled or returned."""
    round: int
    """The round that it funds or funded; 0 for none."""
    bolt11: str
    """The hold invoice, once it is minted."""
    pay_by_ms: int
    expiry_height: int
    locked: Signed | None
    receipt: Signed | None
    reason: str


class SponsorshipView(msgspec.Struct, frozen=True, kw_only=True):
    """One sponsorship, as anybody may see it."""

    sponsorship: str
    sponsor: str
    state: str
    """asked, announced or ended."""
    reason: str
    pledge: Signed
    announcement: Signed | None
    tranches: tuple[TrancheView, ...]


class Freeze(Question, frozen=True, kw_only=True):
    """An operator's order: nothing that moves or promises money happens about this any more."""

    name = "money.freeze.v1"
    answered_by = "settler"

    wanted: str
    """A commitment, a payment hash of a fee, rung or tranche, or the beginning of one, 8 hex digits at least."""
    by: str
    reason: str


class Thaw(Question, frozen=True, kw_only=True):
    """An operator has looked: what was held is done now, once, or dropped by name of this order."""

    name = "money.thaw.v1"
    answered_by = "settler"

    wanted: str
    by: str
    reason: str
    drop_held: bool = False


class FreezeView(msgspec.Struct, frozen=True, kw_only=True):
    """What was frozen or thawed, and the messages that wait, or were taken or dropped, by their names."""

    what: str
    """submission, tranche or fee."""
    about: str
    state: str
    frozen: bool
    held: tuple[str, ...]


class Reconcile(Question, frozen=True, kw_only=True):
    """Compare the books with our node's own lists, now."""

    name = "ledger.reconcile.v1"
    answered_by = "settler"


class LedgerDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the books and LND see differently."""

    weight: str
    """lag (the next look joins it), contradiction (frozen, somebody is woken), foreign (not in the books at all) or
    undecided (only the chain can tell, when a channel is closed)."""
    what: str
    """rung, fee, tranche or payment."""
    payment_hash: str
    commitment: str
    books: str
    lnd: str
    amount_msat: Msat


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """How many were compared, and what differs."""

    at_ms: int
    rungs: int
    fees: int
    tranches: int = 0
    differences: tuple[LedgerDifference, ...]
    """The gravest first."""
    untold: int = 0
    """How many more there are: a message has an end."""


class OwedSettle(Question, frozen=True, kw_only=True):
    """An operator has paid what stayed owed after the last offer, and closes the books of it."""

    name = "owed.settle.v1"
    answered_by = "settler"

    wanted: str
    """A commitment or the beginning of one."""
    payment_hash: str
    """Of the payment that our own node made; '' where it was paid elsewhere."""
    by: str
    reason: str


class OwedSettled(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is owed for it any more."""

    commitment: str
    peer: str
    amount_msat: Msat


class SayAgain(Question, frozen=True, kw_only=True):
    """Say again, under fresh ids, what rounds wait for: a request that became a dead letter is lost otherwise."""

    name = "oracle.say_again.v1"
    answered_by = "attestor"


class SaidAgain(msgspec.Struct, frozen=True, kw_only=True):
    """The subjects."""

    said: tuple[str, ...]


class ReadChannels(Question, frozen=True, kw_only=True):
    """The coordinator's channels, and what flowed over them since the books began."""

    name = "channels.read.v1"
    answered_by = "settler"


class RoundFlow(msgspec.Struct, frozen=True, kw_only=True):
    """What one round brought in fees and paid in rewards, whether or not all of it is decided yet."""

    round: int
    fees_msat: Msat = 0
    rewards_msat: Msat = 0


class NodeFlow(msgspec.Struct, frozen=True, kw_only=True):
    """What the submissions that name one payout node paid in fees and were paid in rewards."""

    node: str
    """Public key; "" for all nodes together that no channel of ours leads to."""
    fees_msat: Msat
    rewards_msat: Msat
    rounds: tuple[RoundFlow, ...]
    """The newest ones in which anything flowed, oldest first."""


class ChannelStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of the coordinator's node, as the node tells of it now."""

    channel_id: str
    node: str
    """Public key of the other side."""
    active: bool
    capacity_msat: Msat
    local_msat: Msat
    """Ours; what is locked in flight belongs to neither side."""
    remote_msat: Msat
    slots_used: int
    """Outgoing HTLCs."""
    slots_free: int
    warning: str
    """Why it may soon carry no ladder; "" where it will."""


class ChannelsView(msgspec.Struct, frozen=True, kw_only=True):
    """Every channel, the flow per node, and whether the next round can be carried."""

    at_ms: int
    channels: tuple[ChannelStanding, ...]
    """Widest first."""
    flows: tuple[NodeFlow, ...]
    """One for each node that a channel leads to, and one for all others where anything flowed to them."""
    sendable_msat: int
    """Over active channels: a bound, for a route may not find all of it."""
    needed_msat: int
    """For a full next round: places x (ladder + routing)."""
    slots_free: int
    slots_needed: int
    warning: str
    """Why the next round may run short; "" where it will not."""


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


QUESTIONS: tuple[tuple[type[Question], type[msgspec.Struct]], ...] = (
    (FeeMint, FeeMinted),
    (SubmissionOpen, SubmissionView),
    (RegisterLocks, SubmissionView),
    (RegisterAccepted, SubmissionView),
    (RegisterUpload, SubmissionView),
    (ReadRound, RoundView),
    (ReadStanding, PeerStanding),
    (ReadSubmission, SubmissionView),
    (ClaimCredit, CreditView),
    (Reconcile, Reconciled),
    (Freeze, FreezeView),
    (Thaw, FreezeView),
    (OwedSettle, OwedSettled),
    (SayAgain, SaidAgain),
    (ReadChannels, ChannelsView),
    (SponsorshipOpen, SponsorshipView),
    (ReadSponsorship, SponsorshipView),
    (ReadStatus, StatusView),
    (ReadLineup, LineupView),
    (ReadStory, StoryView),
    (ReadOracle, OracleView),
    (ReadSettlerParts, PartsView),
    (ReadInvoicerParts, PartsView),
    (ReadAttestorParts, PartsView),
    (ReadWorkerParts, PartsView),
)
"""Every question with its answer."""

EVENTS: tuple[type[Event], ...] = (
    RoundOpened, CommitsClosed, RoundClosed, SubmissionOpened, GradientUploaded, SubmissionExpired, EscrowLocked,
    EscrowFrozen, EscrowThawed,
    EscrowFailed, EscrowSettled, EscrowReturned, RewardRevealed, RewardOwed, CancelRequested, CreditIssued, CreditSpent,
    OfferMake, EscrowLock, FeeSettled, EscrowDispatched, EscrowRefused, WorkDead, OfferMade, CheckpointPublished, RoundAssessed,
    GradientMeasure, GradientScored, RoundAggregate, GradientScreened, GradientMeasured, RoundAggregated,
    SponsorshipAnnounce, SponsorshipMint, SponsorshipLocked, SponsorshipSettled, SponsorshipReturned, SponsorshipMinted,
    SponsorshipAnnounced, SponsorshipJudged, CheckpointMeasure, CheckpointMeasured, YardstickMake, YardstickMade,
)  # fmt: skip
"""Every message that rides a stream."""
