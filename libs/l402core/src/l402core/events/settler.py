"""What the settler says: the rounds, the escrows and the money as its books have them."""

from l402core.documents import ObjectRef
from l402core.events.base import Event, RoundEvent, RungEvent, SubmissionEvent, TrancheEvent
from l402core.money import Msat
from l402core.signing import Signed


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
