"""A person closes what stays owed: with a payment that our node made, or one made elsewhere. It pays nothing itself.

It believes nobody about our own node: the payment's hash is looked up, and is used for one debt once.
"""

import re
from typing import Protocol

import structlog
from l402core.errors import Conflict, Malformed, NotFound
from l402core.escrow import Escrow
from l402core.events import OwedSettle, OwedSettled
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.ordered import checked_order
from l402core.outbox import Transaction

from l402_settler import ledger
from l402_settler.adapters import books, journal, owed_books
from l402_settler.office import Office
from l402_settler.outside import OUT, take_back

log = structlog.get_logger()
_ID = re.compile("[0-9a-f]{8,64}", re.ASCII)
_HASH = re.compile("[0-9a-f]{64}", re.ASCII)


class Node(Protocol):
    """What is needed of our node."""

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None: ...


class ByHand:
    """Answers `OwedSettle`."""

    def __init__(self, office: Office, node: Node) -> None:
        self._office = office
        self._node = node

    async def settle(self, order: OwedSettle) -> OwedSettled:
        """Book it, once. Raises Malformed, NotFound, Conflict, Unavailable while our node cannot tell."""
        _check(order)
        seen = await self._node.lookup_payment(bytes.fromhex(order.payment_hash)) if order.payment_hash else None
        if order.payment_hash and (seen is None or seen.status is not PaymentStatus.SETTLED):
            raise NotFound("payment_unknown", "our node has made no payment of this hash, or it has not succeeded yet")
        return await self._office.database.transact(lambda tx: self._settle(tx, order, seen))

    def _settle(self, tx: Transaction, order: OwedSettle, seen: PaymentView | None) -> OwedSettled:
        found = owed_books.begins(tx, order.wanted, limit=2)
        if len(found) != 1:
            raise NotFound(
                "unknown", f"{order.wanted} is the beginning of {len(found) or 'no'} submissions, not of one"
            )
        row = books.submission(tx, found[0])
        assert row is not None
        known = owed_books.settlement(tx, row.commitment)
        if known is not None:
            if known.payment_hash == (order.payment_hash or None):
                return OwedSettled(commitment=row.commitment, peer=row.peer, amount_msat=known.amount_msat)
            raise Conflict("settled", f"{row.commitment[:16]}… was settled by {known.by}: {known.reason}")
        amount = owed_books.debt(tx, row.commitment)
        _may_settle(tx, row.state, amount, order, seen, frozen=row.frozen)
        self._book(tx, row.peer, row.commitment, amount, order, seen)
        return OwedSettled(commitment=row.commitment, peer=row.peer, amount_msat=amount)

    def _book(
        self, tx: Transaction, peer: str, commitment: str, amount: int, order: OwedSettle, seen: PaymentView | None
    ) -> None:
        now_ms = self._office.now_ms()
        owed_books.add_settlement(
            tx, commitment=commitment, payment_hash=order.payment_hash or None, amount_msat=amount, by=order.by.strip(),
            reason=order.reason, at_ms=now_ms,
        )  # fmt: skip
        lines = [ledger.owed_settled(peer, commitment, amount, by_our_node=seen is not None)]
        if seen is not None:
            take_back(tx, [order.payment_hash], OUT, now_ms=now_ms)
        if seen is not None and seen.fee_msat:
            lines.append(ledger.routing_paid(order.payment_hash, commitment, seen.fee_msat))
        journal.post(tx, *lines, now_ms=now_ms)
        log.warning("owed.settled", commitment=commitment, amount_msat=amount, by=order.by, reason=order.reason)


def _check(order: OwedSettle) -> None:
    checked_order(order.by, order.reason)
    if not _ID.fullmatch(order.wanted):
        raise Malformed("order", "name it by 8 to 64 lower-case hex digits of its commitment")
    if order.payment_hash and not _HASH.fullmatch(order.payment_hash):
        raise Malformed("order", "a payment hash is 64 lower-case hex digits")


def _may_settle(
    tx: Transaction, state: str, amount: int, order: OwedSettle, seen: PaymentView | None, *, frozen: bool
) -> None:
    """Raises Conflict, unless this debt waits for a person and this payment is for it."""
    if amount <= 0:
        raise Conflict("not_owed", "nothing is owed for this submission")
    if state != Escrow.ENDED or frozen:
        raise Conflict("still_offered", f"it is {'frozen' if frozen else state}: it may still be paid by itself")
    if seen is None:
        return
    if books.rung(tx, order.payment_hash) is not None or owed_books.settled_with(tx, order.payment_hash) is not None:
        raise Conflict("payment_used", "this payment is in the books already, for something else")
    if seen.amount_msat != amount:
        raise Conflict("payment_amount", f"{amount} msat are owed, and this payment brought {seen.amount_msat}")
