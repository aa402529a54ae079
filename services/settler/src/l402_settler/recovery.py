"""What a restarted settler says again from its books: any stream may have vanished. It decides nothing.

Whoever hears it twice does nothing twice. The escrow table's RECOVER column says what is due in each state.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
from l402core import telemetry
from l402core.documents import ObjectRef
from l402core.escrow import RECOVER, Again, Escrow
from l402core.events import CommitsClosed, RoundClosed, RoundOpened
from l402core.outbox import Database, Transaction
from l402core.signing import Signed

from l402_settler.adapters import books
from l402_settler.escrows import ask_cancel, say_escrow_lock, say_locked, say_offer_make, say_uploaded
from l402_settler.office import Office
from l402_settler.rounds import DONE, JUDGE
from l402_settler.tracking import end_escrow_if_over
from l402_settler.views import terms_of

Row = sa.Row[Any]


class Recovers(Protocol):
    """Who has something to say again: of escrows, of sponsorships."""

    async def recover(self) -> None: ...


async def recover_all(database: Database, parts: Sequence[Recovers], incarnation: str) -> None:
    """At each start, and whenever a stream had vanished: one of them alone would leave the other's messages lost.

    The bus tells what is asked from the same before this incarnation of the facts' stream.
    """
    database.ask_since(incarnation)
    for part in parts:
        await part.recover()


def say_escrow_again(office: Office, tx: Transaction, row: Row, round_: Row) -> None:
    """Everything that the escrow's table lists for its state. Its open rungs are looked up by hash in any state."""
    for again in RECOVER[Escrow(row.state)]:
        AGAIN[again](office, tx, row, round_)


def _ask_offer(office: Office, tx: Transaction, row: Row, round_: Row) -> None:
    say_offer_make(office, tx, row, round_.terms)


def _ask_lock(office: Office, tx: Transaction, row: Row, round_: Row) -> None:
    say_escrow_lock(office, tx, row, terms_of(round_))


def _tell_locked(office: Office, tx: Transaction, row: Row, _round: Row) -> None:
    say_locked(office, tx, row, msgspec.json.decode(row.locked, type=Signed))


def _tell_uploaded(office: Office, tx: Transaction, row: Row, round_: Row) -> None:
    say_uploaded(office, tx, row, terms_of(round_), msgspec.json.decode(row.payload, type=ObjectRef))


def _ask_cancel(office: Office, tx: Transaction, row: Row, _round: Row) -> None:
    ask_cancel(office, tx, row.commitment)


def _go_on(office: Office, tx: Transaction, row: Row, _round: Row) -> None:
    end_escrow_if_over(office, tx, row.commitment)


AGAIN: dict[Again, Callable[[Office, Transaction, Row, Row], None]] = {
    Again.ASK_OFFER: _ask_offer,
    Again.ASK_LOCK: _ask_lock,
    Again.TELL_LOCKED: _tell_locked,
    Again.TELL_UPLOADED: _tell_uploaded,
    Again.ASK_CANCEL: _ask_cancel,
    Again.GO_ON: _go_on,
}
"""How each entry of the table's RECOVER column is done."""


def say_round_again(office: Office, tx: Transaction, round_: Row) -> None:
    """A round's terms, root and closing, as far as it has come; a round that is done needs nothing.

    Offers that never came are asked for again, also for what failed meanwhile: a root that names a commitment for which
    no offer was ever asked looks like a trick, and stops the round.
    """
    if round_.phase == DONE:
        return
    rows = books.submissions_of(tx, round_.round)
    with telemetry.span("recover", parent=round_.traceparent):
        say_round_opened(office, tx, round_.round, msgspec.json.decode(round_.terms, type=Signed))
        if round_.root is not None:
            say_commits_closed(office, tx, round_.round, msgspec.json.decode(round_.root, type=Signed))
        if round_.phase == JUDGE:
            say_round_closed(office, tx, round_, rows)
    for row in rows:
        asked_below = not row.frozen and Again.ASK_OFFER in RECOVER[Escrow(row.state)]
        if row.offer is None and row.attempt == 1 and not asked_below:
            with telemetry.span("recover", parent=row.traceparent):
                say_offer_make(office, tx, row, round_.terms)


def say_round_opened(office: Office, tx: Transaction, round_: int, terms: Signed) -> None:
    """The round is open under these terms."""
    id_, at = office.stamp()
    tx.say(RoundOpened(id=id_, occurred_at_ms=at, round=round_, terms=terms))


def say_commits_closed(office: Office, tx: Transaction, round_: int, root: Signed) -> None:
    """No further submission opens."""
    id_, at = office.stamp()
    tx.say(CommitsClosed(id=id_, occurred_at_ms=at, round=round_, root=root))


def say_round_closed(office: Office, tx: Transaction, round_: Row, rows: list[Row]) -> None:
    """No further upload counts; `rows` are the round's submissions."""
    id_, at = office.stamp()
    uploaded = tuple(row.commitment for row in rows if row.upload is not None)
    root = msgspec.json.decode(round_.root, type=Signed)
    tx.say(RoundClosed(id=id_, occurred_at_ms=at, round=round_.round, root=root, uploaded=uploaded))
