"""The attestor's story: offers, what is heard of a round, and the chain of checkpoints. Judging lies in `judging`.

It signs, remembers and reveals; it touches no tensor, no payload and no money.
"""

import structlog
from l402core import telemetry
from l402core.delivering import MONEY_PATIENCE, Consumer
from l402core.documents import Locked, ObjectRef, Offer, RoundRoot, Terms
from l402core.errors import Contradiction
from l402core.events import (
    CheckpointMeasured,
    CheckpointPublished,
    CommitsClosed,
    EndRound,
    EscrowLocked,
    GradientMeasured,
    GradientScreened,
    GradientUploaded,
    OfferMade,
    OfferMake,
    Pardon,
    Pardoned,
    RoundAggregate,
    RoundAggregated,
    RoundClosed,
    RoundEnded,
    RoundOpened,
    SaidAgain,
    SayAgain,
    SponsorshipAnnounce,
    SponsorshipLocked,
    YardstickMade,
)
from l402core.outbox import Transaction
from l402core.signing import Signed, open_signed

from l402_oracle.adapters import decisions as books
from l402_oracle.attestor.delivery import Delivery
from l402_oracle.attestor.ending import end_round
from l402_oracle.attestor.judgement import check_terms
from l402_oracle.attestor.judging import Judging
from l402_oracle.attestor.offers import first_offer, owed_offer, with_hashes
from l402_oracle.attestor.parts import Parts
from l402_oracle.attestor.quarantine import gets_no_offer, note, pardon
from l402_oracle.attestor.sponsoring import Sponsoring
from l402_oracle.attestor.waiting import LOCKED
from l402_oracle.attestor.yardsticks import yardstick_request
from l402_oracle.derive import seed_commitment

log = structlog.get_logger()
FIRST = 0
"""Round 0 makes the first checkpoint and takes no submission."""


