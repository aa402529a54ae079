"""What our node paid or was paid outside of the protocol: explained by a person, booked by an account of its own.

It believes our node alone about sums and ends, and takes a line back where the books learn later whose payment it was.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
import structlog
from l402core.documents import Offer
from l402core.errors import Conflict, L402Error, NotFound
from l402core.events import WriteOff, WrittenOff
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.outbox import Transaction
from l402core.signing import Signed

from l402_settler import ledger
from l402_settler.adapters import books, fee_books, freeze_books, journal, outside_books, owed_books, sponsor_books
from l402_settler.evidence import Evidence
from l402_settler.reconcile import is_fee

log = structlog.get_logger()
OUT: Final = "out"
IN: Final = "in"
OPEN_PAYMENT = (PaymentStatus.IN_FLIGHT, PaymentStatus.UNKNOWN)
OPEN_INVOICE = (InvoiceState.OPEN, InvoiceState.ACCEPTED)


class Stranger(msgspec.Struct, frozen=True, kw_only=True):
    """A payment or receipt of our node that the books know nothing of."""

    way: str
    amount_msat: int
    fee_msat: int = 0
    in_opening: bool
    """The opening balance was read after it: no line is written of it."""


def explain_outside(
    tx: Transaction, order: WriteOff, seen: Evidence, *, memo_prefix: str, now_ms: int
) -> WrittenOff | None:
    """Book what is foreign, once, whichever way it went; None where the hash is the books' own. Raises Conflict."""
    hash_ = order.payment_hash
    told = {row.way: _stranger(row) for row in outside_books.outside_of(tx, [hash_])}
    ours = {way for way, is_ours in ((OUT, _is_ours_out), (IN, _is_ours_in)) if is_ours(tx, hash_)}
    found = [one for one in _ended(tx, seen, memo_prefix) if one.way not in {*told, *ours}]
    for one in found:
        _explain(tx, hash_, one, order, now_ms=now_ms)
    known = [one for way, one in told.items() if way not in ours]  # the books have learned whose the others were
    if not found and (not known or _is_frozen(tx, hash_)):
        return None
    every = [*known, *found]
    lost_msat = sum(_effect_msat(line) for one in every for line in _lines(hash_, one))
    what = "payment" if any(one.way == OUT for one in every) else "receipt"
    return WrittenOff(payment_hash=hash_, what=what, about=hash_, lost_msat=lost_msat)


def nothing_foreign(seen: Evidence) -> L402Error:
    """Why nothing is explained of a hash that the books do not know."""
    payment = seen.payment.status if seen.payment else None
    invoice = seen.invoice.state if seen.invoice else None
    if payment in OPEN_PAYMENT or invoice in OPEN_INVOICE:
        return Conflict("payment_open", "it has not ended at our node: order again when it has")
    if invoice is InvoiceState.SETTLED:
        return Conflict("fee_lags", "it is a fee of ours that the books are about to hear of: nobody need explain it")
    if payment is not None or invoice is not None:
        return Conflict("agrees", "the books and our node agree about it: there is nothing to explain")
    return NotFound("unknown", "neither the books nor our node know anything of this payment hash")


def take_back(tx: Transaction, payment_hashes: Sequence[str], way: str, *, now_ms: int) -> None:
    """The books learn whose these are: what was booked of them as outside is booked back, for their own lines follow."""
    rows = [row for row in outside_books.outside_of(tx, payment_hashes) if row.way == way]
    for row in rows:
        lines = [ledger.not_outside(line) for line in _lines(row.payment_hash, _stranger(row))]
        journal.post(tx, *lines, now_ms=now_ms)
        log.warning("money.not_outside", payment_hash=row.payment_hash, way=way, amount_msat=row.amount_msat)


def _ended(tx: Transaction, seen: Evidence, memo_prefix: str) -> Iterable[Stranger]:
    """What our node has ended with money, and is no fee of ours by its memo."""
    opened_ms, payment, invoice = journal.opened_at_ms(tx), seen.payment, seen.invoice
    if payment is not None and payment.status is PaymentStatus.SETTLED:
        yield Stranger(
            way=OUT, amount_msat=payment.amount_msat, fee_msat=payment.fee_msat,
            in_opening=opened_ms is not None and 0 < payment.sent_at_ms <= opened_ms,
        )  # fmt: skip
    if invoice is not None and invoice.state is InvoiceState.SETTLED and not is_fee(invoice, memo_prefix):
        ended_ms = (invoice.settled_at + 1) * 1_000  # our node tells whole seconds
        yield Stranger(
            way=IN, amount_msat=invoice.paid_msat,
            in_opening=opened_ms is not None and bool(invoice.settled_at) and ended_ms <= opened_ms,
        )  # fmt: skip


def _explain(tx: Transaction, hash_: str, one: Stranger, order: WriteOff, *, now_ms: int) -> None:
    if one.way == OUT:
        _must_not_be_offered(tx, hash_)
    said, by = msgspec.structs.asdict(one), order.by.strip()
    outside_books.add_outside(tx, payment_hash=hash_, **said, by=by, reason=order.reason, at_ms=now_ms)
    journal.post(tx, *_lines(hash_, one), now_ms=now_ms)
    log.warning("money.outside", payment_hash=hash_, **said, by=by, reason=order.reason)


def _must_not_be_offered(tx: Transaction, hash_: str) -> None:
    """Books that were restored from before a ladder was handed in may yet learn of its rungs. Raises Conflict."""
    for row in outside_books.offers_without_ladder(tx):
        offer = msgspec.json.decode(msgspec.json.decode(row.offer, type=Signed).body, type=Offer)
        if hash_ in offer.reward_hashes:
            owner = f"{row.commitment[:16]}…"
            raise Conflict("offered", f"it is a rung of {owner}, whose peer may still hand in its ladder")


def _is_ours_out(tx: Transaction, hash_: str) -> bool:
    return books.rung(tx, hash_) is not None or owed_books.settled_with(tx, hash_) is not None


def _is_ours_in(tx: Transaction, hash_: str) -> bool:
    """A fee that opened something is the books' own before our node's word of it comes."""
    known = fee_books.fee(tx, hash_) is not None or sponsor_books.tranche(tx, hash_) is not None
    return known or bool(freeze_books.fed_by(tx, hash_))


def _is_frozen(tx: Transaction, hash_: str) -> bool:
    """Whether a person may want something else of the same hash explained: it was our own fee, say, that we paid."""
    owner = freeze_books.owner_of(tx, hash_)
    return freeze_books.fee_is_held(tx, hash_) or (owner is not None and freeze_books.is_frozen(tx, *owner))


def _stranger(row: sa.Row[Any]) -> Stranger:
    return Stranger(
        way=row.way, amount_msat=int(row.amount_msat), fee_msat=int(row.fee_msat), in_opening=bool(row.in_opening)
    )


def _lines(hash_: str, one: Stranger) -> list[ledger.Transfer]:
    if one.in_opening:
        return []
    if one.way == OUT:
        return ledger.paid_outside(hash_, one.amount_msat, one.fee_msat)
    return [ledger.received_outside(hash_, one.amount_msat)]


def _effect_msat(line: ledger.Transfer) -> int:
    """What our node has less for it."""
    return line.amount_msat if line.credit == ledger.LIGHTNING else -line.amount_msat
