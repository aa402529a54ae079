"""The oracle's decision, joined into the books: it is by the signed terms, there is one, and no rung outside of it is paid.

It measures nothing and judges nobody; what does not add up is a contradiction, and nothing of it is booked.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
from l402core.documents import Receipt, mask_indices
from l402core.errors import Contradiction
from l402core.escrow import Escrow, Rung, Trigger
from l402core.events import GradientScored
from l402core.outbox import Transaction
from l402core.schedule import difference

from l402_settler import ledger
from l402_settler.adapters import books, journal
from l402_settler.adapters.explained_books import explained_of
from l402_settler.escrows import move_escrow
from l402_settler.office import Office
from l402_settler.owed import book_decision, round_of
from l402_settler.views import terms_of


def record_decision(office: Office, tx: Transaction, event: GradientScored) -> bool:
    """The oracle's one decision, and later perhaps that it reveals it after all: to be had now, or owed.

    False when it is known. Raises Contradiction for a second decision, for a reveal that was never asked for, for a mask
    that does not add up, and for rungs that were paid outside of it.
    """
    row = books.submission(tx, event.commitment)
    if row is None:
        raise Contradiction("decision_unknown", f"a decision for {event.commitment[:16]}…, which was never opened")
    known = books.from_json(row.scored, GradientScored)
    if known is not None and known.receipt.body != event.receipt.body:
        raise Contradiction("decision_twice", f"another decision for {event.commitment[:16]}… came before")
    if known is not None and (event.attempt <= known.attempt or not known.withheld):
        return False
    if known is not None and event.withheld and event.attempt < row.attempt:
        return False  # another offer has followed already
    if event.attempt > row.attempt or (known is None and event.attempt != 1) or (event.withheld and not event.mask):
        raise Contradiction("decision_attempt", f"offer {event.attempt} of {event.commitment[:16]}… cannot be revealed")
    lines = books.rungs_of(tx, event.commitment)
    _check_schedule(tx, row, event)
    _check_mask(lines, event)
    check_decision(tx, lines, event)
    due = event.verdict == "unscored"
    trigger = Trigger.WITHHELD if event.withheld else Trigger.SCORED
    if not move_escrow(
        tx, event.commitment, Escrow(row.state), trigger, scored=msgspec.json.encode(event).decode(),
        credit_due=due, failure="; ".join(event.reasons) if due else row.failure,
        **({} if event.withheld else {"attempt": event.attempt}),
    ):  # fmt: skip
        return False
    book_decision(office, tx, row, event, known)
    _book_earned(office, tx, row, lines, event)
    return True


def check_decision(tx: Transaction, lines: list[sa.Row[Any]], scored: GradientScored | None) -> None:
    """No rung outside the decision is ever paid, nor one of an offer that was not revealed, but those that a person has
    explained. Raises Contradiction."""
    wrong = {line.payment_hash: line.rung for line in lines if _is_outside(line, scored)}
    outside = [wrong[hash_] for hash_ in wrong.keys() - explained_of(tx, wrong)] if wrong else []
    if outside:
        raise Contradiction(
            "paid_outside_decision", f"rungs {sorted(outside)} were paid though the decision does not reveal them"
        )


def _is_outside(line: sa.Row[Any], scored: GradientScored | None) -> bool:
    return line.state == Rung.SETTLED and not may_be_paid(line, scored)


def may_be_paid(line: sa.Row[Any], scored: GradientScored | None) -> bool:
    """Of what was withheld nothing; of a later offer we may hear that it was revealed after LND says that it was paid."""
    if scored is None or not scored.mask >> line.rung & 1:
        return False
    return bool(line.attempt > scored.attempt if scored.withheld else line.attempt == scored.attempt)


def _book_earned(
    office: Office, tx: Transaction, row: sa.Row[Any], lines: list[sa.Row[Any]], event: GradientScored
) -> None:
    """What was written off as paid to nobody's merit, and this decision reveals, is no loss."""
    paid = {line.payment_hash: line for line in lines if line.state == Rung.SETTLED and may_be_paid(line, event)}
    for hash_ in sorted(explained_of(tx, paid)) if paid else ():
        line = ledger.earned_after_all(hash_, row.peer, row.commitment, paid[hash_].amount_msat)
        journal.post(tx, line, now_ms=office.now_ms())


def _check_schedule(tx: Transaction, row: sa.Row[Any], event: GradientScored) -> None:
    """What is paid is what the signed terms make of the receipt's score, to the millisatoshi. Raises Contradiction."""
    if wrong := difference(msgspec.json.decode(event.receipt.body, type=Receipt), terms_of(round_of(tx, row))):
        raise Contradiction(
            f"schedule_{wrong[0]}", f"the decision on {event.commitment[:16]}… is not by the terms: {wrong[1]}"
        )


def _check_mask(lines: list[sa.Row[Any]], event: GradientScored) -> None:
    """The rungs of the first ladder that the mask names are the reward. Raises Contradiction."""
    first = {line.rung: line.amount_msat for line in lines if line.attempt == 1}
    revealed = sum(first.get(index, 0) for index in mask_indices(event.mask, 64))
    if revealed != event.reward_msat:
        raise Contradiction("mask_sum", f"the mask reveals {revealed} msat, the decision says {event.reward_msat}")
