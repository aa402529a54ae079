"""Steps of one tranche, inside the transaction at hand: its row moves, the books follow, and the event is said.

It asks nobody and waits for nothing: what LND or the oracle think arrives as an argument.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from l402core import telemetry
from l402core.documents import TrancheTerms
from l402core.errors import Contradiction
from l402core.events import (
    SponsorshipAnnounce,
    SponsorshipLocked,
    SponsorshipMint,
    SponsorshipReturned,
    SponsorshipSettled,
)
from l402core.lnd.port import InvoiceState, InvoiceView
from l402core.outbox import Transaction
from l402core.pledges import TrancheLocked
from l402core.signing import Signed
from l402core.sponsorship import PENDING, Tranche, Trigger, move

from l402_settler import ledger
from l402_settler.adapters import books, journal, sponsor_books
from l402_settler.adapters.explained_books import explained_of
from l402_settler.office import Office
from l402_settler.tranches import outlives_a_round

log = structlog.get_logger()
Row = sa.Row[Any]
EVIDENCE = (Trigger.ACCEPTED, Trigger.SEEN_SETTLED, Trigger.SEEN_CANCELED)
"""What LND did is written down, whatever is frozen."""
UNANSWERED = "the oracle named no hashes in time"
CHANGED = "sponsors"
"""The name under which whoever waits for a tranche is woken."""


def say_announce(office: Office, tx: Transaction, row: Row) -> None:
    """Ask the oracle for its hashes."""
    id_, at = office.stamp()
    tx.say(
        SponsorshipAnnounce(
            id=id_, occurred_at_ms=at, sponsorship=row.sponsorship, terms=_signed(row.terms), pledge=_signed(row.pledge)
        ),
        parent=row.traceparent,
    )


def say_mint(office: Office, tx: Transaction, sponsorship: Row, line: Row) -> None:
    """Ask the invoicer for the hold invoice."""
    config = office.config
    id_, at = office.stamp()
    tx.say(
        SponsorshipMint(
            id=id_, occurred_at_ms=at, sponsorship=line.sponsorship, tranche=line.tranche,
            announcement=_signed(sponsorship.announcement), expiry_s=config.sponsor_pay_s,
            cltv_expiry=config.sponsor_cltv, not_after_ms=line.pay_by_ms,
        ),
        parent=sponsorship.traceparent,
    )  # fmt: skip


def say_locked(office: Office, tx: Transaction, line: Row, locked: Signed) -> None:
    """Tell that the sponsor's money waits."""
    id_, at = office.stamp()
    tx.say(
        SponsorshipLocked(
            id=id_, occurred_at_ms=at, sponsorship=line.sponsorship, tranche=line.tranche, locked=locked
        ),
        parent=trace_of(tx, line),
    )  # fmt: skip


def mint_next(office: Office, tx: Transaction, sponsorship: str) -> None:
    """Ask for the next tranche's invoice, or end a sponsorship that has none left. One waits at a time."""
    row = sponsor_books.sponsorship(tx, sponsorship)
    assert row is not None
    lines = sponsor_books.tranches_of(tx, sponsorship)
    if any(line.frozen for line in lines):
        return  # nothing more is asked of this sponsor until a person has looked
    waiting = [line for line in lines if line.state in (Tranche.MINTING, Tranche.MINTED, Tranche.LOCKED)]
    left = [line for line in lines if line.state == Tranche.ANNOUNCED]
    if row.state == "announced" and left and not waiting:
        if _last_round_is_open(office, tx):
            _drop(office, tx, left, "no further round will open")
        else:
            pay_by_ms = office.now_ms() + office.config.sponsor_pay_s * 1000
            step(tx, left[0], Trigger.MINT_ASKED, pay_by_ms=pay_by_ms)
            asked = sponsor_books.tranche(tx, left[0].payment_hash)
            assert asked is not None
            say_mint(office, tx, row, asked)
    end_if_over(tx, sponsorship)


