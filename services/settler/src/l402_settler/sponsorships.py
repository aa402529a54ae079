"""The sponsors' desk: takes pledges, hears what oracle and invoicer say of each tranche, and lets a round wait.

It moves no money: what is due at our node `tending` does.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
import structlog
from l402core import telemetry
from l402core.delivering import MONEY_PATIENCE, Consumer, Dead
from l402core.errors import Contradiction, L402Error, NotFound, Unauthorized
from l402core.events import (
    Question,
    ReadSponsorship,
    SponsorshipAnnounced,
    SponsorshipJudged,
    SponsorshipMinted,
    SponsorshipOpen,
    SponsorshipView,
)
from l402core.outbox import Transaction
from l402core.pledges import Announcement, Pledge, SponsorshipTerms, TrancheReceipt
from l402core.sealing import Unseals
from l402core.signing import Signed, open_signed
from l402core.sponsorship import RECOVER, Again, Tranche, Trigger

from l402_settler import sponsor_steps as steps
from l402_settler.adapters import books, sponsor_books
from l402_settler.freezing import hold
from l402_settler.office import Office
from l402_settler.outside import IN, take_back
from l402_settler.sponsor_views import sponsorship_view
from l402_settler.tending import Node, Tending
from l402_settler.tranches import Queue, may_pledge

log = structlog.get_logger()
Row = sa.Row[Any]
Q = TypeVar("Q", bound=Question)
LOOK_AGAIN_S = 1.0
"""While a round waits for its sponsor."""

CONSUMERS: tuple[Consumer, ...] = (
    Consumer("settler", SponsorshipAnnounced),
    Consumer("settler", SponsorshipMinted, patience=MONEY_PATIENCE),
    Consumer("settler", SponsorshipJudged, patience=MONEY_PATIENCE),
)


class Wire(Protocol):
    """What is needed of the bus."""

    def consume(
        self, consumer: Consumer, handler: Callable[[Any], Awaitable[None]], dead: Dead | None = None
    ) -> None: ...

    def answer(self, question: type[Q], handler: Callable[[Q], Awaitable[msgspec.Struct]]) -> None: ...


async def wait_for_sponsor(office: Office, round_: int) -> None:
    """Give an expected sponsor time to pay for this round, within limits; nobody else is waited for."""
    expected, ends_ms = office.config.expected_sponsors, office.now_ms() + office.config.sponsor_wait_s * 1000
    last = bool(office.config.rounds) and round_ > office.config.rounds
    while expected and not last and (left_ms := ends_ms - office.now_ms()) > 0:
        if not await office.database.read(lambda tx: _is_awaited(tx, expected, round_)):
            return
        await office.wait_for_change(steps.CHANGED, min(left_ms / 1000, LOOK_AGAIN_S))


def _is_awaited(tx: Transaction, expected: tuple[str, ...], round_: int) -> bool:
    """Whether an expected sponsor may still lock a tranche for this round, and none is locked yet."""
    if books.round_row(tx, round_) is not None or sponsor_books.locked_tranches(tx):
        return False
    open_ = {row.sponsor: row for row in sponsor_books.unended(tx)}
    for sponsor in expected:
        if sponsor not in open_:
            if not sponsor_books.has_ended(tx, sponsor):
                return True
            continue
        lines = sponsor_books.tranches_of(tx, open_[sponsor].sponsorship)
        if any(one.frozen for one in lines):
            continue  # a person is waited for, and a round does not wait for that
        if not lines or any(one.state in (Tranche.ANNOUNCED, Tranche.MINTING, Tranche.MINTED) for one in lines):
            return True
    return False


class Sponsors:
    """Handlers, and the loop that acts on what they wrote down."""

    def __init__(self, office: Office, node: Node, key: Unseals) -> None:
        self._office = office
        self._key = key
        self.tending = Tending(office, node, key)

    def register(self, bus: Wire, dead: Dead) -> None:
        """Connect handlers to the bus; what `dead` hears of is about money. Call before it starts."""
        announced, minted, judged = CONSUMERS
        bus.consume(announced, self.on_announced)
        bus.consume(minted, self.on_minted, dead)
        bus.consume(judged, self.on_judged, dead)
        bus.answer(SponsorshipOpen, self.open)
        bus.answer(ReadSponsorship, self.read)

    # --- questions ----------------------------------------------------------------------------------------------------

    async def open(self, question: SponsorshipOpen) -> SponsorshipView:
        """Take a pledge, and ask the oracle for its hashes. Raises Unauthorized, Malformed, TooLarge, Exhausted."""
        office = self._office
        pledge = open_signed(question.pledge, Pledge.tag, Pledge, signer=question.sponsor)
        if pledge.sponsor != question.sponsor:
            raise Unauthorized("pledge_foreign", "the pledge names another sponsor than who sent it")
        id_ = pledge.sponsorship()

        def work(tx: Transaction) -> L402Error | None:
            if sponsor_books.sponsorship(tx, id_) is not None:
                return None
            open_ = sponsor_books.unended(tx)
            queue = Queue(
                open=sum(row.sponsor not in office.config.expected_sponsors for row in open_),
                open_of_this_sponsor=sum(row.sponsor == pledge.sponsor for row in open_),
            )
            refusal = may_pledge(pledge, office.config, queue)
            if refusal is None:
                self._add(tx, id_, pledge, question.pledge)
            return refusal

        refusal = await office.database.transact(work)
        if refusal is not None:
            raise refusal
        return await self.read(ReadSponsorship(sponsorship=id_))

    def _add(self, tx: Transaction, id_: str, pledge: Pledge, signed: Signed) -> None:
        office = self._office
        terms = SponsorshipTerms(
            sponsorship=id_, pledge=signed.digest(), sponsor=pledge.sponsor, amount_msat=pledge.amount_msat,
            tranches=pledge.tranches, margin=pledge.margin, seal_to=self._key.public,
        )  # fmt: skip
        sponsor_books.add_sponsorship(
            tx, sponsorship=id_, sponsor=pledge.sponsor, state="asked", pledge=books.to_json(signed),
            terms=books.to_json(office.keys.newest.sign(SponsorshipTerms.tag, terms)), traceparent=telemetry.traceparent(),
            opened_at_ms=office.now_ms(),
        )  # fmt: skip
        row = sponsor_books.sponsorship(tx, id_)
        assert row is not None
        steps.say_announce(office, tx, row)
        log.info("sponsorship.opened", sponsorship=id_, amount_msat=pledge.amount_msat, tranches=pledge.tranches)

    async def read(self, question: ReadSponsorship) -> SponsorshipView:
        """One sponsorship. Raises NotFound."""

        def work(tx: Transaction) -> SponsorshipView:
            row = sponsor_books.sponsorship(tx, question.sponsorship)
            if row is None:
                raise NotFound("sponsorship_unknown", "no such sponsorship was opened")
            return sponsorship_view(row, sponsor_books.tranches_of(tx, question.sponsorship))

        return await self._office.database.read(work)

    # --- facts --------------------------------------------------------------------------------------------------------

    async def on_announced(self, event: SponsorshipAnnounced) -> None:
        """The oracle's hashes: the first tranche may be minted. Raises Unauthorized, Contradiction."""
        office = self._office
        signer = office.attestor.check(event.announcement.signer)
        made = open_signed(event.announcement, Announcement.tag, Announcement, signer=signer)

        def work(tx: Transaction) -> None:
            row = sponsor_books.sponsorship(tx, event.sponsorship)
            if row is None:
                raise Contradiction(
                    "announced_unknown", f"hashes for {event.sponsorship[:16]}…, which was never opened"
                )
            terms = msgspec.json.decode(msgspec.json.decode(row.terms, type=Signed).body, type=SponsorshipTerms)
            _check_announcement(made, terms)
            text = books.to_json(event.announcement)
            if not sponsor_books.move_sponsorship(tx, row.sponsorship, "asked", "announced", announcement=text):
                return
            for index, payment_hash in enumerate(made.hashes):
                sponsor_books.add_tranche(
                    tx, payment_hash=payment_hash, sponsorship=row.sponsorship, tranche=index,
                    amount_msat=terms.amount_msat, margin=terms.margin, state=Tranche.ANNOUNCED,
                )  # fmt: skip
            take_back(tx, made.hashes, IN, now_ms=office.now_ms())
            steps.mint_next(office, tx, row.sponsorship)

        await office.database.transact(work)
        self.tending.poke()

    async def on_minted(self, event: SponsorshipMinted) -> None:
        """The hold invoice is there: the sponsor may pay. Raises Contradiction."""
        await self._office.database.transact(lambda tx: self.take_minted(tx, event))
        self.tending.poke()

    def take_minted(self, tx: Transaction, event: SponsorshipMinted) -> None:
        """Join it, or hold it for what is frozen. Raises Contradiction."""
        line = sponsor_books.tranche(tx, event.payment_hash)
        if line is None or (line.sponsorship, line.tranche) != (event.sponsorship, event.tranche):
            raise Contradiction("minted_unknown", f"an invoice on {event.payment_hash[:16]}…, which was never asked")
        if line.frozen:
            hold(self._office, tx, line.payment_hash, event)
        elif steps.step(tx, line, Trigger.MINTED, bolt11=event.bolt11):
            log.info("tranche.minted", sponsorship=line.sponsorship, tranche=line.tranche)

    async def on_judged(self, event: SponsorshipJudged) -> None:
        """The oracle's one decision: settle what was earned, give back the rest. Raises Unauthorized, Contradiction."""
        await self._office.database.transact(lambda tx: self.take_judged(tx, event))
        self.tending.poke()

    def take_judged(self, tx: Transaction, event: SponsorshipJudged) -> None:
        """Join it, or hold it for what is frozen. Raises Unauthorized, Contradiction."""
        signer = self._office.attestor.check(event.receipt.signer)
        receipt = open_signed(event.receipt, TrancheReceipt.tag, TrancheReceipt, signer=signer)
        if (receipt.sponsorship, receipt.tranche, receipt.round, receipt.payment_hash, receipt.earned) != (
            event.sponsorship, event.tranche, event.round, event.payment_hash, event.earned,
        ):  # fmt: skip
            raise Contradiction("judged_unsigned", f"the decision on {event.payment_hash[:16]}… is not its receipt's")
        if event.sealed_preimage:
            self.tending.unseal(event.sealed_preimage, event.payment_hash)
        line = sponsor_books.tranche(tx, event.payment_hash)
        if line is None or (line.sponsorship, line.tranche, line.round) != (
            event.sponsorship, event.tranche, event.round,
        ):  # fmt: skip
            raise Contradiction(
                "judged_unknown", f"a decision on {event.payment_hash[:16]}…, which funds no such round"
            )
        if line.frozen:
            return hold(self._office, tx, line.payment_hash, event)
        if line.receipt is not None:
            if msgspec.json.decode(line.receipt, type=Signed).body == event.receipt.body:
                return None
            # The first decision stands, and is acted on already or will be.
            raise Contradiction("judged_twice", f"the oracle judged {event.payment_hash[:16]}… twice, differently")
        sponsor_books.note_tranche(tx, line.payment_hash, receipt=books.to_json(event.receipt))
        if not receipt.earned or not event.sealed_preimage:
            unrevealed = "earned, but so near its expiry that the oracle does not reveal it"
            steps.give_back(self._office, tx, line.payment_hash, unrevealed if receipt.earned else receipt.reason)
        elif steps.step(tx, line, Trigger.EARNED, sealed_preimage=event.sealed_preimage, reason=receipt.reason):
            log.info("tranche.earned", sponsorship=line.sponsorship, tranche=line.tranche, round=event.round)
        else:
            log.critical("tranche.judged_late", payment_hash=line.payment_hash, state=line.state)
        return None

    # --- acting and restart -------------------------------------------------------------------------------------------

    async def tend_forever(self) -> None:
        """Settle and cancel at our node what is due, for ever."""
        await self.tending.forever()

    async def recover(self) -> None:
        """Say again what a lost process or stream may have left unsaid: the table's RECOVER column.

        What it lists besides (listen, settle, cancel) the first look does, as every look does.
        """
        office = self._office

        def work(tx: Transaction) -> int:
            rows = sponsor_books.unended(tx)
            for row in rows:
                if row.state == "asked":
                    steps.say_announce(office, tx, row)
                for line in sponsor_books.tranches_of(tx, row.sponsorship):
                    if not line.frozen:
                        say_tranche_again(office, tx, row, line)
            return len(rows)

        log.info("sponsors.recovered", open_sponsorships=await office.database.transact(work))


