"""What the coordinator owes and has not paid, read from the books: to whom, since when, and what is done about it."""

from pathlib import Path

import msgspec
import sqlalchemy as sa

from l402train.books import opened

_OWED = """
    select t.commitment, s.peer, s.state, s.frozen, s.attempt, s.payee, t.amount_msat, t.at_ms
    from transfers t join submissions s on s.commitment = t.commitment
    where t.id = 'owe:' || t.commitment
      and not exists (select 1 from transfers e where e.id in ('owed:' || t.commitment, 'settle:' || t.commitment))
    order by t.at_ms, t.commitment limit :limit
"""
SHOWN = 1_000


class Debt(msgspec.Struct, frozen=True, kw_only=True):
    """One reward that is decided and was not delivered."""

    commitment: str
    peer: str
    payee: str
    """The peer's node when it submitted."""
    amount_msat: int
    since_ms: int
    offers: int
    """New offers that were made of it."""
    next: str
    """What happens now, or who must do something."""


def debts(where: Path | str) -> list[Debt]:
    """The oldest first. Raises Stop."""
    with opened(where) as books:
        rows = books.execute(sa.text(_OWED), {"limit": SHOWN}).all()
    return [
        Debt(
            commitment=row.commitment, peer=row.peer, payee=row.payee, amount_msat=row.amount_msat, since_ms=row.at_ms,
            offers=row.attempt - 1, next=_next(row.state, frozen=bool(row.frozen)),
        )
        for row in rows
    ]  # fmt: skip


def _next(state: str, *, frozen: bool) -> str:
    if frozen:
        return "frozen: a person looks, then thaws it"
    if state == "ended":
        return "no offer is left: a person pays, then `l402-train owed settle`"
    return {
        "owed": "a new offer, once the old rungs are back and our node can pay",
        "due": "the oracle is asked for a new offer",
        "reoffered": "the peer makes its invoices",
        "relocking": "the new ladder is being locked",
        "relocked": "the oracle reveals",
    }.get(state, state)
