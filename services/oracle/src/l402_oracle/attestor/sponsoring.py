"""Sponsors at the attestor: announce hashes, judge each funded round's checkpoint once, reveal what was earned.

Each step loads, decides in `tranches`, and remembers; the first measurement and the one decision stand. A preimage is
computed again when it is said, sealed to the settler, and never before the decision and the lock are in the table.
"""

import msgspec
import structlog
from l402core import telemetry
from l402core.documents import Terms
from l402core.errors import Contradiction, Unavailable
from l402core.events import (
    CheckpointMeasure,
    CheckpointMeasured,
    RoundAssessed,
    SponsorshipAnnounce,
    SponsorshipAnnounced,
    SponsorshipJudged,
    SponsorshipLocked,
)
from l402core.outbox import Transaction
from l402core.pledges import Announcement, Pledge, SponsorshipTerms, TrancheLocked, TrancheReceipt
from l402core.sealing import seal
from l402core.signing import open_signed

from l402_oracle.adapters import decisions as books
from l402_oracle.adapters import sponsors
from l402_oracle.adapters.sponsors import Known
from l402_oracle.attestor.parts import Parts
from l402_oracle.attestor.tranches import check_tranche, decide
from l402_oracle.derive import payment_hash, sponsor_shards, tranche_preimage

log = structlog.get_logger()
TRIES_MAX = 5
"""Measurements of one checkpoint, where each fails on our side: the treasury does not lose a tranche to one bad moment."""
TOLD_AGAIN = 8
"""Decisions that a restart tells again: a settler that lost one would give the money back."""