def say_tranche_again(office: Office, tx: Transaction, row: Row, line: Row) -> None:
    """What the table's RECOVER column lists to be said."""
    for again in RECOVER[Tranche(line.state)]:
        if again in AGAIN:
            AGAIN[again](office, tx, row, line)


def _ask_mint(office: Office, tx: Transaction, row: Row, line: Row) -> None:
    steps.say_mint(office, tx, row, line)


def _tell_locked(office: Office, tx: Transaction, _row: Row, line: Row) -> None:
    steps.say_locked(office, tx, line, msgspec.json.decode(line.locked, type=Signed))


AGAIN: dict[Again, Callable[[Office, Transaction, Row, Row], None]] = {
    Again.ASK_MINT: _ask_mint,
    Again.TELL_LOCKED: _tell_locked,
}
"""How the entries of the table's RECOVER column that are said are done."""


def _check_announcement(made: Announcement, terms: SponsorshipTerms) -> None:
    """The oracle promises what was asked, no more and no less. Raises Contradiction."""
    if (made.sponsorship, made.pledge, made.sponsor, made.amount_msat, made.tranches, made.margin, made.seal_to) != (
        terms.sponsorship, terms.pledge, terms.sponsor, terms.amount_msat, terms.tranches, terms.margin, terms.seal_to,
    ):  # fmt: skip
        raise Contradiction("announced_other", "the oracle's announcement is not what was asked")
    if len(set(made.hashes)) != terms.tranches or len(made.hashes) != terms.tranches:
        raise Contradiction("announced_hashes", f"{len(made.hashes)} hashes for {terms.tranches} tranches")
