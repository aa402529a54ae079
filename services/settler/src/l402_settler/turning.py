"""How rounds turn: commits close, uploads close, and what missed its deadline fails. When, `rounds` decides.

One transaction a turn: the phase, the signed root and the event that tells of it change together.
"""

from typing import Any

import sqlalchemy as sa
import structlog
from l402core.documents import RoundRoot, Terms
from l402core.errors import Contradiction
from l402core.escrow import Escrow, Rung, Trigger
from l402core.events import SubmissionExpired
from l402core.outbox import Transaction

from l402_settler.adapters import books
from l402_settler.adapters.explained_books import explained_of
from l402_settler.adapters.freeze_books import SUBMISSION
from l402_settler.freezing import freeze
from l402_settler.office import Office
from l402_settler.owed import owed_is_due, turn_owed
from l402_settler.recovery import say_commits_closed, say_round_closed
from l402_settler.rounds import COMMIT, JUDGE, UPLOAD, commits_are_over, missed, uploads_are_over
from l402_settler.tracking import end_escrow_if_over, fail_escrow
from l402_settler.views import terms_of

log = structlog.get_logger()
Row = sa.Row[Any]


def is_due(office: Office, tx: Transaction) -> bool:
    """Whether any step is due now: most looks at the clock find none, and need no write lock to find that out."""
    now_ms = office.now_ms()
    for round_ in books.live_rounds(tx):
        terms, kinds = terms_of(round_), books.kinds(tx, round_.round)
        late = (_missed(terms, kind, phase=round_.phase, now_ms=now_ms) for kind in kinds)
        if _phase_is_over(tx, round_, terms, kinds, now_ms) or any(late):
            return True
    return any(owed_is_due(office, tx, row) for row in books.owing(tx))


def turn(office: Office, tx: Transaction) -> None:
    """Take every step that is due now, in every round that is not over."""
    for round_ in books.live_rounds(tx):
        terms, rows = terms_of(round_), books.standings(tx, round_.round)
        if _phase_is_over(tx, round_, terms, rows, office.now_ms()):
            close = _close_commits if round_.phase == COMMIT else _close_round
            close(office, tx, round_.round, rows)
        _fail_the_late(office, tx, terms, round_.round)
    for row in books.owing(tx):
        turn_owed(office, tx, row)


def _phase_is_over(tx: Transaction, round_: Row, terms: Terms, rows: list[Row], now_ms: int) -> bool:
    if round_.phase == COMMIT:
        peers = books.peers_of(tx, round_.round) if terms.expected_peers else frozenset[str]()
        return commits_are_over(terms, peers=peers, now_ms=now_ms)
    if round_.phase == UPLOAD:
        return uploads_are_over(terms, states=tuple(Escrow(row.state) for row in rows), now_ms=now_ms)
    return False


def _close_commits(office: Office, tx: Transaction, round_: int, rows: list[Row]) -> None:
    root = RoundRoot(round=round_, commitments=tuple(row.commitment for row in rows))
    signed = office.signing(tx, round_).sign(RoundRoot.tag, root)
    if books.move_round(tx, round_, COMMIT, UPLOAD, root=books.to_json(signed)):
        say_commits_closed(office, tx, round_, signed)
        log.info("commits.closed", round=round_, submissions=len(rows))


def _close_round(office: Office, tx: Transaction, round_: int, rows: list[Row]) -> None:
    row = books.round_row(tx, round_)
    assert row is not None
    if not books.move_round(tx, round_, UPLOAD, JUDGE):
        return
    say_round_closed(office, tx, row, rows)
    log.info("round.closed", round=round_, uploaded=sum(one.upload is not None for one in rows))


def _fail_the_late(office: Office, tx: Transaction, terms: Terms, round_: int) -> None:
    phase_row = books.round_row(tx, round_)
    assert phase_row is not None
    for standing in books.standings(tx, round_):
        reason = _missed(terms, standing, phase=phase_row.phase, now_ms=office.now_ms())
        if not reason:
            continue
        try:
            with tx.apart():
                _fail(office, tx, standing.commitment, reason)
        except Contradiction as error:  # one escrow that cannot be true must not hold up the others' rounds
            freeze(office, tx, SUBMISSION, standing.commitment, code=error.code, reason=error.detail)


def _missed(terms: Terms, standing: Row, *, phase: str, now_ms: int) -> str:
    """The deadline that an escrow has missed; '' for none, and for one that waits for a person."""
    return "" if standing.frozen else missed(terms, Escrow(standing.state), phase=phase, now_ms=now_ms)


def _fail(office: Office, tx: Transaction, commitment: str, reason: str) -> None:
    row = books.submission(tx, commitment)
    assert row is not None
    paid = {line.payment_hash for line in books.ladder_of(tx, row) if line.state == Rung.SETTLED}
    if row.state == Escrow.UPLOADED and paid and paid - explained_of(tx, paid):
        return  # a preimage is out, so the oracle has decided: its word is on the way to us
    fail_escrow(office, tx, row, Trigger.DEADLINE, reason)
    id_, at = office.stamp()
    tx.say(
        SubmissionExpired(id=id_, occurred_at_ms=at, round=row.round, commitment=commitment, reason=reason),
        parent=row.traceparent,
    )
    end_escrow_if_over(office, tx, commitment)