def bind(office: Office, tx: Transaction, round_: int) -> TrancheTerms | None:
    """The tranche that this round is to be funded by, now bound to it; None where none is fit.

    The round's row follows in the same transaction, and then `opened`.
    """
    for line in sponsor_books.locked_tranches(tx):
        if outlives_a_round(line.expiry_height, office.config, height=office.sight.height):
            step(tx, line, Trigger.ROUND_OPENED, round=round_)
            log.info("tranche.funds", sponsorship=line.sponsorship, tranche=line.tranche, round=round_)
            return TrancheTerms(
                sponsorship=line.sponsorship, tranche=line.tranche, payment_hash=line.payment_hash,
                amount_msat=line.amount_msat, margin=line.margin,
            )  # fmt: skip
    return None


def opened(office: Office, tx: Transaction, tranche: TrancheTerms | None) -> None:
    """A round has opened: its sponsor's next tranche is asked for; after the last round whatever waits goes back."""
    if _last_round_is_open(office, tx):
        for line in sponsor_books.live_tranches(tx):
            if line.state in (Tranche.MINTING, Tranche.MINTED, Tranche.LOCKED) and not line.frozen:
                give_back(office, tx, line.payment_hash, "no further round will open")
    if tranche is not None:
        mint_next(office, tx, tranche.sponsorship)


def end_unanswered(office: Office, tx: Transaction) -> None:
    """Pledges for which the oracle has named no hashes in time: nothing was promised, and their places are free again."""
    for row in sponsor_books.asked_before(tx, office.now_ms() - office.config.sponsor_announce_s * 1_000):
        if sponsor_books.move_sponsorship(tx, row.sponsorship, "asked", "ended", reason=UNANSWERED):
            log.warning("sponsorship.unanswered", sponsorship=row.sponsorship)


def give_back(
    office: Office, tx: Transaction, payment_hash: str, reason: str, *, only_if: Tranche | None = None
) -> bool:
    """The intent to cancel: from now on the money goes back. False where it is too late for that, or known.

    `only_if` is the state that the reason was found in: one that has moved on since is left alone.
    """
    line = _line(tx, payment_hash)
    before = Tranche(line.state)
    if only_if not in (None, before):
        return False
    if not step(tx, line, Trigger.GIVE_BACK, reason=reason):
        return False
    log.warning("tranche.given_back", sponsorship=line.sponsorship, tranche=line.tranche, reason=reason)
    if before in (Tranche.MINTING, Tranche.MINTED):  # who does not pay once is asked no more
        left = [one for one in sponsor_books.tranches_of(tx, line.sponsorship) if one.state == Tranche.ANNOUNCED]
        _drop(office, tx, left, "an earlier tranche was not paid")
    return True


def see(office: Office, tx: Transaction, view: InvoiceView) -> None:
    """Join what our node says of a sponsor's invoice. Raises Contradiction."""
    line = sponsor_books.tranche(tx, view.payment_hash.hex())
    if line is None or view.state is InvoiceState.OPEN:
        return
    if view.state is InvoiceState.ACCEPTED and line.state != Tranche.MINTED:
        move(Tranche(line.state), Trigger.ACCEPTED)  # told again; raises where it cannot be
        return
    if line.state in (Tranche.SETTLED, Tranche.RETURNED):
        if explained_of(tx, [line.payment_hash]):
            return  # a person knows how the two differ
        _ended(office, tx, line, settled=view.state is InvoiceState.SETTLED)  # the same
        return
    with telemetry.span(f"ledger tranche {view.state.name.lower()}", parent=trace_of(tx, line)):
        if view.state is InvoiceState.ACCEPTED:
            _accepted(office, tx, line, view)
        else:
            _ended(office, tx, line, settled=view.state is InvoiceState.SETTLED)


def see_never_made(office: Office, tx: Transaction, payment_hash: str) -> None:
    """Our node knows no invoice of this hash, and none will be made any more."""
    _ended(office, tx, _line(tx, payment_hash), settled=False)


