"""A fee that arrived at our node, into the books, once. It looks at nothing and asks nobody."""

import structlog
from l402core.outbox import Transaction

from l402_settler import ledger
from l402_settler.adapters import fee_books, journal
from l402_settler.outside import IN, take_back

log = structlog.get_logger()


def book_fee(tx: Transaction, payment_hash: str, amount_msat: int, settle_index: int, *, now_ms: int) -> None:
    """Whether it is ever presented or not; known ones change nothing."""
    if fee_books.add_fee(tx, payment_hash, amount_msat, settle_index):
        take_back(tx, [payment_hash], IN, now_ms=now_ms)
        journal.post(tx, ledger.fee_received(payment_hash, amount_msat), now_ms=now_ms)
        log.info("fee.booked", payment_hash=payment_hash, amount_msat=amount_msat)
