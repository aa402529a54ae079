"""The settler's story: it opens and closes rounds, answers the gateway, joins what both ends saw, and keeps the books.

It ends obligations and begins none: its calls on LND are reads, and it moves no money. Sponsors' invoices, of which we are
the payee, are ended in `tending`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
import structlog
from l402core import telemetry
from l402core.delivering import MONEY_PATIENCE, Consumer, Dead
from l402core.documents import Offer, Receipt, Terms
from l402core.errors import Contradiction, L402Error, NotFound, Unavailable
from l402core.escrow import Escrow, Trigger
from l402core.events import (
    CheckpointPublished,
    ClaimCredit,
    EscrowDispatched,
    EscrowRefused,
    Event,
    FeeSettled,
    GatewayAwake,
    GradientScored,
    OfferMade,
    Question,
    ReadRound,
    ReadStanding,
    ReadStops,
    ReadSubmission,
    RegisterAccepted,
    RegisterLocks,
    RegisterUpload,
    RewardRevealed,
    StopsView,
    SubmissionOpen,
    WorkDead,
)
from l402core.lnd.port import PaymentView
from l402core.outbox import Transaction
from l402core.signing import open_signed

from l402_settler import sponsor_steps, sponsorships
from l402_settler.adapters import books, inbox
from l402_settler.awake import Awake
from l402_settler.decisions import record_decision
from l402_settler.desk import Desk
from l402_settler.escrows import ask_cancel, move_escrow
from l402_settler.fees import book_fee
from l402_settler.freezing import hold, read_stops, say_how_it_stands
from l402_settler.office import Office
from l402_settler.owed import offered_rungs
from l402_settler.recovery import (
    say_escrow_again,
    say_round_again,
    say_round_opened,
)
from l402_settler.rounds import (
    COMMIT,
    DONE,
    JUDGE,
    locks_until_ms,
    make_terms,
)
from l402_settler.sponsorships import wait_for_sponsor
from l402_settler.tracking import end_escrow_if_over, record_sight
from l402_settler.turning import is_due, turn
from l402_settler.views import terms_of

log = structlog.get_logger()
T = TypeVar("T")
Q = TypeVar("Q", bound=Question)
Row = sa.Row[Any]
TICK_S = 0.2
PATIENCE_S, PATIENT_LOOKS = 0.1, 10
"""So long, and so often, a hint waits for the node's stream, before the node is asked."""
OFFERS, FEES, DECISIONS = "settler offers", "settler fees", "settler decisions"
"""Consumers with an inbox: these facts move money or fix what may be moved, and are taken once, in the transaction that
acts on them. The others are taken as often as they come: a checkpoint opens the round that is not there yet, and
`escrow.dispatched` and `escrow.refused` only make us look."""

CONSUMERS: tuple[Consumer, ...] = (
    Consumer("settler", CheckpointPublished),
    Consumer("settler", OfferMade, workers=16, patience=MONEY_PATIENCE),
    Consumer("settler", FeeSettled, workers=16, patience=MONEY_PATIENCE),
    Consumer("settler", EscrowDispatched, workers=16),
    Consumer("settler", EscrowRefused),
    Consumer("settler", GradientScored, workers=16, patience=MONEY_PATIENCE),
    Consumer("settler", WorkDead, patience=MONEY_PATIENCE),
    *sponsorships.CONSUMERS,
)


class Wire(Protocol):
    """What is needed of the bus: facts are heard, questions answered."""

    def consume(
        self, consumer: Consumer, handler: Callable[[Any], Awaitable[None]], dead: Dead | None = None
    ) -> None: ...

    def answer(self, question: type[Q], handler: Callable[[Q], Awaitable[msgspec.Struct]]) -> None: ...


class Node(Protocol):
    """What the handlers need of our node; the loops in `watch` need more reads."""

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None: ...