def end_by_hand(office: Office, tx: Transaction, line: Row, *, settled: bool, reason: str) -> None:
    """A person's order, once it can end in no other way. What follows waits for the thaw: the tranche is frozen."""
    after = Tranche.SETTLED if settled else Tranche.RETURNED
    sponsor_books.move_tranche(tx, line.payment_hash, Tranche(line.state), after, reason=reason)
    if line.locked is not None:
        end = ledger.tranche_ended(
            line.payment_hash, _sponsor(tx, line), line.sponsorship, line.amount_msat, settled=settled
        )
        journal.post(tx, end, now_ms=office.now_ms())
    _say_end(office, tx, line, settled=settled, reason=reason)


def thawed(office: Office, tx: Transaction, payment_hash: str) -> None:
    """What was left undone while it was frozen."""
    line = _line(tx, payment_hash)
    if line.state == Tranche.RETURNED and line.locked is None:
        left = [one for one in sponsor_books.tranches_of(tx, line.sponsorship) if one.state == Tranche.ANNOUNCED]
        _drop(office, tx, left, "an earlier tranche was not paid")
    if line.state in (Tranche.MINTING, Tranche.MINTED, Tranche.LOCKED) and _last_round_is_open(office, tx):
        give_back(office, tx, payment_hash, "no further round will open")
    mint_next(office, tx, line.sponsorship)


def step(tx: Transaction, line: Row, trigger: Trigger, **values: Any) -> bool:
    """Move by the table; False when the trigger is to be ignored. Raises Contradiction, also for what is frozen."""
    if line.frozen and trigger not in EVIDENCE:
        raise Contradiction("tranche_frozen", f"'{trigger}' of {line.payment_hash[:16]}… waits for a person")
    before = Tranche(line.state)
    after = move(before, trigger)
    if after is None:
        return False
    sponsor_books.move_tranche(tx, line.payment_hash, before, after, **values)
    return True


def _accepted(office: Office, tx: Transaction, line: Row, view: InvoiceView) -> None:
    expiry_height = min(view.htlc_expiry_heights, default=0)
    wrong = _wrong(office, line, view, expiry_height)
    if wrong:  # its HTLC is there all the same until it is given back
        sponsor_books.note_tranche(tx, line.payment_hash, expiry_height=expiry_height)
    if wrong and line.frozen:
        return  # to be given back, once a person has looked: the invoice tells it again
    locked = office.keys.newest.sign(
        TrancheLocked.tag,
        TrancheLocked(
            sponsorship=line.sponsorship, tranche=line.tranche, payment_hash=line.payment_hash,
            amount_msat=line.amount_msat, expiry_height=expiry_height, locked_at_ms=office.now_ms(),
        ),
    )  # fmt: skip
    if wrong:
        give_back(office, tx, line.payment_hash, wrong)
        return
    step(tx, line, Trigger.ACCEPTED, expiry_height=expiry_height, locked=books.to_json(locked))
    journal.post(
        tx, ledger.tranche_locked(line.payment_hash, _sponsor(tx, line), line.sponsorship, line.amount_msat),
        now_ms=office.now_ms(),
    )  # fmt: skip
    if not line.frozen:
        say_locked(office, tx, line, locked)
    log.info("tranche.locked", sponsorship=line.sponsorship, tranche=line.tranche, expiry_height=expiry_height)


def _wrong(office: Office, line: Row, view: InvoiceView, expiry_height: int) -> str:
    """Why a payment is not taken; '' where it is."""
    if view.paid_msat != line.amount_msat:
        return f"{view.paid_msat} msat were paid, {line.amount_msat} were asked"
    if not outlives_a_round(expiry_height, office.config, height=office.sight.height):
        return f"its HTLC expires at {expiry_height}, too soon at height {office.sight.height} to outlive a round"
    return ""


