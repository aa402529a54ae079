"""Telling decisions and revealing what they earned: recomputed, sealed to the peer, and only while it is safe.

Whether an offer's preimages leave or stay is decided once and remembered before it is done: one offer's at most, ever.
"""

import msgspec
import structlog
from l402core.documents import mask_indices
from l402core.errors import Malformed, NotFound, TooEarly, Unavailable
from l402core.events import GradientScored
from l402core.outbox import Transaction
from l402core.sealing import seal

from l402_oracle.adapters import decisions as books
from l402_oracle.attestor.judgement import Submission
from l402_oracle.attestor.parts import Parts
from l402_oracle.attestor.reveal import Reveal, may_reveal
from l402_oracle.derive import preimage

log = structlog.get_logger()


class Case(msgspec.Struct, frozen=True):
    """A decision, the submission with the offer that may be revealed, and what became of that offer."""

    scored: GradientScored
    submission: Submission
    fate: str


class Delivery:
    """Every reveal reads the one decision row, and checks lock and height again."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._db = parts.database
        self._waiting: dict[str, str] = {}

    async def deliver(self) -> None:
        """Say each decision once, in its submission's own trace; those that must wait for a height or a key stay."""
        if not await self._db.read(books.anything_unsaid):
            return
        for commitment, waits in await self._db.transact(self._say_all):
            if self._waiting.get(commitment) != waits:
                log.error("reveal.waits", commitment=commitment, reason=waits)
            self._waiting[commitment] = waits

    async def decision(self, commitment: str) -> GradientScored:
        """The decision with what may be revealed now. Raises NotFound where there is none and never will be, TooEarly."""
        case = await self._db.read(lambda tx: _read(tx, commitment))
        try:
            if case.fate == books.OPEN and self._verdict(case) is Reveal.NOW:  # one reader's look settles it for good
                return await self._db.transact(lambda tx: self._told(tx, _known(tx, commitment)))
            return self._as_settled(case)
        except Unavailable:
            return case.scored

    def _say_all(self, tx: Transaction) -> list[tuple[str, str]]:
        waiting: list[tuple[str, str]] = []
        for row in books.unsaid(tx):
            try:
                scored = self._told(tx, _known(tx, row.commitment))
            except Unavailable as reason:
                waiting.append((row.commitment, reason.detail))
                continue
            if scored.mask and not scored.sealed_preimages:
                log.warning("reveal.refused", commitment=row.commitment, withheld=scored.withheld)
            if books.mark_said(tx, row.commitment):
                tx.say(scored, parent=row.traceparent)
        return waiting

    def _told(self, tx: Transaction, case: Case) -> GradientScored:
        """The decision as it is told, once the fate of its preimages is settled. Raises Unavailable: later, perhaps."""
        scored, offer = case.scored, case.submission.offer
        if scored.mask and case.fate == books.OPEN and (offer.attempt == 1 or case.submission.locked is not None):
            verdict = self._verdict(case)
            if verdict is Reveal.WAIT:
                raise Unavailable("height", "no recent block height, and without one nothing is revealed")
            if verdict is Reveal.NOW:
                self._parts.preimage_key(offer.key_id)  # raises: an operator may bring the key back
            fate = books.REVEALED if verdict is Reveal.NOW else books.WITHHELD
            books.settle_fate(tx, scored.commitment, offer.attempt, fate)
            case = _known(tx, scored.commitment)
        return self._as_settled(case)

    def _as_settled(self, case: Case) -> GradientScored:
        """With preimages while it is safe, marked where they stay for good. Raises Unavailable."""
        scored, offer = case.scored, case.submission.offer
        if scored.mask == 0:
            return scored
        if case.fate == books.OPEN and offer.attempt > 1:  # nobody has locked this one yet: the last one is withheld
            return _numbered(scored, offer.attempt - 1, withheld=True)
        told = _numbered(scored, offer.attempt, withheld=case.fate == books.WITHHELD)
        if case.fate != books.REVEALED:
            return told
        verdict = self._verdict(case)
        if verdict is Reveal.WAIT:
            raise Unavailable("height", "no recent block height, and without one nothing is revealed")
        return self._sealed(told, case.submission) if verdict is Reveal.NOW else told

    def _verdict(self, case: Case) -> Reveal:
        heights, margin = self._parts.heights, self._parts.expiry_margin_blocks
        return may_reveal(case.submission.offer, case.submission.locked, heights.recent(), margin)

    def _sealed(self, scored: GradientScored, submission: Submission) -> GradientScored:
        """Every rung of the decision: by the mask in a whole ladder, all of an offer of what is owed."""
        offer = submission.offer
        key, core = self._parts.preimage_key(offer.key_id), msgspec.structs.replace(offer, reward_hashes=())
        count = len(offer.amounts_msat)
        indices = mask_indices(scored.mask, count) if offer.attempt == 1 else tuple(range(count))
        try:
            sealed = tuple(seal(preimage(key, core, index).reveal(), offer.seal_to).hex() for index in indices)
        except Malformed as error:  # the peer's own key, and its own loss: the decisions of others go on
            log.warning("reveal.unsealable", commitment=scored.commitment, detail=error.detail)
            return scored
        return msgspec.structs.replace(scored, sealed_preimages=sealed)


def _numbered(scored: GradientScored, attempt: int, *, withheld: bool) -> GradientScored:
    return msgspec.structs.replace(scored, attempt=attempt, withheld=withheld, revision=attempt - 1)


def _read(tx: Transaction, commitment: str) -> Case:
    """Raises TooEarly while the submission may still be judged: whoever reads NotFound gives its rungs back."""
    if books.read_decision(tx, commitment) is not None:
        return _known(tx, commitment)
    if books.may_be_decided(tx, commitment):
        raise TooEarly("undecided", f"nothing is decided yet about {commitment[:16]}…")
    raise NotFound("decision", f"nothing is decided about {commitment[:16]}…")


def _known(tx: Transaction, commitment: str) -> Case:
    """What is known of a decision. There is one."""
    scored = books.read_decision(tx, commitment)
    attempt, fate = books.read_fate(tx, commitment)
    submission = books.read_submission(tx, commitment, attempt)
    assert scored is not None
    assert submission is not None
    return Case(scored, submission, fate)