class Sponsoring:
    """Handlers, and `advance`, which may be called at any time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._db = parts.database
        self._waits: dict[str, str] = {}

    async def sponsorship_announce(self, event: SponsorshipAnnounce) -> None:
        """One hash per tranche, the same for ever. Raises Unauthorized, Contradiction."""
        signer = self._parts.settler.check(event.terms.signer)
        terms = open_signed(event.terms, SponsorshipTerms.tag, SponsorshipTerms, signer=signer)
        pledge = open_signed(event.pledge, Pledge.tag, Pledge, signer=terms.sponsor)
        if (pledge.sponsorship(), event.pledge.digest(), pledge.amount_msat, pledge.tranches, pledge.margin) != (
            terms.sponsorship, terms.pledge, terms.amount_msat, terms.tranches, terms.margin,
        ):  # fmt: skip
            raise Contradiction("pledge_other", "the settler's terms are not what the sponsor pledged")
        made, parent = self._announcement(terms), telemetry.traceparent()

        def remember(tx: Transaction) -> None:
            known = sponsors.read_announcement(tx, terms.sponsorship)
            if known is None:
                known = self._parts.keys.signing.newest.sign(Announcement.tag, made)
                sponsors.add_announcement(tx, made, known, parent)
            elif not _same_ask(msgspec.json.decode(known.body, type=Announcement), made):
                raise Contradiction("announce_differs", f"another promise was asked for {terms.sponsorship[:16]}…")
            tx.say(
                SponsorshipAnnounced(
                    id=self._parts.new_id(), occurred_at_ms=self._parts.now_ms(), sponsorship=terms.sponsorship,
                    announcement=known,
                )
            )  # fmt: skip

        await self._db.transact(remember)
        log.info("sponsorship.announced", sponsorship=terms.sponsorship, tranches=terms.tranches)

    async def sponsorship_locked(self, event: SponsorshipLocked) -> None:
        """The settler's signed word that the money waits. Raises Unauthorized, Contradiction."""
        signer = self._parts.settler.check(event.locked.signer)
        locked = open_signed(event.locked, TrancheLocked.tag, TrancheLocked, signer=signer)

        def remember(tx: Transaction) -> None:
            announced = sponsors.has_tranche(tx, locked.sponsorship, locked.tranche, locked.payment_hash)
            known = sponsors.read_tranche(tx, locked.payment_hash) if announced else None
            if known is None or (known.sponsorship, known.tranche, known.announced.amount_msat) != (
                locked.sponsorship, locked.tranche, locked.amount_msat,
            ):  # fmt: skip
                raise Contradiction("locked_unknown", f"no tranche was announced on {locked.payment_hash[:16]}…")
            sponsors.note_once(tx, locked.payment_hash, locked=locked)

        await self._db.transact(remember)
        await self.advance()

    async def checkpoint_measured(self, event: CheckpointMeasured) -> None:
        """The first measurement of a round's checkpoint stands; what our side could not measure it tries a few times."""
        await self._db.transact(lambda tx: sponsors.hear_measured(tx, event, tries_max=TRIES_MAX))
        await self.advance()

    def adopt(self, tx: Transaction, terms: Terms) -> None:
        """The round's terms name a tranche: it is bound to this round, and to no other. Raises Contradiction."""
        if terms.tranche is None:
            return
        known = sponsors.read_announcement(tx, terms.tranche.sponsorship)
        check_tranche(terms, msgspec.json.decode(known.body, type=Announcement) if known else None)
        sponsors.has_tranche(tx, terms.tranche.sponsorship, terms.tranche.tranche, terms.tranche.payment_hash)
        if not sponsors.bind(tx, terms.tranche.payment_hash, terms.round):
            raise Contradiction("tranche_twice", f"the tranche of round {terms.round} funds another round already")

    async def advance(self) -> None:
        """Ask, decide and say whatever can be now."""
        if not await self._db.read(sponsors.anything_due):
            return
        for known, waits in await self._db.transact(self._advance_all):
            if self._waits.get(known) != waits:
                log.error("tranche.waits", payment_hash=known, reason=waits)
            self._waits[known] = waits

    async def resume(self) -> None:
        """Say again what the bus may have lost. Whoever hears it twice does nothing twice."""
        await self._db.transact(lambda tx: sponsors.ask_and_tell_again(tx, newest=TOLD_AGAIN))

    # --- below: the steps ---------------------------------------------------------------------------------------------

    def _advance_all(self, tx: Transaction) -> list[tuple[str, str]]:
        for known in sponsors.unjudged(tx):
            self._judge(tx, known)
        waiting: list[tuple[str, str]] = []
        for known in sponsors.unsaid(tx):
            try:
                self._say(tx, known)
            except Unavailable as reason:
                waiting.append((known.payment_hash, reason.detail))
        return waiting

    def _judge(self, tx: Transaction, known: Known) -> None:
        row = books.read_round(tx, known.round)
        following = books.read_round(tx, known.round + 1)
        if row is None or row.terms is None or not (row.state == "void" or (row.state == "done" and row.assessed)):
            return
        if following is None or following.announced is None:
            return
        terms, child = books.read_terms(row.terms), following.announced.checkpoint
        root, shards = self._sample(terms, row.assessed, known.payment_hash)
        if child.sha256 != terms.checkpoint.sha256 and shards and known.measured is None:
            if not known.asked:
                sponsors.mark_asked(tx, known.payment_hash)
                tx.say(
                    CheckpointMeasure(
                        id=self._parts.new_id(), occurred_at_ms=self._parts.now_ms(), revision=known.tries,
                        round=row.number, parent=terms.checkpoint, checkpoint=child, model_id=terms.model_id, shards=shards,
                    ),
                    parent=known.traceparent,
                )  # fmt: skip
            return
        receipt = decide(terms, child=child.sha256, root=root, shards=shards, measured=known.measured)
        signed = self._parts.keys.signing.named(known.announcer).sign(TrancheReceipt.tag, receipt)
        sponsors.note_once(tx, known.payment_hash, judged=signed)
        log.info("tranche.judged", round=row.number, tranche=known.tranche, earned=receipt.earned)

    def _sample(self, terms: Terms, assessed: RoundAssessed | None, payment_hash_: str) -> tuple[str, tuple[int, ...]]:
        """The root, and the shards that the tranche is judged on; none where the round was ended before it was assessed."""
        if assessed is None:
            return "", ()
        seed = self._parts.seed(terms.round, terms.checkpoint.sha256, terms.seed_commitment)
        pay = assessed.shards
        return assessed.root, sponsor_shards(self._parts.corpus, seed, assessed.root, payment_hash_, pay=pay)

    def _say(self, tx: Transaction, known: Known) -> None:
        """Raises Unavailable where what was earned must wait for the lock, a height or a key."""
        assert known.judged is not None
        receipt = msgspec.json.decode(known.judged.body, type=TrancheReceipt)
        sealed = self._sealed(known) if receipt.earned else ""
        if sponsors.mark_said(tx, known.payment_hash):
            tx.say(
                SponsorshipJudged(
                    id=self._parts.new_id(), occurred_at_ms=self._parts.now_ms(), sponsorship=known.sponsorship,
                    tranche=known.tranche, round=receipt.round, payment_hash=known.payment_hash, earned=receipt.earned,
                    receipt=known.judged, sealed_preimage=sealed,
                ),
                parent=known.traceparent,
            )  # fmt: skip

    def _sealed(self, known: Known) -> str:
        """The preimage for the settler; '' so near the HTLC's expiry that it had better give the money back."""
        height = self._parts.heights.recent()
        if known.locked is None:
            raise Unavailable("tranche_unlocked", "the settler has not said that the sponsor's money waits")
        if height is None:
            raise Unavailable("height", "no recent block height, and without one nothing is revealed")
        if height >= known.locked.expiry_height - self._parts.expiry_margin_blocks:
            log.warning("reveal.refused", payment_hash=known.payment_hash, reason="too near its expiry")
            return ""
        key = self._parts.preimage_key(known.announced.key_id)
        return seal(tranche_preimage(key, known.announced, known.tranche).reveal(), known.announced.seal_to).hex()

    def _announcement(self, terms: SponsorshipTerms) -> Announcement:
        key_id = self._parts.key_id
        core = Announcement(
            sponsorship=terms.sponsorship, pledge=terms.pledge, sponsor=terms.sponsor, amount_msat=terms.amount_msat,
            tranches=terms.tranches, margin=terms.margin, seal_to=terms.seal_to, key_id=key_id, hashes=(),
        )  # fmt: skip
        key = self._parts.preimage_key(key_id)
        hashes = tuple(payment_hash(tranche_preimage(key, core, index)) for index in range(terms.tranches))
        return msgspec.structs.replace(core, hashes=hashes)


def _same_ask(known: Announcement, made: Announcement) -> bool:
    """What the settler asked for, apart from which of our keys answers."""
    return msgspec.structs.replace(known, key_id="", hashes=()) == msgspec.structs.replace(made, key_id="", hashes=())
