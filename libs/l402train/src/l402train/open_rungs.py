"""HTLCs of ours whose end is not known, read from the books: for whom, and at which block each expires. It draws nothing."""

from pathlib import Path

import msgspec
import sqlalchemy as sa

from l402train.books import opened

_OPEN = """
    select r.payment_hash, r.commitment, r.attempt, r.rung, r.amount_msat, r.state, r.expiry_height,
           s.round, s.peer, s.payee, s.frozen
    from rungs r join submissions s on s.commitment = r.commitment
    where r.state in ('registered', 'in flight')
    order by case when r.expiry_height = 0 then 1 else 0 end, r.expiry_height, r.commitment, r.attempt, r.rung
    limit :limit
"""
SHOWN = 1_000


class OpenRung(msgspec.Struct, frozen=True, kw_only=True):
    """One hold invoice that we may still pay."""

    expiry_height: int
    """0 where our node has not told of an HTLC yet."""
    amount_msat: int
    state: str
    frozen: bool
    round: int
    commitment: str
    attempt: int
    index: int
    payment_hash: str
    peer: str
    payee: str
    """The node that it is sent to."""


def open_rungs(where: Path | str) -> list[OpenRung]:
    """The nearest expiry first. Raises Stop."""
    with opened(where) as books:
        rows = books.execute(sa.text(_OPEN), {"limit": SHOWN}).all()
    return [
        OpenRung(
            expiry_height=row.expiry_height, amount_msat=row.amount_msat, state=row.state, frozen=bool(row.frozen),
            round=row.round, commitment=row.commitment, attempt=row.attempt, index=row.rung,
            payment_hash=row.payment_hash, peer=row.peer, payee=row.payee,
        )
        for row in rows
    ]  # fmt: skip
