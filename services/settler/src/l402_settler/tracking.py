"""What was seen of a rung at our node, joined into the books: post, void, end the escrow, credit where due.

LND has the last word about money; this desk asks, records, and never acts on LND. It refuses to guess: UNKNOWN changes
nothing.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from l402core import telemetry
from l402core.documents import mask_indices
from l402core.errors import Contradiction
from l402core.escrow import Escrow, Rung, Sight, Trigger, see
from l402core.events import EscrowFailed, EscrowReturned, EscrowSettled, GradientScored
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.outbox import Transaction

from l402_settler import ledger
from l402_settler.adapters import books
from l402_settler.escrows import ask_cancel, issue_credit, move_escrow, try_lock
from l402_settler.office import Office
from l402_settler.submissions import fault_is_ours

log = structlog.get_logger()
SIGHTS = {
    PaymentStatus.IN_FLIGHT: Sight.IN_FLIGHT,
    PaymentStatus.SETTLED: Sight.SUCCEEDED,
    PaymentStatus.FAILED: Sight.FAILED,
}


async def record_sight(office: Office, view: PaymentView) -> None:
    """Join one payment's view into the books. Payments that are no rung of ours, and UNKNOWN, change nothing."""
    sight = SIGHTS.get(view.status)
    if sight is Sight.IN_FLIGHT and not view.htlc_expiry_heights:
        return  # LND calls a payment in flight before any HTLC is out: nothing is locked yet
    if sight is not None:
        await _record(office, view.payment_hash.hex(), sight, view)


async def record_never_sent(office: Office, payment_hash: str) -> None:
    """LND had never heard of the rung long after it could be sent: nothing was locked."""
    await _record(office, payment_hash, Sight.NEVER_SENT, None)


async def _record(office: Office, payment_hash: str, sight: Sight, view: PaymentView | None) -> None:
    def work(tx: Transaction) -> str:
        line = books.rung(tx, payment_hash)
        if line is None:
            return ""
        row = books.submission(tx, line.commitment)
        assert row is not None
        height = max(view.htlc_expiry_heights, default=0) if view else 0
        if see(Rung(line.state), sight) is None:  # a look that tells nothing new is no step of the payment's life
            if line.state == Rung.IN_FLIGHT and height and height != line.expiry_height:
                books.note_height(tx, line.payment_hash, height)  # LND tried another route
            return str(line.commitment)
        with telemetry.span(f"ledger {sight}", parent=row.traceparent, attributes={"commitment": row.commitment}):
            _join(office, tx, row, line, sight, view)
        return str(line.commitment)

    commitment = await office.database.transact(work)
    if commitment:
        office.changed(commitment)


def _join(
    office: Office, tx: Transaction, row: sa.Row[Any], line: sa.Row[Any], sight: Sight, view: PaymentView | None
) -> None:
    before = Rung(line.state)
    after = see(before, sight)
    height = max(view.htlc_expiry_heights, default=0) if view else 0
    assert after is not None
    books.move_rung(tx, line.payment_hash, before, after, expiry_height=height)
    log.info("rung.seen", commitment=row.commitment, index=line.rung, state=str(after))
    if after is Rung.IN_FLIGHT:
        try_lock(office, tx, row.commitment)
        return
    _end_rung(office, tx, row, line, paid=after is Rung.SETTLED, routing_msat=view.fee_msat if view else 0)
    if after is not Rung.SETTLED and row.state == Escrow.LOCKING:
        why = view.failure if view else str(sight)
        reason = f"rung {line.rung} could not be locked: {why}"
        fail_escrow(office, tx, row, Trigger.LOCK_FAILED, reason, lnd_failure=why)
    end_escrow_if_over(office, tx, row.commitment)


def _end_rung(
    office: Office, tx: Transaction, row: sa.Row[Any], line: sa.Row[Any], *, paid: bool, routing_msat: int
) -> None:
    now_ms = office.now_ms()
    books.post(
        tx, ledger.rung_ended(line.payment_hash, row.peer, row.commitment, line.amount_msat, paid=paid), now_ms=now_ms
    )
    if paid and routing_msat:
        books.post(tx, ledger.routing_paid(line.payment_hash, row.commitment, routing_msat), now_ms=now_ms)
    kind = EscrowSettled if paid else EscrowReturned
    id_, at = office.stamp()
    tx.say(
        kind(
            id=id_, occurred_at_ms=at, round=row.round, commitment=row.commitment, index=line.rung,
            payment_hash=line.payment_hash, amount_msat=line.amount_msat,
        ),
        parent=row.traceparent,
    )  # fmt: skip


