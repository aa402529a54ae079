"""What is decided and could not be delivered: owed, offered anew once the old rungs are terminal, and paid.

The oracle alone says that a reward is withheld, and reveals one offer's preimages at most. Here the sum is booked, and a
new offer of exactly the earned rungs is asked for, with deadlines of its own.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from l402core.documents import Terms, mask_indices
from l402core.escrow import OPEN_RUNG, Escrow, Trigger
from l402core.events import GradientScored, RewardOwed
from l402core.outbox import Transaction

from l402_settler import ledger
from l402_settler.adapters import books, journal
from l402_settler.adapters.freeze_books import SUBMISSION
from l402_settler.escrows import ask_cancel, move_escrow, say_offer_make
from l402_settler.exposure import Need
from l402_settler.freezing import freeze
from l402_settler.headroom import exposed, left
from l402_settler.office import Office
from l402_settler.views import terms_of

log = structlog.get_logger()
Row = sa.Row[Any]
ACCEPT_MS = 30_000
"""From the last moment to pay what is owed to the peer's word that it has arrived."""
ASKS_MAX = 24
"""Requests for one new offer, over most of a day: then a person must look at what the oracle refuses."""
FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 60_000, 3_600_000
"""A way that is not there now may be there later, and the number of offers is bounded."""


def owed_rungs(row: Row, terms: Terms) -> dict[int, int]:
    """The rungs of the decision, index to msat: what a new offer is made of."""
    scored = msgspec.json.decode(row.scored, type=GradientScored)
    return {index: terms.rung_msat()[index] for index in mask_indices(scored.mask, len(terms.rungs))}


def offered_rungs(row: Row, terms: Terms) -> dict[int, int]:
    """The rungs of the present offer: the whole ladder, or what is owed."""
    return dict(enumerate(terms.rung_msat())) if row.attempt == 1 else owed_rungs(row, terms)


def say_owed(office: Office, tx: Transaction, row: Row, amount_msat: int) -> None:
    """The peer should know that its money comes another way."""
    id_, at = office.stamp()
    tx.say(
        RewardOwed(
            id=id_, occurred_at_ms=at, revision=row.attempt - 1, round=row.round, commitment=row.commitment,
            amount_msat=amount_msat,
        )
    )  # fmt: skip
    log.warning("reward.owed", commitment=row.commitment, amount_msat=amount_msat, attempt=row.attempt)


def book_decision(
    office: Office, tx: Transaction, row: Row, event: GradientScored, known: GradientScored | None
) -> None:
    """The earned sum is owed by now: to be collected at once, or through a new offer."""
    if not event.reward_msat:
        return
    peer, commitment, amount, now_ms = row.peer, row.commitment, event.reward_msat, office.now_ms()
    if known is None:
        journal.post(tx, ledger.reward_decided(peer, commitment, amount), now_ms=now_ms)
        if event.withheld:
            journal.post(tx, ledger.reward_owed(peer, commitment, amount), now_ms=now_ms)
    elif not event.withheld:
        journal.post(tx, ledger.owed_revealed(peer, commitment, amount), now_ms=now_ms)
    if event.withheld:
        books.note(tx, commitment, owed_msat=amount, owed_rungs=event.mask.bit_count())
        say_owed(office, tx, row, amount)


def owed_is_due(office: Office, tx: Transaction, row: Row) -> bool:
    """Whether a turn would change anything."""
    if row.state == Escrow.OWED:
        return _can_offer(office, tx, row)
    if row.state == Escrow.DUE:
        return _ask_is_due(office, row)
    return bool(office.now_ms() >= row.due_by_ms)


def turn_owed(office: Office, tx: Transaction, row: Row) -> None:
    """What is due now of a reward that is owed: give up a lap that missed its deadline, begin the next."""
    state, late = Escrow(row.state), office.now_ms() >= row.due_by_ms
    if state in (Escrow.REOFFERED, Escrow.RELOCKING) and late:
        give_up_lap(office, tx, row, Trigger.DEADLINE)
    elif state is Escrow.DUE and _ask_is_due(office, row):
        _ask_again(office, tx, row)
    elif state is Escrow.OWED:
        offer_again(office, tx, row)


