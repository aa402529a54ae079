"""A person explains a contradiction for good: what it cost is written off by name, and it freezes nothing any more. And what
our node did that the books know nothing of, which is booked as outside of the protocol.

It believes nobody about our own node, which is asked; it changes no line that stands, and thaws nothing: the thaw is an
order of its own.
"""

import re
from typing import Any, Protocol

import sqlalchemy as sa
import structlog
from l402core.errors import Conflict, Malformed
from l402core.escrow import OPEN_RUNG, Rung
from l402core.events import GradientScored, WriteOff, WrittenOff
from l402core.lnd.port import ChannelView, InvoiceState, InvoiceView, PaymentStatus, PaymentView
from l402core.ordered import checked_order
from l402core.outbox import Transaction

from l402_settler import ledger, sponsor_steps, tracking
from l402_settler.adapters import books, explained_books, fee_books, freeze_books, journal, sponsor_books
from l402_settler.decisions import may_be_paid
from l402_settler.evidence import Evidence
from l402_settler.findings import Finding, told_end
from l402_settler.office import Office
from l402_settler.outside import explain_outside, nothing_foreign
from l402_settler.reconcile import AGREES
from l402_settler.writing_off_tranches import Clock, of_tranche

log = structlog.get_logger()
_HASH = re.compile("[0-9a-f]{64}", re.ASCII)


class Node(Protocol):
    """What is needed of our node."""

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None: ...

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None: ...

    async def channels(self) -> list[ChannelView]: ...

    async def closing_channels(self) -> int: ...


class WritingOff:
    """Answers `WriteOff`."""

    def __init__(self, office: Office, node: Node) -> None:
        self._office = office
        self._node = node

    async def write_off(self, order: WriteOff) -> WrittenOff:
        """Book it, once. Raises Malformed, NotFound, Conflict, Unavailable while our node cannot tell."""
        checked_order(order.by, order.reason)
        if not _HASH.fullmatch(order.payment_hash):
            raise Malformed("order", "name it by its whole payment hash, 64 lower-case hex digits")
        seen = await self._evidence(bytes.fromhex(order.payment_hash))
        told = await self._office.database.transact(lambda tx: self._write_off(tx, order, seen))
        if told.what == "tranche":
            self._office.changed(sponsor_steps.CHANGED)
        return told

    async def _evidence(self, hash_: bytes) -> Evidence:
        channels, closing = await self._node.channels(), await self._node.closing_channels()
        return Evidence(
            out=any(hash_ in channel.pending_out_hashes for channel in channels), closing=closing,
            height=self._office.sight.height, payment=await self._node.lookup_payment(hash_),
            invoice=await self._node.lookup_invoice(hash_),
        )  # fmt: skip

    def _write_off(self, tx: Transaction, order: WriteOff, seen: Evidence) -> WrittenOff:
        hash_, now_ms, memo_prefix = order.payment_hash, self._office.now_ms(), self._office.config.fee_memo_prefix
        told = explain_outside(tx, order, seen, memo_prefix=memo_prefix, now_ms=now_ms)
        if told is not None:
            return told
        known = explained_books.explanation(tx, hash_)
        if known is not None:
            return WrittenOff(payment_hash=hash_, what=known.what, about=known.about, lost_msat=known.amount_msat)
        found = self._found(tx, order, seen)
        if found.end is not None:
            self._end(tx, found, order, paid=found.end)
        explained_books.add_explanation(
            tx, payment_hash=hash_, what=found.what, about=found.about, books=found.books, lnd=found.lnd,
            amount_msat=found.lost_msat, by=order.by.strip(), reason=order.reason, at_ms=now_ms,
        )  # fmt: skip
        if found.lines:
            journal.post(tx, *found.lines, now_ms=now_ms)
        log.warning(
            "money.written_off", payment_hash=hash_, about=found.about, books=found.books, lnd=found.lnd,
            lost_msat=found.lost_msat, by=order.by, reason=order.reason,
        )  # fmt: skip
        return WrittenOff(payment_hash=hash_, what=found.what, about=found.about, lost_msat=found.lost_msat)

    def _found(self, tx: Transaction, order: WriteOff, seen: Evidence) -> Finding:
        hash_, office = order.payment_hash, self._office
        line, tranche, fee = books.rung(tx, hash_), sponsor_books.tranche(tx, hash_), fee_books.fee(tx, hash_)
        if line is not None:
            row = books.submission(tx, line.commitment)
            assert row is not None
            _must_be_frozen("its escrow", frozen=row.frozen)
            scored = books.from_json(row.scored, GradientScored)
            if line.state == Rung.IN_FLIGHT and seen.payment is None:
                return of_lost_rung(line, row.peer, scored, seen, order.ended)
            return of_rung(line, row.peer, scored, seen.payment, books.routing_of(tx, hash_))
        if tranche is not None:
            _must_be_frozen("it", frozen=tranche.frozen)
            clock = Clock(office.now_ms(), office.config.never_sent_s * 1_000)
            return of_tranche(tranche, seen, order.ended, clock)
        if fee is not None:
            _must_be_frozen(
                "what this fee opened",
                frozen=not freeze_books.fed_by(tx, hash_) or freeze_books.fee_is_held(tx, hash_),
            )
            return of_fee(hash_, int(fee.amount_msat), seen.invoice)
        raise nothing_foreign(seen)

    def _end(self, tx: Transaction, found: Finding, order: WriteOff, *, paid: bool) -> None:
        if found.what == "tranche":
            line = sponsor_books.tranche(tx, order.payment_hash)
            assert line is not None
            sponsor_steps.end_by_hand(self._office, tx, line, settled=paid, reason=order.reason)
            return
        row, rung = books.submission(tx, found.about), books.rung(tx, order.payment_hash)
        assert row is not None
        assert rung is not None
        tracking.end_by_hand(self._office, tx, row, rung, paid=paid)