def fail_escrow(
    office: Office, tx: Transaction, row: sa.Row[Any], trigger: Trigger, reason: str, *, lnd_failure: str = ""
) -> None:
    """The escrow will earn nothing. Whose fault it was decides about the fee."""
    states = tuple(Rung(line.state) for line in books.rungs_of(tx, row.commitment))
    ours = fault_is_ours(
        Escrow(row.state), states, accepted=row.accepted is not None, lnd_failure=lnd_failure,
        turns=books.times_returned(tx, row.payment_hash),
    )  # fmt: skip
    if not move_escrow(tx, row.commitment, Escrow(row.state), trigger, failure=reason, credit_due=ours):
        return
    id_, at = office.stamp()
    tx.say(
        EscrowFailed(id=id_, occurred_at_ms=at, round=row.round, commitment=row.commitment, reason=reason),
        parent=row.traceparent,
    )
    ask_cancel(office, tx, row.commitment)
    log.info("escrow.failed", commitment=row.commitment, reason=reason, credit_due=ours)


def end_escrow_if_over(office: Office, tx: Transaction, commitment: str) -> None:
    """Once every rung is terminal: close the books of this escrow, credit the fee where it is due."""
    row = books.submission(tx, commitment)
    assert row is not None
    lines = books.rungs_of(tx, commitment)
    if row.state not in (Escrow.SCORED, Escrow.FAILED) or any(
        line.state in (Rung.REGISTERED, Rung.IN_FLIGHT) for line in lines
    ):
        return
    scored = books.from_json(row.scored, GradientScored)
    check_decision(lines, scored)
    kept = mask_indices(scored.mask, len(lines)) if scored else ()
    for line in lines:
        if line.rung in kept and line.state in (Rung.RETURNED, Rung.UNSENT):
            forfeit = ledger.reward_forfeited(line.payment_hash, row.peer, commitment, line.amount_msat)
            books.post(tx, forfeit, now_ms=office.now_ms())
            log.warning("reward.forfeited", commitment=commitment, index=line.rung, amount_msat=line.amount_msat)
    move_escrow(tx, commitment, Escrow(row.state), Trigger.RUNGS_TERMINAL)
    if row.credit_due:
        issue_credit(
            office, tx, payment_hash=row.payment_hash, token_id=row.token_id, peer=row.peer, commitment=commitment,
            fee_msat=row.fee_msat, reason=row.failure, was_earned=True,
        )  # fmt: skip
    log.info("escrow.ended", commitment=commitment)


def check_decision(lines: list[sa.Row[Any]], scored: GradientScored | None) -> None:
    """No rung outside the decision is ever paid. Raises Contradiction."""
    mask = scored.mask if scored else 0
    outside = [line.rung for line in lines if line.state == Rung.SETTLED and not mask >> line.rung & 1]
    if outside:
        raise Contradiction(
            "paid_outside_decision", f"rungs {outside} were paid though the decision does not reveal them"
        )


def record_decision(office: Office, tx: Transaction, event: GradientScored) -> bool:
    """The oracle's one decision: owed from now on. False when it is known."""
    row = books.submission(tx, event.commitment)
    if row is None:
        raise Contradiction("decision_unknown", f"a decision for {event.commitment[:16]}…, which was never opened")
    if row.scored is not None:
        return False
    lines = books.rungs_of(tx, event.commitment)
    revealed = sum(line.amount_msat for line in lines if line.rung in mask_indices(event.mask, len(lines)))
    if revealed != event.reward_msat:
        raise Contradiction("mask_sum", f"the mask reveals {revealed} msat, the decision says {event.reward_msat}")
    check_decision(lines, event)
    due = event.verdict == "unscored"
    if not move_escrow(
        tx, event.commitment, Escrow(row.state), Trigger.SCORED, scored=msgspec.json.encode(event).decode(),
        credit_due=due, failure="; ".join(event.reasons) if due else row.failure,
    ):  # fmt: skip
        return False
    if event.reward_msat:
        books.post(tx, ledger.reward_decided(row.peer, row.commitment, event.reward_msat), now_ms=office.now_ms())
    return True