class Settler:
    """One settler process: its handlers, and the clock of its rounds."""

    def __init__(self, office: Office, bus: Wire, node: Node) -> None:
        self._office = office
        self._bus = bus
        self._node = node
        self.awake = Awake(office)
        self.desk = Desk(office)

    def register(self, dead: Dead, on_work_dead: Callable[[WorkDead], Awaitable[None]]) -> None:
        """Connect handlers to the bus; what `dead` hears of is about money. Call before it starts."""
        handlers: dict[type[Event], Callable[[Any], Awaitable[None]]] = {
            CheckpointPublished: self.on_checkpoint,
            OfferMade: self.on_offer,
            FeeSettled: self.on_fee,
            EscrowDispatched: self.on_dispatched,
            EscrowRefused: self.on_refused,
            GradientScored: self.on_scored,
            WorkDead: on_work_dead,
        }
        for consumer in CONSUMERS:
            if consumer.event in handlers:
                about_money = consumer.event in (OfferMade, FeeSettled, GradientScored)
                self._bus.consume(consumer, handlers[consumer.event], dead if about_money else None)
        self._bus.answer(SubmissionOpen, self.desk.open)
        self._bus.answer(RegisterLocks, self.desk.register_locks)
        self._bus.answer(RegisterAccepted, self.desk.register_accepted)
        self._bus.answer(RegisterUpload, self.desk.register_upload)
        self._bus.answer(ReadRound, self.desk.read_round)
        self._bus.answer(ReadSubmission, self.desk.read_submission)
        self._bus.answer(ReadStanding, self.desk.read_standing)
        self._bus.answer(ClaimCredit, self.desk.claim_credit)
        self._bus.answer(GatewayAwake, self.awake.on_gateway)
        self._bus.answer(ReadStops, self.read_stops)

    # --- rounds -------------------------------------------------------------------------------------------------------

    async def on_checkpoint(self, event: CheckpointPublished) -> None:
        """A checkpoint is the base of a round: the one before is done, this one opens under signed terms."""
        office = self._office
        if office.sight.height == 0:
            raise Unavailable("node", "our node's height is not known yet, and the terms name one")
        if event.round > 1:
            await office.database.transact(lambda tx: books.move_round(tx, event.round - 1, JUDGE, DONE))
        await wait_for_sponsor(office, event.round)

        def work(tx: Transaction) -> None:
            last = office.config.rounds and event.round > office.config.rounds
            if last or books.round_row(tx, event.round) is not None:
                return
            tranche = sponsor_steps.bind(office, tx, event.round)
            terms = make_terms(
                office.config, office.identity(), round_=event.round, checkpoint=event.checkpoint,
                model_id=event.model_id, seed_commitment=event.seed_commitment,
                reference_previous=event.reference_previous, now_ms=office.now_ms(), height=office.sight.height,
                yardstick=event.yardstick, tranche=tranche,
            )  # fmt: skip
            signed = office.keys.named(terms.settler).sign(Terms.tag, terms)
            inbox.forget_taken(tx, now_ms=office.now_ms())
            books.add_round(
                tx, round=event.round, phase=COMMIT, terms=books.to_json(signed), traceparent=telemetry.traceparent()
            )
            say_round_opened(office, tx, event.round, signed)
            sponsor_steps.opened(office, tx, tranche)
            log.info("round.opened", round=event.round, sponsored=tranche is not None)

        await office.database.transact(work)

    async def turn_rounds(self) -> None:
        """Close phases when their time has come or everybody is through; fail what missed its deadline."""
        while True:
            try:
                await self.awake.mark()
                if await self._office.database.read(self._is_due):
                    await self._office.database.transact(self._turn)
            except L402Error as error:
                log.exception("rounds.stand_still", code=error.code, fault=error.fault)
            await asyncio.sleep(TICK_S)

    def _is_due(self, tx: Transaction) -> bool:
        return is_due(self._office, tx)

    def _turn(self, tx: Transaction) -> None:
        turn(self._office, tx)

    # --- submissions --------------------------------------------------------------------------------------------------

    async def on_offer(self, event: OfferMade) -> None:
        """The oracle's signed offer: the peer may make its invoices."""
        await self._office.database.transact(lambda tx: self.take_offer(tx, event), about=event.commitment)
        self._office.changed(event.commitment)

    def take_offer(self, tx: Transaction, event: OfferMade) -> None:
        """Join it, or hold it for what is frozen. Raises Unauthorized, Contradiction."""
        office = self._office
        offer = open_signed(event.offer, Offer.tag, Offer, signer=office.attestor.check(event.offer.signer))
        row = books.submission(tx, event.commitment)
        if row is None:
            raise Contradiction("offer_unknown", f"an offer for {event.commitment[:16]}…, which was never opened")
        if row.frozen:
            return hold(office, tx, row.commitment, event)
        if not inbox.is_first(tx, OFFERS, event, now_ms=office.now_ms()) or offer.attempt < row.attempt:
            return None  # told again: it was taken, or another offer has followed
        terms = terms_of(_known(books.round_row(tx, row.round)))
        if (offer.commitment, offer.peer, offer.terms, offer.attempt, offer.amounts_msat) != (
            row.commitment, row.peer, terms.digest(), row.attempt, tuple(offered_rungs(row, terms).values()),
        ):  # fmt: skip
            raise Contradiction("offer_wrong", "the oracle's offer is not what the terms and its decision say")
        if row.state == Escrow.OPENED and office.now_ms() >= locks_until_ms(terms):
            log.warning("offer.late", commitment=row.commitment)  # it fails as unoffered, which is our fault
        elif move_escrow(
            tx, row.commitment, Escrow(row.state), Trigger.OFFER_MADE, offer=books.to_json(event.offer),
            due_by_ms=offer.lock_by_ms,
        ):  # fmt: skip
            log.info("escrow.offered", commitment=row.commitment)
        return None

    async def on_fee(self, event: FeeSettled) -> None:
        """A fee arrived at our node, whether or not it is ever presented."""
        await self._office.database.transact(lambda tx: self.take_fee(tx, event))

    def take_fee(self, tx: Transaction, event: FeeSettled) -> None:
        """Book it, whatever is frozen: it is evidence, and moves nothing of ours."""
        now_ms = self._office.now_ms()
        if inbox.is_first(tx, FEES, event, now_ms=now_ms):
            book_fee(tx, event.payment_hash, event.amount_msat, event.settle_index, now_ms=now_ms)

    async def on_dispatched(self, event: EscrowDispatched) -> None:
        """A hint that a ladder is on its way: look for each rung of which our node's stream does not tell by itself.

        The hint often overtakes the stream, and a look costs both of us more than a moment's patience.
        """
        unheard = await self._unheard([rung.payment_hash for rung in event.rungs])
        seen = [await self._node.lookup_payment(bytes.fromhex(payment_hash)) for payment_hash in unheard]
        await record_sight(self._office, *(view for view in seen if view is not None))

    async def _unheard(self, payment_hashes: list[str]) -> list[str]:
        """Those of which our node has not told, once it had the time to."""
        was_told = self._office.joined.was_told
        for _ in range(PATIENT_LOOKS):
            if all(map(was_told, payment_hashes)):
                break
            await asyncio.sleep(PATIENCE_S)
        return [payment_hash for payment_hash in payment_hashes if not was_told(payment_hash)]

    async def on_refused(self, event: EscrowRefused) -> None:
        """A hint that a ladder was not sent. Proof is LND's alone; people read the reason meanwhile."""
        log.warning("escrow.refused", commitment=event.commitment, reason=event.reason)

    async def on_scored(self, event: GradientScored) -> None:
        """The one decision: book what is owed, let the peer have its sealed preimages, ask for the rest back."""
        await self._office.database.transact(lambda tx: self.take_decision(tx, event), about=event.commitment)
        self._office.changed(event.commitment)

    def take_decision(self, tx: Transaction, event: GradientScored) -> None:
        """Join it, or hold it for what is frozen. Raises Unauthorized, Contradiction."""
        office = self._office
        receipt = open_signed(event.receipt, Receipt.tag, Receipt, signer=office.attestor.check(event.receipt.signer))
        if _said(event) != _said(receipt):
            raise Contradiction("decision_unsigned", f"the decision on {event.commitment[:16]}… is not its receipt's")
        row = books.submission(tx, event.commitment)
        if row is not None and row.frozen:
            return hold(office, tx, event.commitment, event)
        first = inbox.is_first(tx, DECISIONS, event, now_ms=office.now_ms())
        if not first or not record_decision(office, tx, event):
            return None
        if not event.withheld:
            id_, at = office.stamp()
            tx.say(
                RewardRevealed(
                    id=id_, occurred_at_ms=at, round=event.round, commitment=event.commitment, mask=event.mask,
                    amount_msat=event.reward_msat,
                )
            )  # fmt: skip
        ask_cancel(office, tx, event.commitment)
        end_escrow_if_over(office, tx, event.commitment)
        log.info("gradient.decided", commitment=event.commitment, verdict=event.verdict, reward_msat=event.reward_msat)
        return None

    async def read_stops(self, question: ReadStops) -> StopsView:
        """What an invoicer may have missed."""
        return await read_stops(self._office, question)

    # --- restart ------------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Say again what a lost process or stream may have left unsaid: the escrow table's RECOVER column."""
        office = self._office

        def work(tx: Transaction) -> int:
            for round_ in books.live_rounds(tx):
                say_round_again(office, tx, round_)
            unended = books.unended(tx)
            for row in unended:
                say_how_it_stands(office, tx, row.commitment)
            rows = [row for row in unended if not row.frozen]
            for row in rows:
                round_ = _known(books.round_row(tx, row.round))
                with telemetry.span("recover", parent=row.traceparent):
                    say_escrow_again(office, tx, row, round_)
            return len(rows)

        log.info("settler.recovered", open_escrows=await office.database.transact(work))


def _said(decision: GradientScored | Receipt) -> tuple[object, ...]:
    """What a decision and its receipt must agree on."""
    return (
        decision.commitment, decision.round, decision.peer, decision.mask, decision.reward_msat, decision.verdict,
    )  # fmt: skip


def _known(row: T | None) -> T:
    if row is None:
        raise NotFound("row_missing", "the books miss a row that another one names")
    return row
