"""How something freezes: a contradiction, a dead letter or an operator stops all that moves or promises money about it.

What happens at LND is written down all the same. It decides nothing about money, and thaws nothing: a person does.
"""

import structlog
from l402core import escrow, sponsorship
from l402core.errors import Unavailable
from l402core.events import (
    CancelRequested,
    EscrowFrozen,
    EscrowLock,
    EscrowLocked,
    EscrowThawed,
    Event,
    ReadStops,
    SponsorshipLocked,
    SponsorshipMint,
    Stand,
    StopsView,
)
from l402core.outbox import Transaction

from l402_settler.adapters import books, freeze_books, sponsor_books
from l402_settler.adapters.freeze_books import FREEZE, SUBMISSION
from l402_settler.office import Office

log = structlog.get_logger()
STANDS_MAX = 4_000
"""Told in one answer, which stays below half a megabyte."""
SETTLER = "settler"
"""Who froze it, where no person did."""
ESCROW_SAYS: dict[escrow.Again, type[Event]] = {
    escrow.Again.ASK_LOCK: EscrowLock,
    escrow.Again.TELL_LOCKED: EscrowLocked,
    escrow.Again.ASK_CANCEL: CancelRequested,
}
TRANCHE_SAYS: dict[sponsorship.Again, type[Event]] = {
    sponsorship.Again.ASK_MINT: SponsorshipMint,
    sponsorship.Again.TELL_LOCKED: SponsorshipLocked,
}
"""What asks for a lock, a reveal or a cancel is unsaid as long as the bus has not taken it; the thaw says it again."""


def freeze(
    office: Office, tx: Transaction, what: str, about: str, *, code: str, reason: str, by: str = SETTLER
) -> bool:
    """Stop everything about it, and alarm. False where it is frozen for the same reason already."""
    first = freeze_books.mark(tx, what, about, frozen=True)
    if not first and freeze_books.is_noted(tx, about, code):
        return False
    freeze_books.note(
        tx, about=about, what=what, action=FREEZE, by=by[:80], code=code[:80], reason=reason, at_ms=office.now_ms()
    )
    freeze_books.withdraw(tx, _subjects(tx, what, about))
    if first and what == SUBMISSION:
        say_how_it_stands(office, tx, about)
    log.critical(f"{'escrow' if what == SUBMISSION else what}.frozen", about=about, by=by, code=code, detail=reason)
    return True


def say_how_it_stands(office: Office, tx: Transaction, commitment: str) -> None:
    """Tell the invoicer, who may have a lock in hand, whether it may be sent. Nothing where it was never frozen."""
    notes = freeze_books.notes_of(tx, commitment)
    if not notes:
        return
    row = books.submission(tx, commitment)
    assert row is not None
    id_, at = office.stamp()
    kind = EscrowFrozen if row.frozen else EscrowThawed
    fact = kind(id=id_, occurred_at_ms=at, revision=len(notes), round=row.round, commitment=commitment)
    tx.say(fact, parent=row.traceparent)


async def read_stops(office: Office, question: ReadStops) -> StopsView:
    """How escrows stand, for an invoicer that may have missed a word. Raises Unavailable where they are too many to tell."""
    about = question.about[: STANDS_MAX + 1]
    rows = await office.database.read(lambda tx: freeze_books.stands(tx, about, at_most=STANDS_MAX + 1))
    if max(len(rows), len(about)) > STANDS_MAX:
        raise Unavailable(
            "stops_many", f"more than {STANDS_MAX} escrows are frozen: nothing is locked until they are fewer"
        )
    return StopsView(
        stands=tuple(Stand(commitment=row.commitment, revision=row.words, frozen=bool(row.frozen)) for row in rows)
    )


def freeze_payment(office: Office, tx: Transaction, payment_hash: str, *, code: str, reason: str) -> None:
    """Freeze what a payment hash belongs to: an escrow by its rung or by its fee, or a tranche."""
    owner = freeze_books.owner_of(tx, payment_hash)
    owners = [owner] if owner else [(SUBMISSION, commitment) for commitment in freeze_books.fed_by(tx, payment_hash)]
    for what, about in owners:
        freeze(office, tx, what, about, code=code, reason=reason)


def hold(office: Office, tx: Transaction, about: str, event: Event, *, why: str = "") -> None:
    """Keep what came to something frozen until it is thawed. Raises Unavailable where it sends too much."""
    if not freeze_books.hold(tx, about, event, why=why, now_ms=office.now_ms()):
        raise Unavailable("held_many", f"too much is held for {about[:16]}… already")
    log.warning("event.held", about=about, event_name=event.name, why=why)


def _subjects(tx: Transaction, what: str, about: str) -> tuple[str, ...]:
    """Where what the state's RECOVER column says would be said."""
    if what == SUBMISSION:
        row = books.submission(tx, about)
        assert row is not None
        agains = escrow.RECOVER[escrow.Escrow(row.state)]
        return tuple(f"{ESCROW_SAYS[again].name}.{about}" for again in agains if again in ESCROW_SAYS)
    line = sponsor_books.tranche(tx, about)
    assert line is not None
    key = f"{line.sponsorship}.{line.tranche}"
    states = sponsorship.RECOVER[sponsorship.Tranche(line.state)]
    return tuple(f"{TRANCHE_SAYS[again].name}.{key}" for again in states if again in TRANCHE_SAYS)