class Attestor:
    """One per network. Every handler is idempotent, and they may come in any order."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._db = parts.database
        self.delivery = Delivery(parts)
        self.sponsoring = Sponsoring(parts)
        self.judging = Judging(parts, self.delivery, self.sponsoring)

    async def begin(self, incarnation: str = "") -> None:
        """Ask for the first checkpoint, or say again what a crash or an empty bus may have lost.

        The bus tells what is asked from the same before this incarnation of the facts' stream.
        """
        self._db.ask_since(incarnation)
        request = RoundAggregate(
            id=self._parts.new_id(), occurred_at_ms=self._parts.now_ms(), round=FIRST, checkpoint=None, model_id="",
            items=(), clip_norms=(), outer_rate_ppm=0, init_seed=self._parts.init_seed,
        )  # fmt: skip

        def first(tx: Transaction) -> bool:
            if books.has_rounds(tx):
                return False
            books.add_round(tx, FIRST, state="decided", aggregate=request)
            tx.say(request)
            return True

        if await self._db.transact(first):
            log.info("genesis.requested", init_seed=self._parts.init_seed)
        else:
            await self.judging.resume()

    async def offer_make(self, event: OfferMake) -> None:
        """Sign one offer per submission and attempt. Raises Unauthorized, Contradiction."""
        terms = self._terms(event.terms, event.round)
        parent = telemetry.traceparent()

        def remember(tx: Transaction) -> bool:
            row = self._adopt_terms(tx, event.round, event.terms)
            known = books.read_offer(tx, event.commitment, event.attempt)
            if known is None:
                self._check_still_open(row, event)
                if gets_no_offer(tx, event):
                    return False
                core = first_offer(event, terms, self._parts.key_id)
                if event.attempt > 1:
                    owed = owed_offer(self._parts, tx, event, terms)
                    if owed is None:
                        return False
                    core = owed
                offer = with_hashes(core, self._parts)
                known = self._parts.keys.signing.named(terms.attestor).sign(Offer.tag, offer)
                books.add_offer(tx, offer, known, parent)
            elif _asked(event) != _offered(open_signed(known, Offer.tag, Offer, signer=known.signer)):
                raise Contradiction("offer_differs", f"another offer was asked for {event.commitment[:16]}… before")
            tx.say(
                OfferMade(
                    id=self._parts.new_id(), occurred_at_ms=self._parts.now_ms(), revision=event.attempt,
                    round=event.round, commitment=event.commitment, offer=known,
                )
            )  # fmt: skip
            return True

        made = await self._db.transact(remember)
        self.judging.shaken(event.round)
        if not made:
            await self.delivery.deliver()
            return
        log.info("offer.made", commitment=event.commitment, round=event.round, seq=event.seq, attempt=event.attempt)

    async def round_opened(self, event: RoundOpened) -> None:
        """Keep the round's terms, the first seen. Raises Unauthorized, Contradiction."""
        self._terms(event.terms, event.round)
        await self._db.transact(lambda tx: self._adopt_terms(tx, event.round, event.terms))
        log.info("terms.adopted", round=event.round, terms=event.terms.digest())

    async def commits_closed(self, event: CommitsClosed) -> None:
        """Keep the root under which uploads begin: the round's closing must repeat it."""
        self._root(event.root, event.round)

        def remember(tx: Transaction) -> None:
            row = self._known_round(tx, event.round)
            if row.commits is None:
                books.change_round(tx, event.round, expected=row.state, commits=event.root)

        await self._db.transact(remember)
        await self.judging.advance(event.round)

    async def gradient_uploaded(self, event: GradientUploaded) -> None:
        """Remember where the payload lies."""
        await self._hear(books.UPLOADED, event)

    async def gradient_screened(self, event: GradientScreened) -> None:
        """Remember the first screening. Raises Unavailable while its content key is sealed to a key that we lack."""
        self._parts.content_key(event.sealed_key)
        await self._hear(books.SCREENED, event)

    async def gradient_measured(self, event: GradientMeasured) -> None:
        """Remember the first measurement."""
        await self._hear(books.MEASURED, event)

    async def escrow_locked(self, event: EscrowLocked) -> None:
        """Remember the settler's signed word, once it matches an offer. Raises Unauthorized, Contradiction."""
        locked = open_signed(event.locked, Locked.tag, Locked, signer=self._parts.settler.check(event.locked.signer))
        if (locked.commitment, locked.round) != (event.commitment, event.round):
            raise Contradiction(
                "locked_other", f"signed for {locked.commitment[:16]}…, sent for {event.commitment[:16]}…"
            )

        def remember(tx: Transaction) -> int:
            offers = books.offers_of(tx, event.commitment)
            mine = [o for o in offers if o.reward_hashes == locked.payment_hashes and o.peer == locked.peer]
            if not mine:
                raise Contradiction("locked_unknown", f"no offer for {event.commitment[:16]}… has these reward hashes")
            books.keep_lock(tx, event.commitment, mine[0].attempt, event.locked)
            if mine[0].attempt > 1:  # decided long ago, and whoever says this has not heard that it is revealed
                books.say_again(tx, event.commitment)
            return mine[0].attempt

        if await self._db.transact(remember) > 1:
            await self.delivery.deliver()
        else:
            await self.judging.heard(event.round, LOCKED, event.commitment)

    async def round_closed(self, event: RoundClosed) -> None:
        """Judgement may begin. Raises Unauthorized, Contradiction (and the round is frozen, unless it is decided)."""
        root = self._root(event.root, event.round)
        now_ms = self._parts.now_ms()

        def remember(tx: Transaction) -> str:
            row = self._known_round(tx, event.round)
            known = row.closed
            if known is not None:
                same = (known.root.body, known.uploaded) == (event.root.body, event.uploaded)
                return "" if same else "the settler closed it twice, differently"
            books.change_round(tx, event.round, expected=row.state, closed=event, closed_at_ms=now_ms)
            return "" if set(event.uploaded) <= set(root.commitments) else "an upload is not in its root"

        if trouble := await self._db.transact(remember):
            await self.judging.freeze(event.round, trouble)
        await self.judging.advance(event.round)

    async def round_aggregated(self, event: RoundAggregated) -> None:
        """Publish the next checkpoint, and bind ourselves to its seed."""
        number = event.round + 1
        seed = self._parts.seed(number, event.checkpoint.sha256)

        def remember(tx: Transaction) -> bool:
            row = self._known_round(tx, event.round)
            if not books.change_round(tx, event.round, expected="decided", state="done"):
                return False
            before = row.announced
            published = CheckpointPublished(
                id=self._parts.new_id(), occurred_at_ms=self._parts.now_ms(), round=number, checkpoint=event.checkpoint,
                parent=before.checkpoint.sha256 if before else "", model_id=event.model_id,
                seed_commitment=seed_commitment(seed), reference_previous=row.reference, yardstick=self._parts.yardstick,
                held_out_before=event.held_out_before, held_out_after=event.held_out_after,
                accepted=_accepted(row),
            )  # fmt: skip
            books.add_round(tx, number, state="announced", announced=published)
            tx.say(published)
            return True

        if await self._db.transact(remember):
            log.info("checkpoint.published", round=number, checkpoint=event.checkpoint.sha256)

    async def yardstick_made(self, event: YardstickMade) -> None:
        """Keep the first, while the round is not assessed yet: it is what the others are clipped to. Raises Unavailable."""
        for sealed in (event.sealed_key, event.sealed_state_key):
            self._parts.content_key(sealed)

        def remember(tx: Transaction) -> None:
            row = self._known_round(tx, event.round)
            if row.yardstick is None:
                books.change_round(tx, event.round, expected="announced", yardstick=event)

        await self._db.transact(remember)
        log.info("yardstick.heard", round=event.round, failure=event.failure)
        await self.judging.advance(event.round)

    async def say_again(self, _question: SayAgain) -> SaidAgain:
        """An operator's order, after a dead letter."""
        said = await self.judging.ask_again(f"again{self._parts.now_ms()}")
        log.warning("requests.said_again", subjects=said)
        return SaidAgain(said=said)

    async def end_round(self, order: EndRound) -> RoundEnded:
        """An operator's order about a frozen round: without it no further one would open."""
        ended = await end_round(self._parts, order)
        await self.sponsoring.advance()
        return ended

    async def pardon(self, order: Pardon) -> Pardoned:
        """An operator's order about a peer that is held back."""
        return await pardon(self._parts, order)

    async def given_up(self, subject: str, body: bytes, why: Exception) -> None:
        """A word that will not come again: a dead letter, and somebody is woken. What was decided stands without it."""
        log.critical("word.given_up", subject=subject, size=len(body), error=type(why).__name__, detail=str(why))

    # --- sponsors ---------------------------------------------------------------------------------------------------

    async def sponsorship_announce(self, event: SponsorshipAnnounce) -> None:
        """Name one hash per tranche."""
        await self.sponsoring.sponsorship_announce(event)

    async def sponsorship_locked(self, event: SponsorshipLocked) -> None:
        """A sponsor's money waits."""
        await self.sponsoring.sponsorship_locked(event)

    async def checkpoint_measured(self, event: CheckpointMeasured) -> None:
        """A new checkpoint was measured against its parent."""
        await self.sponsoring.checkpoint_measured(event)

    # --- below: what the handlers share -----------------------------------------------------------------------------

    async def _hear(self, kind: str, event: GradientUploaded | GradientScreened | GradientMeasured) -> None:
        parent = telemetry.traceparent()

        def remember(tx: Transaction) -> None:
            books.hear(tx, kind, event, parent)
            if not isinstance(event, GradientUploaded):
                note(tx, event)

        await self._db.transact(remember)
        log.info(f"{kind}.heard", commitment=event.commitment, round=event.round)
        await self.judging.heard(event.round, kind, event.commitment)

    def _terms(self, signed: Signed, number: int) -> Terms:
        terms = open_signed(signed, Terms.tag, Terms, signer=self._parts.settler.check(signed.signer))
        if terms.round != number or not self._parts.keys.signing.holds(terms.attestor):
            raise Contradiction("terms_other", f"terms for round {terms.round} and another oracle, sent for {number}")
        check_terms(terms)
        return terms

    def _root(self, signed: Signed, number: int) -> RoundRoot:
        root = open_signed(signed, RoundRoot.tag, RoundRoot, signer=self._parts.settler.check(signed.signer))
        if root.round != number:
            raise Contradiction("root_other", f"a root of round {root.round}, sent for {number}")
        return root

    def _known_round(self, tx: Transaction, number: int) -> books.Round:
        row = books.read_round(tx, number)
        if row is None:
            raise Contradiction("round_unknown", f"round {number} was never announced")
        return row

    def _adopt_terms(self, tx: Transaction, number: int, signed: Signed) -> books.Round:
        """The first terms seen are the round's; they must be for the checkpoint and seed that were announced."""
        row = self._known_round(tx, number)
        if row.terms is not None:
            if row.terms.body != signed.body:
                raise Contradiction("terms_twice", f"round {number} has other terms already")
            return row
        terms, announced = books.read_terms(signed), row.announced
        if announced is None or _base(terms.checkpoint, terms) != _base(announced.checkpoint, announced):
            raise Contradiction("terms_base", f"the terms of round {number} are not for what was announced")
        self.sponsoring.adopt(tx, terms)
        books.change_round(tx, number, expected=row.state, terms=signed)
        if terms.yardstick:
            tx.say(yardstick_request(self._parts, tx, terms))
        return row

    def _check_still_open(self, row: books.Round, event: OfferMake) -> None:
        """After the commitments are closed, an offer is made only for one that the root names."""
        if row.commits is None and row.closed is None:
            return
        signed = row.commits or (row.closed.root if row.closed else None)
        assert signed is not None
        if event.commitment not in self._root(signed, event.round).commitments:
            raise Contradiction(
                "offer_after_close", f"{event.commitment[:16]}… is not in the root of round {event.round}"
            )


