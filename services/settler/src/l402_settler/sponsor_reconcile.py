"""Sponsors' tranches against LND's own list of invoices: every difference named and weighed. Pure.

Settled at LND ⇔ posted in the books; accepted at LND ⊆ pending. What LND is ahead with, or has still to be told, is a
lag that the next look joins; what cannot be true of both is a contradiction.
"""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from l402core.events import LedgerDifference
from l402core.lnd.port import InvoiceState, InvoiceView
from l402core.sponsorship import Tranche

from l402_settler.reconcile import CONTRADICTION, LAG

Row = sa.Row[Any]
Seen, S = InvoiceState, Tranche

AGREES: dict[Tranche, frozenset[InvoiceState | None]] = {
    S.ANNOUNCED: frozenset({None}),
    S.MINTING: frozenset({None, Seen.OPEN}),
    S.MINTED: frozenset({Seen.OPEN}),
    S.LOCKED: frozenset({Seen.ACCEPTED}),
    S.FUNDING: frozenset({Seen.ACCEPTED}),
    S.SETTLING: frozenset({Seen.ACCEPTED}),
    S.RETURNING: frozenset({None, Seen.OPEN, Seen.ACCEPTED}),
    S.SETTLED: frozenset({Seen.SETTLED}),
    S.RETURNED: frozenset({None, Seen.CANCELED}),
}
"""What LND may say of a tranche that the books have in this state."""

WILL_JOIN: dict[Tranche, frozenset[InvoiceState | None]] = {
    S.MINTING: frozenset({Seen.ACCEPTED, Seen.CANCELED}),
    S.MINTED: frozenset({Seen.ACCEPTED, Seen.CANCELED}),
    S.LOCKED: frozenset({Seen.CANCELED}),
    S.FUNDING: frozenset({Seen.CANCELED}),
    S.SETTLING: frozenset({Seen.SETTLED, Seen.CANCELED}),
    S.RETURNING: frozenset({Seen.CANCELED}),
    S.RETURNED: frozenset({Seen.OPEN}),  # minted when we had given it up: nobody was told of it, and it expires
}
"""What LND may be ahead with."""


def compare_tranches(
    before: Iterable[Row], after: Iterable[Row], invoices: Iterable[InvoiceView]
) -> list[LedgerDifference]:
    """Each tranche beside our node's invoice on its hash.

    `before` and `after` are the books read around the node's list: what moved in between differs from one of the two
    only, and is no difference.
    """
    seen = {view.payment_hash.hex(): view for view in invoices}
    first = {line.payment_hash: _difference(line, seen.get(line.payment_hash)) for line in before}
    found: list[LedgerDifference] = []
    for line in after:
        earlier, later = first.get(line.payment_hash), _difference(line, seen.get(line.payment_hash))
        if earlier is not None and later is not None:
            found.append(earlier if later.weight == CONTRADICTION else later)
    return found


def _difference(line: Row, view: InvoiceView | None) -> LedgerDifference | None:
    booked, state = Tranche(line.state), view.state if view else None
    wrong_amount = view is not None and state is Seen.SETTLED and view.paid_msat != line.amount_msat
    if state in AGREES[booked] and not wrong_amount:
        return None
    ahead = state in WILL_JOIN.get(booked, frozenset()) and not wrong_amount
    return LedgerDifference(
        weight=LAG if ahead else CONTRADICTION, what="tranche", payment_hash=line.payment_hash,
        commitment=line.sponsorship, books=str(booked), lnd=str(state) if state else "never seen",
        amount_msat=view.paid_msat if wrong_amount and view else line.amount_msat,
    )  # fmt: skip
