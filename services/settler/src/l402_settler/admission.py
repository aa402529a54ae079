"""Who is let in: a paid request becomes a submission, or its fee a credit. It knows nothing of what comes after.

Everything happens in the one transaction at hand, so that a token is spent, a place taken and a fee booked together.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from l402core import telemetry
from l402core.documents import LADDER, Statement, Terms
from l402core.errors import Conflict, L402Error, Malformed, NotFound, Unauthorized, Unavailable
from l402core.escrow import Escrow
from l402core.events import CreditSpent, PeerStanding, SubmissionOpen, SubmissionOpened
from l402core.outbox import Transaction
from l402core.sealing import seal
from l402core.signing import open_signed

from l402_settler import ledger
from l402_settler.adapters import books, fee_books, journal
from l402_settler.adapters.freeze_books import fee_is_held
from l402_settler.escrows import issue_credit, say_offer_make
from l402_settler.exposure import Need
from l402_settler.headroom import exposed, left
from l402_settler.office import Office
from l402_settler.submissions import Room, check_statement, holds_place, may_open
from l402_settler.views import terms_of

log = structlog.get_logger()


def admit(office: Office, tx: Transaction, question: SubmissionOpen) -> L402Error | None:
    """Open the submission, or say why not. A refusal after the fee was paid leaves the peer a credit.

    Raises Unauthorized where the statement is not signed by the peer, Malformed where nobody could be paid by it.
    """
    spent = fee_books.token(tx, question.token_id)
    if spent is not None:
        return Conflict("token_spent", f"this credential was already used ({spent.outcome})")
    statement = open_signed(question.statement, Statement.tag, Statement, signer=question.peer)
    if (statement.commitment, statement.peer, statement.token_id, statement.round) != (
        question.commitment, question.peer, question.token_id, question.round,
    ):  # fmt: skip
        return Malformed("statement", "the statement names another commitment, peer, token or round than the request")
    check_statement(statement)
    seal(b"", statement.seal_to)  # raises for a key of low order, to which the attestor could reveal nothing
    round_ = books.round_row(tx, question.round)
    if round_ is None:
        unknown = NotFound("round_unknown", f"round {question.round} was never opened")
        return _keep_fee_as_credit(office, tx, question, unknown, terms=None)
    terms = terms_of(round_)
    rows = books.standings_of(tx, question.round, question.peer)
    refusal = may_open(
        statement, terms, phase=round_.phase, room=room_of(office, tx, terms), now_ms=office.now_ms(),
        open_peers=frozenset(question.peer for row in rows if _holds_place(row)), attempts=len(rows),
    ) or exposed(
        office, tx, question.peer, frozenset((statement.payout_node,)), Need(terms.ladder_msat(), len(terms.rungs)),
        ladder_msat=terms.ladder_msat(),
    )  # fmt: skip
    if books.submission(tx, question.commitment) is not None:
        refusal = Conflict("other_request", "this commitment was opened by another request")
    if refusal is not None:
        return _keep_fee_as_credit(office, tx, question, refusal, terms=terms)
    fee_msat = _use_credit(office, tx, question) if question.credit else _earn_fee(office, tx, question, terms)
    if isinstance(fee_msat, L402Error):
        return fee_msat
    _open(office, tx, question, round_, fee_msat=fee_msat)
    return None


def room_of(office: Office, tx: Transaction, terms: Terms) -> Room:
    """What is left to sell now: the terms' limits less what is reserved."""
    groups = books.occupancy(tx, terms.round)
    reserved_msat = sum(group.reserved_msat for group in groups if group.state != Escrow.ENDED)
    taken = sum(group.rows for group in groups if _holds_place(group))
    return Room(places=terms.places - taken, budget_msat=terms.budget_msat - reserved_msat, outside=left(office, tx))


def standing(office: Office, tx: Transaction, peer: str) -> PeerStanding:
    """What is exposed to a peer now, and whether it would be sold another place."""
    ladder_msat, rungs = sum(LADDER) * office.config.unit_msat, len(LADDER)
    held = books.exposure(tx, peer=peer)
    payees = books.payees_of(tx, peer)
    refusal = exposed(office, tx, peer, payees, Need(ladder_msat, rungs), ladder_msat=ladder_msat)
    return PeerStanding(
        peer=peer, exposed_msat=held.msat, exposed_rungs=held.rungs, available=refusal is None,
        unavailable_reason=refusal.detail if refusal else "",
    )  # fmt: skip