def give_up_lap(office: Office, tx: Transaction, row: Row, trigger: Trigger) -> None:
    """This offer comes to nothing; the debt stays. After one that our node could not pay, the next waits ever longer."""
    not_before_ms = office.now_ms() + pause_ms(row.attempt) if trigger is Trigger.LOCK_FAILED else 0
    if move_escrow(tx, row.commitment, Escrow(row.state), trigger, due_by_ms=not_before_ms):
        log.warning("owed.not_taken", commitment=row.commitment, attempt=row.attempt, reason=str(trigger))
        ask_cancel(office, tx, row.commitment)
        offer_again(office, tx, _again(tx, row))


def pause_ms(attempt: int) -> int:
    """From a new offer that found no way to the next: a minute at first, doubling up to an hour."""
    return min(FIRST_PAUSE_MS << max(attempt - 2, 0), LONGEST_PAUSE_MS)


def offer_again(office: Office, tx: Transaction, row: Row) -> None:
    """Once every rung of the old offer is terminal, and our node can pay: ask the oracle for a new one."""
    if not _can_offer(office, tx, row):
        return  # a later turn looks again
    if row.attempt > office.config.owed_offers:
        move_escrow(tx, row.commitment, Escrow.OWED, Trigger.UNCLAIMED)
        log.warning("owed.unclaimed", commitment=row.commitment, offers=office.config.owed_offers)
        return
    books.keep_offer(tx, row)
    move_escrow(
        tx, row.commitment, Escrow.OWED, Trigger.RUNGS_TERMINAL, attempt=row.attempt + 1, offer=None, accepted=None,
        locked=None,
    )  # fmt: skip
    _ask(office, tx, _again(tx, row))


def _can_offer(office: Office, tx: Transaction, row: Row) -> bool:
    """Every rung of the old offer is terminal, its pause is over, and there is room for a new one beside all others."""
    if row.state == Escrow.OWED and row.attempt > 1 and office.now_ms() < row.due_by_ms:
        return False
    if any(line.state in OPEN_RUNG for line in books.ladder_of(tx, row)):
        return False
    terms = terms_of(round_of(tx, row))
    rungs = owed_rungs(row, terms)
    need = Need(sum(rungs.values()), len(rungs))
    refusal = left(office, tx, debts=False).refusal(need) or exposed(
        office, tx, row.peer, frozenset((row.payee,)), need, ladder_msat=terms.ladder_msat(), debts=False
    )
    return refusal is None


def _ask(office: Office, tx: Transaction, row: Row, *, asks: int = 1) -> None:
    now_ms = office.now_ms()
    due_by_ms = now_ms + office.config.owed_lock_s * 1_000
    books.note(tx, row.commitment, due_by_ms=due_by_ms, asks=asks, asked_ms=now_ms)
    say_offer_make(office, tx, _again(tx, row), round_of(tx, row).terms)
    log.info("owed.offer_asked", commitment=row.commitment, attempt=row.attempt, asks=asks)


def _ask_is_due(office: Office, row: Row) -> bool:
    """The oracle refused, or its answer was lost: it is asked again, ever more rarely."""
    return bool(office.now_ms() >= row.asked_ms + pause_ms(row.asks + 1))


def _ask_again(office: Office, tx: Transaction, row: Row) -> None:
    if row.asks >= ASKS_MAX:
        reason = f"the oracle has made no offer of what is owed, asked {row.asks} times"
        freeze(office, tx, SUBMISSION, row.commitment, code="owed_refused", reason=reason)
        return
    with tx.anew(f"ask{row.asks + 1}"):  # the bus may still know the request that was refused
        _ask(office, tx, row, asks=row.asks + 1)


def ask_afresh(office: Office, tx: Transaction, commitment: str) -> None:
    """A person has looked: the count begins again."""
    books.note(tx, commitment, asks=1, asked_ms=office.now_ms())


def round_of(tx: Transaction, row: Row) -> Row:
    """The round in which a submission was opened, which is never forgotten."""
    round_ = books.round_row(tx, row.round)
    assert round_ is not None
    return round_


def _again(tx: Transaction, row: Row) -> Row:
    fresh = books.submission(tx, row.commitment)
    assert fresh is not None
    return fresh
