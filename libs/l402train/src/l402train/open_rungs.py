"""HTLCs of ours whose end is not known, read from the books: for whom, and at which block each expires. It decides nothing."""

import json
from pathlib import Path

import msgspec
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from l402train.books import opened
from l402train.exits import Exit
from l402train.screen import sat

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


def tell(out: Console, found: list[OpenRung], *, as_json: bool) -> Exit:
    """A table."""
    if as_json:
        out.print_json(json.dumps(msgspec.to_builtins(found)))
        return Exit.FINE
    if not found:
        out.print("No rung is open.")
        return Exit.FINE
    table = Table("expires at", "sat", "state", "round", "submission", "payment hash", "peer", box=None, pad_edge=False)
    for one in found:
        table.add_row(
            str(one.expiry_height or "-"), sat(one.amount_msat), f"{one.state}{', frozen' if one.frozen else ''}",
            str(one.round), f"{one.commitment[:16]}…", f"{one.payment_hash[:16]}…", f"{one.peer[:16]}…",
        )  # fmt: skip
    out.print(table)
    return Exit.FINE
