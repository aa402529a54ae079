"""What outsiders may see of a round and of a submission, read from the books. It changes nothing."""

from functools import lru_cache
from typing import Any

import msgspec
import sqlalchemy as sa
from l402core.documents import Terms, mask_indices
from l402core.escrow import OPEN_RUNG, Escrow
from l402core.events import GradientScored, RoundView, RungView, SubmissionView
from l402core.outbox import Transaction
from l402core.signing import Signed

from l402_settler.adapters import books, fee_books
from l402_settler.submissions import Room, no_room


def terms_of(row: sa.Row[Any]) -> Terms:
    """The terms inside a round's signed document."""
    return _terms(row.terms)


@lru_cache(maxsize=64)
def _terms(text: str) -> Terms:
    """They never change, and are asked for at every step."""
    return msgspec.json.decode(msgspec.json.decode(text, type=Signed).body, type=Terms)


def round_view(tx: Transaction, row: sa.Row[Any], room: Room) -> RoundView:
    """One round for anybody."""
    terms = terms_of(row)
    counts = books.counts(tx, row.round)
    refusal = no_room(room, terms)
    return RoundView(
        round=row.round,
        phase=row.phase,
        terms=msgspec.json.decode(row.terms, type=Signed),
        root=books.from_json(row.root, Signed),
        opened=counts.opened,
        uploaded=counts.uploaded,
        scored=counts.scored,
        places_left=room.places,
        available=refusal is None and row.phase == "commit",
        unavailable_reason=refusal.detail if refusal else "",
    )


def submission_view(tx: Transaction, row: sa.Row[Any]) -> SubmissionView:
    """One submission, complete: a lost reply is read again here."""
    offer = books.from_json(row.offer, Signed)
    scored = books.from_json(row.scored, GradientScored)
    lines = books.rungs_of(tx, row.commitment)
    present = [line for line in lines if line.attempt == row.attempt]
    revealed = scored is not None and not scored.withheld
    over = row.state in (Escrow.FAILED, Escrow.ENDED)  # before that its fee is no credit
    credit = fee_books.credit(tx, row.payment_hash) if over else None
    round_ = books.round_row(tx, row.round)
    return SubmissionView(
        round=row.round,
        commitment=row.commitment,
        peer=row.peer,
        state=row.state,
        phase=round_.phase if round_ is not None else "done",
        seq=row.seq,
        offer=offer,
        locked=books.from_json(row.locked, Signed),
        upload=books.from_json(row.upload, Signed),
        receipt=scored.receipt if scored else None,
        sealed_preimages=scored.sealed_preimages if scored else (),
        mask=scored.mask if scored else 0,
        verdict=scored.verdict if scored else "",
        reasons=scored.reasons if scored else ((row.failure,) if row.failure else ()),
        rungs=tuple(
            RungView(
                index=line.rung,
                payment_hash=line.payment_hash,
                amount_msat=line.amount_msat,
                state=line.state,
                attempt=line.attempt,
            )
            for line in lines
        ),
        cancel=() if row.frozen else to_cancel(row.state, scored, present),
        fee_msat=row.fee_msat,
        credit_available=credit is not None and credit.spent_on is None,
        trace_id=row.traceparent.split("-")[1] if row.traceparent else "",
        attempt=row.attempt,
        owed_msat=scored.reward_msat if scored is not None and not revealed else 0,
    )


def to_cancel(state: str, scored: GradientScored | None, lines: list[sa.Row[Any]]) -> tuple[str, ...]:
    """The rungs that the peer should cancel: those outside the mask of a scored escrow, all of one that comes to nothing."""
    if state not in (Escrow.FAILED, Escrow.SCORED, Escrow.OWED):
        return ()
    kept = set(mask_indices(scored.mask, 64)) if scored and state == Escrow.SCORED else set[int]()
    return tuple(line.payment_hash for line in lines if line.rung not in kept and line.state in OPEN_RUNG)
