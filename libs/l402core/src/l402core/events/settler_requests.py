"""What the settler asks others to do, each through a queue of work that has one customer."""

from l402core.events.base import WORK, SponsorshipEvent, SubmissionEvent, TrancheEvent
from l402core.money import Msat
from l402core.signing import Signed


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
