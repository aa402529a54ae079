"""What is wrong about a sponsor's tranche that a person wants explained, and how it ends. Pure: evidence is an argument.

We are the payee: money that our node never had in an invoice cannot be taken, and what it took it has.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
from l402core.errors import Conflict
from l402core.lnd.port import InvoiceState, InvoiceView
from l402core.sponsorship import Tranche

from l402_settler import ledger
from l402_settler.evidence import Evidence
from l402_settler.findings import Finding, told_end
from l402_settler.sponsor_reconcile import AGREES, WILL_JOIN

Row = sa.Row[Any]
OVER = (Tranche.SETTLED, Tranche.RETURNED)


class Clock(msgspec.Struct, frozen=True):
    """Now, and how long after its last moment an invoice is no longer minted."""

    now_ms: int
    never_sent_ms: int


def of_tranche(line: Row, seen: Evidence, ended: str, clock: Clock) -> Finding:
    """Raises Conflict where it may still move, ends by itself, or nothing is wrong; Malformed for the person's word."""
    state, view = Tranche(line.state), seen.invoice
    word = view.state if view else None
    if word in (InvoiceState.OPEN, InvoiceState.ACCEPTED):
        raise Conflict("tranche_open", "our node may still settle or cancel its invoice: order again when it has")
    if word in AGREES[state] and not (view and word is InvoiceState.SETTLED and view.paid_msat != line.amount_msat):
        raise Conflict("agrees", "the books and our node agree about it: there is nothing to explain")
    if word in WILL_JOIN.get(state, frozenset()):
        raise Conflict("tranche_open", "our node tells its end, and the next look joins it")
    if state in OVER:
        return _of_ended(line, state, view)
    if view is not None:  # settled, and nobody had judged it: our node has the money
        return _finding(line, view, paid_msat=view.paid_msat, settled=True)
    return _finding(line, None, paid_msat=line.amount_msat, settled=_lost_end(line, state, seen, ended, clock))


def _of_ended(line: Row, state: Tranche, view: InvoiceView | None) -> Finding:
    """An invoice that our node has forgotten ended all the same."""
    booked = int(line.amount_msat) if state is Tranche.SETTLED else 0
    told = booked if view is None else view.paid_msat if view.state is InvoiceState.SETTLED else 0
    return _explained(line, view, lost_msat=booked - told)


def _finding(line: Row, view: InvoiceView | None, *, paid_msat: int, settled: bool) -> Finding:
    """Its end, and what differs from the sum that this end books."""
    booked = int(line.amount_msat) if settled and line.locked is not None else 0
    found = _explained(line, view, lost_msat=booked - (paid_msat if settled else 0))
    return msgspec.structs.replace(found, end=settled)


def _lost_end(line: Row, state: Tranche, seen: Evidence, ended: str, clock: Clock) -> bool:
    """How one ended of which our node knows nothing: True for settled. Raises Conflict, Malformed."""
    if state is Tranche.MINTED:
        if clock.now_ms < line.pay_by_ms + clock.never_sent_ms:
            raise Conflict("tranche_open", "its sponsor has time to pay: order again when that is over")
        return False
    if not seen.is_over(int(line.expiry_height)):
        raise Conflict(
            "tranche_open", "its HTLC may still be in a channel of our node: order again when it has expired"
        )
    if state is Tranche.SETTLING:  # our node had its preimage
        return told_end(ended)
    return False


def _explained(line: Row, view: InvoiceView | None, *, lost_msat: int) -> Finding:
    return Finding(
        what="tranche", about=line.payment_hash, books=str(line.state), lnd=str(view.state) if view else "never seen",
        lost_msat=lost_msat, lines=tuple(ledger.written_off(line.payment_hash, line.sponsorship, lost_msat)),
    )  # fmt: skip
