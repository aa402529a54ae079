"""What was seen of a rung at our node, joined into the books: post, void, end the escrow, credit where due.

LND has the last word about money; this desk asks, records, and never acts on LND. It refuses to guess: UNKNOWN changes
nothing.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from l402core import telemetry
from l402core.documents import mask_indices
from l402core.errors import Contradiction
from l402core.escrow import OPEN_RUNG, Escrow, Rung, Sight, Trigger, see
from l402core.events import EscrowFailed, EscrowReturned, EscrowSettled, GradientScored
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.lnd.stranded import STRANDED
from l402core.outbox import Transaction

from l402_settler import ledger
from l402_settler.adapters import books, fee_books, journal
from l402_settler.adapters.explained_books import explained_of
from l402_settler.adapters.freeze_books import was_frozen
from l402_settler.awake import was_away
from l402_settler.decisions import check_decision
from l402_settler.escrows import ask_cancel, issue_credit, move_escrow, try_lock
from l402_settler.office import Office
from l402_settler.owed import give_up_lap, offer_again, round_of
from l402_settler.submissions import fault_is_ours
from l402_settler.views import terms_of

log = structlog.get_logger()
SIGHTS = {
    PaymentStatus.IN_FLIGHT: Sight.IN_FLIGHT,
    PaymentStatus.SETTLED: Sight.SUCCEEDED,
    PaymentStatus.FAILED: Sight.FAILED,
}


LOST = "LOST_AT_OUR_NODE"
"""The failure that we give a rung that a person says came back; none of LND's."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at one rung's payment."""

    payment_hash: str
    sight: Sight
    height: int = 0
    """Where the HTLC that is out expires; 0 for none."""
    routing_msat: int = 0
    failure: str = ""


def look_of(view: PaymentView) -> Look | None:
    """What a payment's view tells; None for nothing, such as UNKNOWN."""
    sight = SIGHTS.get(view.status)
    if sight is None or (sight is Sight.IN_FLIGHT and not view.htlc_expiry_heights):
        return None  # LND calls a payment in flight before any HTLC is out: nothing is locked yet
    return Look(
        payment_hash=view.payment_hash.hex(), sight=sight, height=max(view.htlc_expiry_heights, default=0),
        routing_msat=view.fee_msat, failure=view.failure,
    )  # fmt: skip


def never_sent(payment_hash: str) -> Look:
    """LND had never heard of the rung long after it could be sent: nothing was locked."""
    return Look(payment_hash=payment_hash, sight=Sight.NEVER_SENT, failure=str(Sight.NEVER_SENT))


async def record_sight(office: Office, *views: PaymentView) -> None:
    """Join payments' views into the books. Those of no rung of ours change nothing. Raises Contradiction: the first."""
    for _, contradiction in await record(office, views):
        raise contradiction


async def record(office: Office, seen: Sequence[PaymentView | Look]) -> list[tuple[str, Contradiction]]:
    """Join what was seen into the books: a transaction for each escrow, and none for what tells nothing new.

    Returns what cannot be true, each with a payment hash of its escrow, of which nothing was joined.
    """
    looks = [look for one in seen if (look := one if isinstance(one, Look) else look_of(one)) is not None]
    office.joined.looked_at((look.payment_hash for look in looks), office.now_ms())
    news = [look for look in looks if office.joined.is_news(look.payment_hash, look.sight, look.height)]
    if not news:
        return []
    owners = await office.database.read(lambda tx: books.owners(tx, [look.payment_hash for look in news]))
    ladders: dict[str, list[Look]] = {}
    for look in news:
        if look.payment_hash in owners:
            ladders.setdefault(owners[look.payment_hash], []).append(look)
    outcomes = await asyncio.gather(*(_record(office, *ladder) for ladder in ladders.items()))
    return [(ladders[commitment][0].payment_hash, error) for commitment, error in outcomes if error is not None]


async def _record(office: Office, commitment: str, looks: list[Look]) -> tuple[str, Contradiction | None]:
    def work(tx: Transaction) -> list[sa.Row[Any]]:
        row = books.submission(tx, commitment)
        assert row is not None
        lines = books.rungs_of(tx, commitment)
        steps = _steps(lines, _unexplained(tx, lines, looks))
        for sight in Sight:  # as it happened: out first, then the end
            mine = [step for step in steps if step.look.sight is sight]
            if mine:
                with telemetry.span(f"ledger {sight}", parent=row.traceparent, attributes={"commitment": commitment}):
                    _join(office, tx, row, mine)
        _note_heights(tx, lines, looks)
        return books.rungs_of(tx, commitment)

    try:
        lines = await office.database.transact(work, about=commitment)
    except Contradiction as error:
        return commitment, error
    for line in lines:
        office.joined.remember(line.payment_hash, Rung(line.state), line.expiry_height)
    office.changed(commitment)
    return commitment, None