def _must_be_frozen(what: str, *, frozen: bool) -> None:
    if not frozen:
        raise Conflict("not_frozen", f"{what} is not frozen: freeze it first, so that nothing moves meanwhile")


def of_lost_rung(
    line: sa.Row[Any], peer: str, scored: GradientScored | None, seen: Evidence, ended: str
) -> Finding:  # fmt: skip
    """A rung that is out in the books, and of which our node knows nothing. Raises Conflict while it may still move."""
    if not seen.is_over(int(line.expiry_height)):
        raise Conflict("rung_open", "its HTLC may still be in a channel of our node: order again when it has expired")
    paid = told_end(ended)
    lost_msat = int(line.amount_msat) if paid and not may_be_paid(line, scored) else 0
    lines = (ledger.overpaid(line.payment_hash, peer, line.commitment, lost_msat),) if lost_msat else ()
    return Finding(
        what="rung", about=line.commitment, books=str(line.state), lnd="never seen", lost_msat=lost_msat, lines=lines,
        end=paid,
    )  # fmt: skip


def of_rung(
    line: sa.Row[Any], peer: str, scored: GradientScored | None, seen: PaymentView | None, routing_msat: int
) -> Finding:  # fmt: skip
    """What is wrong about a rung that has ended, and about what its route kept.

    Raises Conflict where it has not ended, or where nothing is wrong.
    """
    state, status = Rung(line.state), seen.status if seen else None
    if state in OPEN_RUNG or status in (PaymentStatus.IN_FLIGHT, PaymentStatus.UNKNOWN):
        raise Conflict("rung_open", "this rung has not ended in the books and at our node: order again when it has")
    booked = int(line.amount_msat) if state is Rung.SETTLED else 0
    told = booked if seen is None else seen.amount_msat if status is PaymentStatus.SETTLED else 0
    kept = routing_msat if seen is None else seen.fee_msat if status is PaymentStatus.SETTLED else 0
    outside = state is Rung.SETTLED and not may_be_paid(line, scored)
    if status in AGREES[state] and (told, kept) == (booked, routing_msat) and not outside:
        raise Conflict("agrees", "the books and our node agree about it: there is nothing to explain")
    differs_msat = told + kept - booked - routing_msat
    lines = ledger.written_off(line.payment_hash, line.commitment, differs_msat)
    if outside:
        lines.append(ledger.overpaid(line.payment_hash, peer, line.commitment, booked))
    return Finding(
        what="rung", about=line.commitment, books=str(state), lnd=str(status) if status else "never seen",
        lost_msat=differs_msat + (booked if outside else 0), lines=tuple(lines),
    )  # fmt: skip


def of_fee(hash_: str, booked_msat: int, seen: InvoiceView | None) -> Finding:
    """What is wrong about a fee. An invoice that our node has forgotten was paid all the same. Raises Conflict."""
    settled = seen is not None and seen.state is InvoiceState.SETTLED
    told = booked_msat if seen is None else seen.paid_msat if settled else 0
    if settled and told == booked_msat:
        raise Conflict("agrees", "the books and our node agree about it: there is nothing to explain")
    lnd = "never seen" if seen is None else f"{told} msat" if settled else "not settled"
    return Finding(
        what="fee", about=hash_, books="received", lnd=lnd, lost_msat=booked_msat - told,
        lines=tuple(ledger.written_off(hash_, "", booked_msat - told)),
    )  # fmt: skip
