"""A person explains a contradiction for good: what it cost is written off by name, and it freezes nothing any more.

It believes nobody about our own node, which is asked; it changes no line that stands, and thaws nothing: the thaw is an
order of its own.
"""

import re
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
import structlog
from l402core.errors import Conflict, Malformed, NotFound
from l402core.escrow import Rung
from l402core.events import GradientScored, WriteOff, WrittenOff
from l402core.lnd.port import InvoiceState, InvoiceView, PaymentStatus, PaymentView
from l402core.outbox import Transaction

from l402_settler import ledger
from l402_settler.adapters import books, explained_books, fee_books, freeze_books, journal
from l402_settler.decisions import may_be_paid
from l402_settler.office import Office
from l402_settler.reconcile import AGREES

log = structlog.get_logger()
_HASH = re.compile("[0-9a-f]{64}", re.ASCII)
REASON_MAX = 1_000


class Node(Protocol):
    """What is needed of our node."""

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None: ...

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None: ...


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What cannot be true of one payment hash, and what makes the books as our node is."""

    what: str
    about: str
    books: str
    lnd: str
    lost_msat: int
    lines: tuple[ledger.Transfer, ...]


class WritingOff:
    """Answers `WriteOff`."""

    def __init__(self, office: Office, node: Node) -> None:
        self._office = office
        self._node = node

    async def write_off(self, order: WriteOff) -> WrittenOff:
        """Book it, once. Raises Malformed, NotFound, Conflict, Unavailable while our node cannot tell."""
        if not order.by.strip() or not 1 <= len(order.reason.strip()) <= REASON_MAX:
            raise Malformed("order", f"an order names who gives it, and why in 1 to {REASON_MAX} characters")
        if not _HASH.fullmatch(order.payment_hash):
            raise Malformed("order", "name it by its whole payment hash, 64 lower-case hex digits")
        hash_ = bytes.fromhex(order.payment_hash)
        payment, invoice = await self._node.lookup_payment(hash_), await self._node.lookup_invoice(hash_)
        return await self._office.database.transact(lambda tx: self._write_off(tx, order, payment, invoice))

    def _write_off(
        self, tx: Transaction, order: WriteOff, payment: PaymentView | None, invoice: InvoiceView | None
    ) -> WrittenOff:
        hash_, now_ms = order.payment_hash, self._office.now_ms()
        known = explained_books.explanation(tx, hash_)
        if known is not None:
            return WrittenOff(payment_hash=hash_, what=known.what, about=known.about, lost_msat=known.amount_msat)
        found = _found(tx, hash_, payment, invoice)
        explained_books.add_explanation(
            tx, payment_hash=hash_, what=found.what, about=found.about, books=found.books, lnd=found.lnd,
            amount_msat=found.lost_msat, by=order.by[:80], reason=order.reason, at_ms=now_ms,
        )  # fmt: skip
        if found.lines:
            journal.post(tx, *found.lines, now_ms=now_ms)
        log.warning(
            "money.written_off", payment_hash=hash_, about=found.about, books=found.books, lnd=found.lnd,
            lost_msat=found.lost_msat, by=order.by, reason=order.reason,
        )  # fmt: skip
        return WrittenOff(payment_hash=hash_, what=found.what, about=found.about, lost_msat=found.lost_msat)


def _found(tx: Transaction, hash_: str, payment: PaymentView | None, invoice: InvoiceView | None) -> Finding:
    line = books.rung(tx, hash_)
    if line is not None:
        row = books.submission(tx, line.commitment)
        assert row is not None
        if not row.frozen:
            raise Conflict("not_frozen", "its escrow is not frozen: freeze it first, so that nothing moves meanwhile")
        return of_rung(line, row.peer, books.from_json(row.scored, GradientScored), payment)
    fee = fee_books.fee(tx, hash_)
    if fee is not None:
        if freeze_books.fed_by(tx, hash_) and not freeze_books.fee_is_held(tx, hash_):
            raise Conflict("not_frozen", "what this fee opened is not frozen: freeze it first")
        return of_fee(hash_, int(fee.amount_msat), invoice)
    raise NotFound("unknown", "the books know no rung and no fee of this payment hash")


def of_rung(line: sa.Row[Any], peer: str, scored: GradientScored | None, seen: PaymentView | None) -> Finding:
    """What is wrong about a rung that has ended. Raises Conflict where it has not, or where nothing is wrong."""
    state, status = Rung(line.state), seen.status if seen else None
    if state in (Rung.REGISTERED, Rung.IN_FLIGHT) or status in (PaymentStatus.IN_FLIGHT, PaymentStatus.UNKNOWN):
        raise Conflict("rung_open", "this rung has not ended in the books and at our node: order again when it has")
    booked = int(line.amount_msat) if state is Rung.SETTLED else 0
    told = booked if seen is None else seen.amount_msat if status is PaymentStatus.SETTLED else 0
    outside = state is Rung.SETTLED and not may_be_paid(line, scored)
    if status in AGREES[state] and told == booked and not outside:
        raise Conflict("agrees", "the books and our node agree about it: there is nothing to explain")
    lines = ledger.written_off(line.payment_hash, line.commitment, told - booked)
    if outside:
        lines.append(ledger.overpaid(line.payment_hash, peer, line.commitment, booked))
    return Finding(
        what="rung", about=line.commitment, books=str(state), lnd=str(status) if status else "never seen",
        lost_msat=told - booked + (booked if outside else 0), lines=tuple(lines),
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
