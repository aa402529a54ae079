"""Telling decisions and revealing what they earned: recomputed, sealed to the peer, and only while it is safe."""

import msgspec
import structlog
from l402core.documents import mask_indices
from l402core.errors import Malformed, NotFound, Unavailable
from l402core.events import GradientScored
from l402core.outbox import Transaction
from l402core.sealing import seal

from l402_oracle.adapters import decisions as books
from l402_oracle.attestor.judgement import Submission
from l402_oracle.attestor.parts import Parts
from l402_oracle.attestor.reveal import Reveal, may_reveal
from l402_oracle.derive import preimage

log = structlog.get_logger()


class Delivery:
    """Every reveal reads the one decision row, and checks lock and height again."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._db = parts.database
        self._waiting: dict[str, str] = {}

    async def deliver(self) -> None:
        """Say each decision once, in its submission's own trace; those that must wait for a height or a key stay."""
        for commitment, waits in await self._db.transact(self._say_all):
            if self._waiting.get(commitment) != waits:
                log.error("reveal.waits", commitment=commitment, reason=waits)
            self._waiting[commitment] = waits

    async def decision(self, commitment: str) -> GradientScored:
        """The decision with what may be revealed now. Raises NotFound."""
        scored, submission, frozen = await self._db.read(lambda tx: _read(tx, commitment))
        if scored is None or submission is None:
            raise NotFound("decision", f"nothing is decided about {commitment[:16]}…")
        if frozen:
            return scored
        try:
            return self._with_preimages(scored, submission)
        except Unavailable:
            return scored

    def _say_all(self, tx: Transaction) -> list[tuple[str, str]]:
        waiting: list[tuple[str, str]] = []
        for row in books.unsaid(tx):
            submission = books.read_submission(tx, row.commitment)
            assert submission is not None
            try:
                scored = self._with_preimages(msgspec.json.decode(row.body, type=GradientScored), submission)
            except Unavailable as reason:
                waiting.append((row.commitment, reason.detail))
                continue
            if scored.mask and not scored.sealed_preimages:
                log.warning(
                    "reveal.refused", commitment=row.commitment, reason="near its expiry, or past the last height"
                )
            if books.mark_said(tx, row.commitment):
                tx.say(scored, parent=row.traceparent)
        return waiting

    def _with_preimages(self, scored: GradientScored, submission: Submission) -> GradientScored:
        """Raises Unavailable where an answer may come later: no height, no such key."""
        if scored.mask == 0:
            return scored
        offer, margin = submission.offer, self._parts.expiry_margin_blocks
        verdict = may_reveal(offer, submission.locked, self._parts.heights.recent(), margin)
        if verdict is Reveal.WAIT:
            raise Unavailable("height", "no recent block height, and without one nothing is revealed")
        if verdict is Reveal.NEVER:
            log.warning(
                "reveal.refused", commitment=scored.commitment, reason="too near its expiry, or past its height"
            )
            return scored
        key, core = self._parts.preimage_key(offer.key_id), msgspec.structs.replace(offer, reward_hashes=())
        try:
            sealed = tuple(
                seal(preimage(key, core, index), offer.seal_to).hex()
                for index in mask_indices(scored.mask, len(offer.amounts_msat))
            )
        except Malformed as error:  # the peer's own key, and its own loss: the decisions of others go on
            log.warning("reveal.unsealable", commitment=scored.commitment, detail=error.detail)
            return scored
        return msgspec.structs.replace(scored, sealed_preimages=sealed)


def _read(tx: Transaction, commitment: str) -> tuple[GradientScored | None, Submission | None, bool]:
    """A decision, what is known of its submission, and whether its round is frozen."""
    scored = books.read_decision(tx, commitment)
    row = books.read_round(tx, scored.round) if scored else None
    return scored, books.read_submission(tx, commitment), row is not None and row.state == "frozen"
