"""Questions behind the API of sponsors, and how a sponsorship is shown."""

import msgspec

from l402core.events.base import Question
from l402core.money import Msat
from l402core.signing import Signed


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
