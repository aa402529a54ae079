"""Steps of one escrow, inside the transaction at hand: its row moves, the books follow, and the event is said.

It asks nobody and waits for nothing: what LND or the oracle think arrives as an argument.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from l402core.documents import Accepted, Locked, ObjectRef, Statement, Terms
from l402core.escrow import Escrow, Rung, Trigger, move
from l402core.events import (
    CancelRequested,
    CreditIssued,
    EscrowLock,
    EscrowLocked,
    GradientScored,
    GradientUploaded,
    OfferMake,
)
from l402core.outbox import Transaction
from l402core.signing import Signed

from l402_settler import ledger
from l402_settler.adapters import books, fee_books, journal
from l402_settler.office import Office
from l402_settler.views import to_cancel

log = structlog.get_logger()


def statement_of(row: sa.Row[Any]) -> Statement:
    """What the peer said when it opened."""
    return msgspec.json.decode(msgspec.json.decode(row.statement, type=Signed).body, type=Statement)


def say_offer_make(office: Office, tx: Transaction, row: sa.Row[Any], terms: str) -> None:
    """Ask the oracle for its offer; one of what is owed has deadlines of its own."""
    id_, at = office.stamp()
    again = row.attempt > 1
    tx.say(
        OfferMake(
            id=id_, occurred_at_ms=at, revision=row.attempt - 1, round=row.round, commitment=row.commitment,
            peer=row.peer, seal_to=statement_of(row).seal_to, seq=row.seq,
            terms=msgspec.json.decode(terms, type=Signed), attempt=row.attempt,
            lock_by_ms=row.due_by_ms if again else 0,
            reveal_by_height=office.sight.height + office.config.reveal_blocks if again else 0,
        )
    )  # fmt: skip


def say_escrow_lock(office: Office, tx: Transaction, row: sa.Row[Any], terms: Terms) -> None:
    """Ask the invoicer to pay the ladder of the present offer."""
    id_, at = office.stamp()
    lines = books.ladder_of(tx, row)
    tx.say(
        EscrowLock(
            id=id_, occurred_at_ms=at, revision=row.attempt - 1, round=row.round, commitment=row.commitment,
            offer=msgspec.json.decode(row.offer, type=Signed), bolt11s=tuple(line.bolt11 for line in lines),
            payee=statement_of(row).payout_node, not_after_ms=min(line.not_after_ms for line in lines),
            fee_limit_msat=office.config.fee_limit_msat, cltv_limit=terms.cltv_max + office.config.cltv_route_slack,
        )
    )  # fmt: skip


def say_locked(office: Office, tx: Transaction, row: sa.Row[Any], locked: Signed) -> None:
    """Tell the attestor that both ends are locked."""
    id_, at = office.stamp()
    tx.say(
        EscrowLocked(
            id=id_,
            occurred_at_ms=at,
            revision=row.attempt - 1,
            round=row.round,
            commitment=row.commitment,
            locked=locked,
        ),
        parent=row.traceparent,
    )


def say_uploaded(office: Office, tx: Transaction, row: sa.Row[Any], terms: Terms, payload: ObjectRef) -> None:
    """Tell workers and attestor where the payload lies."""
    id_, at = office.stamp()
    tx.say(
        GradientUploaded(
            id=id_, occurred_at_ms=at, round=row.round, commitment=row.commitment, peer=row.peer,
            checkpoint=terms.checkpoint.sha256, model_id=terms.model_id, payload=payload,
        )
    )  # fmt: skip


def ask_cancel(office: Office, tx: Transaction, commitment: str) -> None:
    """Ask the peer to cancel every rung that will earn nothing; its node's auto-cancel is the backstop."""
    row = books.submission(tx, commitment)
    assert row is not None
    if row.frozen:
        return
    back = to_cancel(row.state, books.from_json(row.scored, GradientScored), books.ladder_of(tx, row))
    if not back:
        return
    id_, at = office.stamp()
    tx.say(
        CancelRequested(
            id=id_,
            occurred_at_ms=at,
            revision=row.attempt - 1,
            round=row.round,
            commitment=commitment,
            payment_hashes=back,
        ),
        parent=row.traceparent,
    )


def try_lock(office: Office, tx: Transaction, commitment: str, *, accepted: str | None = None) -> bool:
    """Sign `Locked` once the peer says accepted and every rung is in flight at our node. Who waits is woken by the caller.

    `accepted`: the peer's claim, which comes just now; it is written down only where this answers True.
    """
    row = books.submission(tx, commitment)
    assert row is not None
    lines, state = books.ladder_of(tx, row), Escrow(row.state)
    said = accepted or row.accepted
    if state not in (Escrow.LOCKING, Escrow.RELOCKING) or said is None or row.frozen:
        return False
    if any(line.state != Rung.IN_FLIGHT for line in lines):
        return False
    claim = msgspec.json.decode(msgspec.json.decode(said, type=Signed).body, type=Accepted)
    heights = [*claim.expiry_heights, *(line.expiry_height for line in lines if line.expiry_height)]
    locked = office.signing(tx, row.round).sign(
        Locked.tag,
        Locked(
            commitment=commitment, round=row.round, peer=row.peer,
            payment_hashes=tuple(line.payment_hash for line in lines), expiry_height=min(heights),
            locked_at_ms=office.now_ms(),
        ),
    )  # fmt: skip
    move_escrow(tx, commitment, state, Trigger.BOTH_ENDS_SEEN, locked=books.to_json(locked), accepted=said)
    say_locked(office, tx, row, locked)
    log.info("escrow.locked", commitment=commitment)
    return True


def issue_credit(
    office: Office, tx: Transaction, *, payment_hash: str, token_id: str, peer: str, commitment: str, fee_msat: int,
    reason: str, was_earned: bool,
) -> None:  # fmt: skip
    """Turn a fee that could not be served into a credit, once per token."""
    line = ledger.fee_credited(token_id, peer, commitment, fee_msat, was_earned=was_earned)
    if not journal.post(tx, line, now_ms=office.now_ms()):
        return
    if fee_books.credit(tx, payment_hash) is None:
        fee_books.add_credit(tx, payment_hash=payment_hash, peer=peer, amount_msat=fee_msat, reason=reason)
    else:
        fee_books.reopen_credit(tx, payment_hash, reason)
    id_, at = office.stamp()
    revision = int(token_id[-8:], 16)  # a credit may be issued again for the same hash: another occurrence
    tx.say(
        CreditIssued(
            id=id_, occurred_at_ms=at, revision=revision, payment_hash=payment_hash, peer=peer, amount_msat=fee_msat,
            reason=reason,
        )
    )  # fmt: skip
    log.info("credit.issued", commitment=commitment, amount_msat=fee_msat, reason=reason)


def move_escrow(tx: Transaction, commitment: str, state: Escrow, trigger: Trigger, **values: object) -> bool:
    """Follow the escrow's table; False where the trigger is to be ignored. Raises Contradiction."""
    target = move(state, trigger)
    if target is None:
        return False
    books.move_submission(tx, commitment, state, target, **values)
    return True