def _note_heights(tx: Transaction, lines: list[sa.Row[Any]], looks: list[Look]) -> None:
    """LND may have tried another route since the rung was first seen in flight."""
    flying = {line.payment_hash: line.expiry_height for line in lines if line.state == Rung.IN_FLIGHT}
    for look in looks:
        if look.height not in (0, flying.get(look.payment_hash, 0)) and look.payment_hash in flying:
            books.note_height(tx, look.payment_hash, look.height)


def _unexplained(tx: Transaction, lines: list[sa.Row[Any]], looks: list[Look]) -> list[Look]:
    """Without what is told of rungs that a person has written off."""
    over = {line.payment_hash for line in lines if line.state not in OPEN_RUNG}
    odd = over & {look.payment_hash for look in looks}
    explained = explained_of(tx, odd) if odd else frozenset[str]()
    return [look for look in looks if look.payment_hash not in explained]


class _Step(msgspec.Struct, frozen=True):
    """One rung's move."""

    line: sa.Row[Any]
    before: Rung
    after: Rung
    look: Look


def _steps(lines: list[sa.Row[Any]], looks: list[Look]) -> list[_Step]:
    """What is new, in order. Raises Contradiction."""
    known = {line.payment_hash: line for line in lines}
    states = {line.payment_hash: Rung(line.state) for line in lines}
    steps = []
    for look in looks:
        before = states[look.payment_hash]
        after = see(before, look.sight)
        if after is not None:  # else a look that tells nothing new is no step of the payment's life
            steps.append(_Step(known[look.payment_hash], before, after, look))
            states[look.payment_hash] = after
    return steps


def _join(office: Office, tx: Transaction, row: sa.Row[Any], steps: list[_Step]) -> None:
    """Steps of one ladder that are of one kind."""
    row = books.submission(tx, row.commitment) or row  # steps of another kind may just have moved it
    alike: dict[tuple[Rung, Rung, int, str], list[str]] = {}
    for step in steps:
        how = (step.before, step.after, step.look.height, step.look.failure)
        alike.setdefault(how, []).append(step.line.payment_hash)
    for (before, after, height, failure), hashes in alike.items():
        books.move_rungs(tx, hashes, before, after, expiry_height=height, failure=failure)
    seen = [step.line.rung for step in steps]
    log.info("rungs.seen", commitment=row.commitment, indices=seen, state=str(steps[0].after))
    if steps[0].after is Rung.IN_FLIGHT:
        try_lock(office, tx, row.commitment)
        return
    paid = steps[0].after is Rung.SETTLED
    _end_rungs(office, tx, row, steps, paid=paid)
    if row.frozen:
        return  # what happened is written down, and what follows from it waits for a person
    back = (
        []
        if paid
        else [Back(one.line.rung, one.line.attempt, one.look.failure or str(one.look.sight)) for one in steps]
    )
    go_on(office, tx, row, back)


def end_by_hand(office: Office, tx: Transaction, row: sa.Row[Any], line: sa.Row[Any], *, paid: bool) -> None:
    """A person's word of how a rung ended that our node has lost. What follows waits for the thaw: the escrow is frozen."""
    sight, failure = (Sight.SUCCEEDED, "") if paid else (Sight.FAILED, LOST)
    _join(office, tx, row, _steps([line], [Look(payment_hash=line.payment_hash, sight=sight, failure=failure)]))


class Back(msgspec.Struct, frozen=True):
    """A rung that came back, and LND's word of why."""

    rung: int
    attempt: int
    why: str


