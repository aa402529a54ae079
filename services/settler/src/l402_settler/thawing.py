"""A person's two orders about something that cannot be true, and the dead letters that say so. It judges neither.

A thaw does, in one transaction, what was held: each message that waited, what follows from what LND did meanwhile, and
what the state's RECOVER column lists. What cannot be true still raises, and then nothing is thawed.
"""

import re
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import structlog
from l402core.errors import Conflict, L402Error, Malformed, NotFound
from l402core.escrow import Escrow, Rung
from l402core.events import (
    EscrowLock,
    Event,
    FeeSettled,
    Freeze,
    FreezeView,
    GradientScored,
    OfferMade,
    SponsorshipJudged,
    SponsorshipMint,
    SponsorshipMinted,
    Thaw,
    WorkDead,
)
from l402core.ordered import checked_order
from l402core.outbox import Transaction

from l402_settler import sponsor_steps
from l402_settler.adapters import books, freeze_books, sponsor_books
from l402_settler.adapters.freeze_books import FEE, SUBMISSION, THAW, TRANCHE
from l402_settler.escrows import try_lock
from l402_settler.freezing import freeze, hold, say_how_it_stands
from l402_settler.office import Office
from l402_settler.owed import ask_afresh
from l402_settler.recovery import say_escrow_again
from l402_settler.sponsorships import say_tranche_again
from l402_settler.tracking import Back, go_on

log = structlog.get_logger()
Take = Callable[[Transaction, Any], None]
HELD_EVENTS: tuple[type[Event], ...] = (OfferMade, FeeSettled, GradientScored, SponsorshipMinted, SponsorshipJudged)
"""What a dead letter or a thing that is frozen keeps waiting; each is taken as its consumer would have."""
_ID = re.compile("[0-9a-f]{8,64}", re.ASCII)
BACK = (Rung.RETURNED, Rung.UNSENT)


class Takers(Protocol):
    """The settler's handlers, as far as they take what was held: inside a transaction."""

    def take_offer(self, tx: Transaction, event: OfferMade) -> None: ...

    def take_fee(self, tx: Transaction, event: FeeSettled) -> None: ...

    def take_decision(self, tx: Transaction, event: GradientScored) -> None: ...


class TrancheTakers(Protocol):
    """The same of the sponsors' desk."""

    def take_minted(self, tx: Transaction, event: SponsorshipMinted) -> None: ...

    def take_judged(self, tx: Transaction, event: SponsorshipJudged) -> None: ...


class Thawing:
    """Answers `Freeze` and `Thaw`, and hears of dead letters."""

    def __init__(self, office: Office, settler: Takers, sponsors: TrancheTakers) -> None:
        self._office = office
        self._take: dict[str, Take] = {
            OfferMade.name: settler.take_offer,
            FeeSettled.name: settler.take_fee,
            GradientScored.name: settler.take_decision,
            SponsorshipMinted.name: sponsors.take_minted,
            SponsorshipJudged.name: sponsors.take_judged,
        }

    # --- a person's orders --------------------------------------------------------------------------------------------

    async def freeze(self, order: Freeze) -> FreezeView:
        """Raises Malformed, NotFound, Conflict where it is frozen already."""
        office = self._office

        def work(tx: Transaction) -> FreezeView:
            what, about = _wanted(tx, order)
            if what == FEE or freeze_books.is_frozen(tx, what, about):
                raise Conflict("frozen", f"{about[:16]}… is frozen already")
            freeze(office, tx, what, about, code="operator", reason=order.reason, by=order.by.strip())
            return _view(tx, what, about, held=_held(tx, about))

        return await office.database.transact(work)

    async def thaw(self, order: Thaw) -> FreezeView:
        """Do what was held, once. Raises Malformed, NotFound, Conflict, and Contradiction where it still cannot be true."""
        office = self._office

        def work(tx: Transaction) -> FreezeView:
            what, about = _wanted(tx, order)
            waiting = freeze_books.held_of(tx, about)
            if not freeze_books.is_frozen(tx, what, about) and not waiting:
                raise Conflict("not_frozen", f"{about[:16]}… is not frozen, and nothing is held for it")
            names = tuple(row.event for row in waiting)
            said = f"; dropped: {', '.join(names)}" if order.drop_held and names else ""
            freeze_books.note(
                tx, about=about, what=what, action=THAW, by=order.by.strip(), code="operator", reason=order.reason + said,
                at_ms=office.now_ms(),
            )  # fmt: skip
            if what != FEE:
                freeze_books.mark(tx, what, about, frozen=False)
            if what == SUBMISSION:
                say_how_it_stands(office, tx, about)
            freeze_books.forget_held(tx, about)
            if not order.drop_held:
                self._take_all(tx, waiting)
            mark = f"thaw{len(freeze_books.notes_of(tx, about))}"
            with tx.anew(mark):  # a dead letter's id is still known to the bus
                _go_on(office, tx, what, about)
            log.warning("money.thawed", about=about, by=order.by, reason=order.reason + said, held=names)
            return _view(tx, what, about, held=names)

        view = await office.database.transact(work)
        office.changed(view.about if view.what == SUBMISSION else sponsor_steps.CHANGED)
        return view

    def _take_all(self, tx: Transaction, waiting: list[Any]) -> None:
        kinds = {kind.name: kind for kind in HELD_EVENTS}
        for row in waiting:
            self._take[row.event](tx, msgspec.json.decode(row.body, type=kinds[row.event]))

    # --- dead letters -------------------------------------------------------------------------------------------------

    async def on_dead(self, subject: str, body: bytes, error: Exception) -> None:
        """A message to us about money is given up: hold it where it can be read, and freeze what it is about."""
        kind = next(kind for kind in HELD_EVENTS if subject.startswith(f"{kind.name}."))
        code = error.code if isinstance(error, L402Error) else type(error).__name__
        reason = f"{kind.name} is a dead letter: {error}"
        try:
            event: Event | None = msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError:
            event = None

        def work(tx: Transaction) -> None:
            found = _about(tx, kind.name, subject)
            if found is None:
                log.critical("event.dead_about_nothing", subject=subject, code=code, detail=str(error))
                return
            what, about = found
            if event is not None:
                hold(self._office, tx, about, event, why=str(error))
            if what != FEE:
                freeze(self._office, tx, what, about, code=code, reason=reason)
            else:
                log.critical("fee.held", payment_hash=about, code=code, detail=str(error))

        await self._office.database.transact(work)

    async def on_work_dead(self, event: WorkDead) -> None:
        """The invoicer gave up a request of ours: freeze what it is about; the thaw asks again."""
        office = self._office

        def work(tx: Transaction) -> None:
            kinds = (EscrowLock.name, SponsorshipMint.name)
            name = next((name for name in kinds if event.request.startswith(f"{name}.")), "")
            found = _about(tx, name, event.request) if name else None
            if found is None:
                log.critical("work.dead_about_nothing", subject=event.request, detail=event.reason)
                return
            what, about = found
            freeze(office, tx, what, about, code="work_dead", reason=f"the invoicer gave up {name}: {event.reason}")

        await office.database.transact(work)