def _holds_place(row: sa.Row[Any]) -> bool:
    return holds_place(row.state, is_scored=bool(row.is_scored))


def _earn_fee(office: Office, tx: Transaction, question: SubmissionOpen, terms: Terms) -> int:
    """The fee that this submission pays, in msat, booked as earned."""
    line = ledger.fee_earned(question.token_id, question.commitment, terms.fee_msat)
    journal.post(tx, line, now_ms=office.now_ms())
    return terms.fee_msat


def _use_credit(office: Office, tx: Transaction, question: SubmissionOpen) -> int | L402Error:
    """The fee that the credit stands for, in msat, booked as spent; or why the credit cannot be used."""
    known = fee_books.credit(tx, question.payment_hash)
    if known is None or known.peer != question.peer:
        return Unauthorized("credit_foreign", "this credit was issued to another peer, or never")
    if fee_is_held(tx, question.payment_hash):
        return Unavailable("held", "this credit's escrow waits for a person to look at it: ask again later")
    if not fee_books.spend_credit(tx, question.payment_hash, question.token_id, question.commitment):
        return Conflict("token_spent", "this credit was already used")
    line = ledger.credit_spent(question.token_id, question.peer, question.commitment, known.amount_msat)
    journal.post(tx, line, now_ms=office.now_ms())
    id_, at = office.stamp()
    tx.say(
        CreditSpent(
            id=id_, occurred_at_ms=at, payment_hash=question.payment_hash, peer=question.peer,
            commitment=question.commitment,
        )
    )  # fmt: skip
    return int(known.amount_msat)


def _open(office: Office, tx: Transaction, question: SubmissionOpen, round_: sa.Row[Any], *, fee_msat: int) -> None:
    fee_books.spend_token(
        tx, token_id=question.token_id, payment_hash=question.payment_hash, commitment=question.commitment,
        peer=question.peer, outcome="opened a submission",
    )  # fmt: skip
    seq = books.next_seq(tx, question.round)
    books.add_submission(
        tx, commitment=question.commitment, round=question.round, seq=seq, peer=question.peer, state=Escrow.OPENED,
        payee=msgspec.json.decode(question.statement.body, type=Statement).payout_node,
        token_id=question.token_id, payment_hash=question.payment_hash, fee_msat=fee_msat,
        reserved_msat=terms_of(round_).ladder_msat(), request_hash=question.request_hash,
        statement=books.to_json(question.statement), traceparent=telemetry.traceparent(), opened_at_ms=office.now_ms(),
    )  # fmt: skip
    id_, at = office.stamp()
    tx.say(
        SubmissionOpened(
            id=id_, occurred_at_ms=at, round=question.round, commitment=question.commitment, peer=question.peer,
            seq=seq, fee_msat=fee_msat,
        )
    )  # fmt: skip
    row = books.submission(tx, question.commitment)
    assert row is not None
    say_offer_make(office, tx, row, round_.terms)
    log.info("submission.opened", commitment=question.commitment, round=question.round, seq=seq)


def _keep_fee_as_credit(
    office: Office, tx: Transaction, question: SubmissionOpen, refusal: L402Error, *, terms: Terms | None
) -> L402Error:
    """A paid submission that cannot be served keeps its fee: an unspent credit, or a new one."""
    if question.credit:
        return refusal
    fee = fee_books.fee(tx, question.payment_hash)
    if fee is not None:
        fee_msat = int(fee.amount_msat)
    elif terms is not None:
        fee_msat = terms.fee_msat
    else:
        return Unavailable("fee_not_seen", "the fee has not been seen at our node yet; send the same request again")
    fee_books.spend_token(
        tx, token_id=question.token_id, payment_hash=question.payment_hash, commitment=question.commitment,
        peer=question.peer, outcome=f"refused: {refusal.code}",
    )  # fmt: skip
    issue_credit(
        office, tx, payment_hash=question.payment_hash, token_id=question.token_id, peer=question.peer,
        commitment=question.commitment, fee_msat=fee_msat, reason=refusal.detail, was_earned=False,
    )  # fmt: skip
    return type(refusal)(refusal.code, f"{refusal.detail}; the fee of {fee_msat} msat is kept for you as a credit")
