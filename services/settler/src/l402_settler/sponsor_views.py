"""What anybody may see of a sponsorship, read from the books. It changes nothing, and shows no preimage."""

from typing import Any

import msgspec
import sqlalchemy as sa
from l402core.events import SponsorshipView, TrancheView
from l402core.signing import Signed

from l402_settler.adapters import books

Row = sa.Row[Any]


def sponsorship_view(row: Row, lines: list[Row]) -> SponsorshipView:
    """One sponsorship, complete: what its sponsor has to pay, and what became of each tranche."""
    return SponsorshipView(
        sponsorship=row.sponsorship,
        sponsor=row.sponsor,
        state=row.state,
        reason=row.reason,
        pledge=msgspec.json.decode(row.pledge, type=Signed),
        announcement=books.from_json(row.announcement, Signed),
        tranches=tuple(_tranche(line) for line in lines),
    )


def _tranche(line: Row) -> TrancheView:
    return TrancheView(
        tranche=line.tranche,
        payment_hash=line.payment_hash,
        amount_msat=line.amount_msat,
        state=line.state,
        round=line.round or 0,
        bolt11=line.bolt11,
        pay_by_ms=line.pay_by_ms,
        expiry_height=line.expiry_height,
        locked=books.from_json(line.locked, Signed),
        receipt=books.from_json(line.receipt, Signed),
        reason=line.reason,
    )