def _about(tx: Transaction, name: str, subject: str) -> tuple[str, str] | None:
    """What a message is about, by its subject; None for what the books do not know."""
    key = subject.removeprefix(f"{name}.")
    if name == FeeSettled.name:
        fed = freeze_books.fed_by(tx, key)
        return (SUBMISSION, fed[0]) if fed else (FEE, key)
    if name in (OfferMade.name, GradientScored.name, EscrowLock.name):
        return (SUBMISSION, key) if books.submission(tx, key) is not None else None
    sponsorship, _, index = key.rpartition(".")
    hash_ = freeze_books.tranche_at(tx, sponsorship, int(index)) if index.isdecimal() else None
    return None if hash_ is None else (TRANCHE, hash_)


def _wanted(tx: Transaction, order: Freeze | Thaw) -> tuple[str, str]:
    """The one thing that an order means. Raises Malformed, NotFound."""
    checked_order(order.by, order.reason)
    if not _ID.fullmatch(order.wanted):
        raise Malformed("order", "name it by 8 to 64 lower-case hex digits of a commitment or payment hash")
    found = freeze_books.begins(tx, order.wanted, limit=2)
    if not found:
        raise NotFound("unknown", f"nothing in the books begins with {order.wanted}")
    if len(found) > 1:
        raise Malformed("order", f"{order.wanted} fits several: name more of it")
    return found[0]


def _go_on(office: Office, tx: Transaction, what: str, about: str) -> None:
    """What follows from all that happened while it was frozen."""
    if what == SUBMISSION:
        _go_on_with_escrow(office, tx, about)
    elif what == TRANCHE:
        sponsor_steps.thawed(office, tx, about)
        line = sponsor_books.tranche(tx, about)
        assert line is not None
        row = sponsor_books.sponsorship(tx, line.sponsorship)
        assert row is not None
        say_tranche_again(office, tx, row, line)


def _go_on_with_escrow(office: Office, tx: Transaction, commitment: str) -> None:
    row = books.submission(tx, commitment)
    assert row is not None
    ladder = books.ladder_of(tx, row)
    back = [Back(one.rung, one.attempt, one.failure or str(one.state)) for one in ladder if one.state in BACK]
    if row.state in (Escrow.LOCKING, Escrow.RELOCKING, Escrow.FAILED):
        go_on(office, tx, row, back)
    if row.state == Escrow.DUE:
        ask_afresh(office, tx, commitment)
    try_lock(office, tx, commitment)
    row = books.submission(tx, commitment)
    assert row is not None
    round_ = books.round_row(tx, row.round)
    assert round_ is not None
    say_escrow_again(office, tx, row, round_)


def _held(tx: Transaction, about: str) -> tuple[str, ...]:
    return tuple(row.event for row in freeze_books.held_of(tx, about))


def _view(tx: Transaction, what: str, about: str, *, held: tuple[str, ...]) -> FreezeView:
    row = {SUBMISSION: books.submission, TRANCHE: sponsor_books.tranche}[what](tx, about) if what != FEE else None
    return FreezeView(
        what=what, about=about, state=row.state if row is not None else "", held=held,
        frozen=row is not None and bool(row.frozen),
    )  # fmt: skip
