"""Questions behind the API of peers: tokens, submissions, rounds, credits; and how one is shown."""

import msgspec

from l402core.documents import ObjectRef
from l402core.events.base import Question
from l402core.money import Msat
from l402core.signing import Signed


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