def _accepted(row: books.Round) -> tuple[str, ...]:
    """The submissions in its aggregate; the yardstick is none."""
    own = row.assessed.yardstick if row.assessed else ""
    return tuple(item.commitment for item in row.aggregate.items if item.commitment != own) if row.aggregate else ()


def _base(checkpoint: ObjectRef, said: Terms | CheckpointPublished) -> tuple[object, ...]:
    """What the terms must repeat of what was announced."""
    return (checkpoint.sha256, said.seed_commitment, said.reference_previous, said.yardstick)


def _asked(event: OfferMake) -> tuple[object, ...]:
    """What the settler asks for, apart from deadlines and from which of our keys answers."""
    return (
        event.commitment, event.round, event.seq, event.peer, event.seal_to, event.terms.digest(), event.attempt,
    )  # fmt: skip


def _offered(offer: Offer) -> tuple[object, ...]:
    return (offer.commitment, offer.round, offer.seq, offer.peer, offer.seal_to, offer.terms, offer.attempt)


CONSUMERS: tuple[Consumer, ...] = tuple(
    Consumer("attestor", event, workers=4 if event is OfferMake else 1, patience=MONEY_PATIENCE)
    for event in (
        OfferMake, RoundOpened, CommitsClosed, EscrowLocked, GradientUploaded, GradientScreened, RoundClosed, GradientMeasured,
        RoundAggregated, YardstickMade, SponsorshipAnnounce, SponsorshipLocked, CheckpointMeasured,
    )
)  # fmt: skip
"""What the attestor reads. Whether somebody is paid hangs on each of these words, so none is given up in an outage."""