def go_on(office: Office, tx: Transaction, row: sa.Row[Any], back: Sequence[Back]) -> None:
    """What follows for the escrow from rungs that ended; `back` are those of them that were not paid."""
    if back and row.state == Escrow.RELOCKING and back[0].attempt == row.attempt:
        give_up_lap(office, tx, row, Trigger.LOCK_FAILED)
    if back and row.state == Escrow.LOCKING:
        reason = f"rung {back[0].rung} could not be locked: {back[0].why}"
        fail_escrow(office, tx, row, Trigger.LOCK_FAILED, reason, lnd_failure=back[0].why)
    if row.state == Escrow.FAILED and any(one.why == STRANDED for one in back):
        # Its deadline had passed with all rungs in flight, as it seemed, and the peer not saying so: it could not.
        books.note(tx, row.commitment, credit_due=True, failure="a rung was never sent: our node had noted it only")
    end_escrow_if_over(office, tx, row.commitment)


def _end_rungs(office: Office, tx: Transaction, row: sa.Row[Any], steps: list[_Step], *, paid: bool) -> None:
    kind = EscrowSettled if paid else EscrowReturned
    transfers = []
    for line, look in ((step.line, step.look) for step in steps):
        transfers.append(ledger.rung_ended(line.payment_hash, row.peer, row.commitment, line.amount_msat, paid=paid))
        if paid and look.routing_msat:
            transfers.append(ledger.routing_paid(line.payment_hash, row.commitment, look.routing_msat))
        id_, at = office.stamp()
        tx.say(
            kind(
                id=id_, occurred_at_ms=at, round=row.round, commitment=row.commitment, index=line.rung,
                payment_hash=line.payment_hash, amount_msat=line.amount_msat,
            ),
            parent=row.traceparent,
        )  # fmt: skip
    journal.post(tx, *transfers, now_ms=office.now_ms())


def fail_escrow(
    office: Office, tx: Transaction, row: sa.Row[Any], trigger: Trigger, reason: str, *, lnd_failure: str = ""
) -> None:
    """The escrow will earn nothing. Whose fault it was decides about the fee."""
    states = tuple(Rung(line.state) for line in books.ladder_of(tx, row))
    ours = fault_is_ours(
        Escrow(row.state), states, accepted=row.accepted is not None, lnd_failure=lnd_failure,
        turns=fee_books.times_returned(tx, row.payment_hash),
    )  # fmt: skip
    if trigger is Trigger.DEADLINE and not ours:
        held = was_frozen(tx, row.commitment)  # it may have come in time, and was told to wait
        away = not held and was_away(tx, Escrow(row.state), terms_of(round_of(tx, row)), now_ms=office.now_ms())
        ours, reason = held or away, f"{reason}, and we were away meanwhile" if away else reason
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
    """Once every rung is terminal: close the books of this escrow, credit its fee or offer again what is owed."""
    row = books.submission(tx, commitment)
    assert row is not None
    if row.frozen:
        return
    lines = books.ladder_of(tx, row)
    if any(line.state in OPEN_RUNG for line in lines):
        return
    if row.state in (Escrow.SCORED, Escrow.FAILED, Escrow.OWED):
        check_decision(tx, books.rungs_of(tx, commitment), books.from_json(row.scored, GradientScored))
    if row.state == Escrow.RELOCKED and not any(line.state == Rung.SETTLED for line in lines):
        give_up_lap(office, tx, row, Trigger.RUNGS_TERMINAL)
    elif row.state == Escrow.OWED:
        offer_again(office, tx, row)
    elif row.state in (Escrow.SCORED, Escrow.FAILED):
        _end(office, tx, row, lines)


def _end(office: Office, tx: Transaction, row: sa.Row[Any], lines: list[sa.Row[Any]]) -> None:
    commitment = row.commitment
    scored = books.from_json(row.scored, GradientScored)
    kept = mask_indices(scored.mask, 64) if scored else ()
    for line in lines:
        if line.rung in kept and line.state in (Rung.RETURNED, Rung.UNSENT):
            forfeit = ledger.reward_forfeited(line.payment_hash, row.peer, commitment, line.amount_msat)
            journal.post(tx, forfeit, now_ms=office.now_ms())
            log.warning("reward.forfeited", commitment=commitment, index=line.rung, amount_msat=line.amount_msat)
    move_escrow(tx, commitment, Escrow(row.state), Trigger.RUNGS_TERMINAL)
    if row.credit_due:
        issue_credit(
            office, tx, payment_hash=row.payment_hash, token_id=row.token_id, peer=row.peer, commitment=commitment,
            fee_msat=row.fee_msat, reason=row.failure, was_earned=True,
        )  # fmt: skip
    log.info("escrow.ended", commitment=commitment)