def _ended(office: Office, tx: Transaction, line: Row, *, settled: bool) -> None:
    before = Tranche(line.state)
    reason = line.reason or ("" if settled else "our node cancelled the invoice")
    if not step(tx, line, Trigger.SEEN_SETTLED if settled else Trigger.SEEN_CANCELED, reason=reason):
        return
    was_locked = line.locked is not None
    if was_locked:
        end = ledger.tranche_ended(
            line.payment_hash, _sponsor(tx, line), line.sponsorship, line.amount_msat, settled=settled
        )
        journal.post(tx, end, now_ms=office.now_ms())
    if before in PENDING and not settled:
        log.critical("tranche.evaporated", sponsorship=line.sponsorship, tranche=line.tranche, state=str(before))
    _say_end(office, tx, line, settled=settled, reason=reason)
    if line.frozen:
        return
    if before is Tranche.MINTED:  # it ran out unpaid before our own deadline
        left = [one for one in sponsor_books.tranches_of(tx, line.sponsorship) if one.state == Tranche.ANNOUNCED]
        _drop(office, tx, left, "an earlier tranche was not paid")
    mint_next(office, tx, line.sponsorship)
    log.info("tranche.ended", sponsorship=line.sponsorship, tranche=line.tranche, settled=settled)


def _say_end(office: Office, tx: Transaction, line: Row, *, settled: bool, reason: str) -> None:
    id_, at = office.stamp()
    common: dict[str, Any] = {
        "id": id_, "occurred_at_ms": at, "sponsorship": line.sponsorship, "tranche": line.tranche,
        "round": line.round or 0, "payment_hash": line.payment_hash, "amount_msat": line.amount_msat,
    }  # fmt: skip
    if settled:
        tx.say(SponsorshipSettled(**common), parent=trace_of(tx, line))
    else:
        tx.say(
            SponsorshipReturned(**common, was_locked=line.locked is not None, reason=reason), parent=trace_of(tx, line)
        )


def _drop(office: Office, tx: Transaction, lines: list[Row], reason: str) -> None:
    """Tranches that will never be asked for: nothing was minted, and nothing is."""
    for line in lines:
        step(tx, line, Trigger.GIVE_BACK, reason=reason)
        _say_end(office, tx, line, settled=False, reason=reason)


def end_if_over(tx: Transaction, sponsorship: str) -> None:
    """A sponsorship whose every tranche has ended is over."""
    lines = sponsor_books.tranches_of(tx, sponsorship)
    if lines and all(line.state in (Tranche.SETTLED, Tranche.RETURNED) for line in lines):
        earned = sum(line.state == Tranche.SETTLED for line in lines)
        reason = f"{earned} of {len(lines)} tranches were earned"
        if sponsor_books.move_sponsorship(tx, sponsorship, "announced", "ended", reason=reason):
            log.info("sponsorship.ended", sponsorship=sponsorship, earned=earned, tranches=len(lines))
            if all(line.locked is None for line in lines):
                sponsor_books.forget_unminted(tx, sponsorship)  # a pledge costs nothing, and leaves next to nothing


def _last_round_is_open(office: Office, tx: Transaction) -> bool:
    current = books.current_round(tx)
    return bool(office.config.rounds) and current is not None and current.round >= office.config.rounds


def _line(tx: Transaction, payment_hash: str) -> Row:
    line = sponsor_books.tranche(tx, payment_hash)
    if line is None:
        raise Contradiction("tranche_unknown", f"no tranche has the payment hash {payment_hash[:16]}…")
    return line


def _sponsor(tx: Transaction, line: Row) -> str:
    row = sponsor_books.sponsorship(tx, line.sponsorship)
    assert row is not None
    return str(row.sponsor)


def trace_of(tx: Transaction, line: Row) -> str:
    """The trace that its sponsor's pledge began."""
    row = sponsor_books.sponsorship(tx, line.sponsorship)
    return str(row.traceparent) if row is not None else ""


def _signed(text: str) -> Signed:
    return msgspec.json.decode(text, type=Signed)
