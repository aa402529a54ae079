"""What the invoicer says: what it sent to LND, or would not, and which fees arrived."""

import msgspec

from l402core.events.base import Event, SubmissionEvent, TrancheEvent
from l402core.money import Msat


class FeeSettled(Event, frozen=True, kw_only=True):
    """A fee invoice was paid, whether or not it is ever presented."""

    name = "fee.settled.v1"
    writer = "invoicer"

    payment_hash: str
    amount_msat: Msat
    settle_index: int

    def key(self) -> str:
        return self.payment_hash


class DispatchedRung(msgspec.Struct, frozen=True, kw_only=True):
    """How one rung's payment stands at our node."""

    index: int
    payment_hash: str
    status: str


class EscrowDispatched(SubmissionEvent, frozen=True, kw_only=True):
    """What a delivery of the lock command sent, or found sent before; rungs that it could not tell of are left out."""

    name = "escrow.dispatched.v1"
    writer = "invoicer"

    rungs: tuple[DispatchedRung, ...]


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
