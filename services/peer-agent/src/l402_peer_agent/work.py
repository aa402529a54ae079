"""How each kind of peer comes by a payload, off the event loop. It knows no money and no coordinator."""

import asyncio
import time
from pathlib import Path

import structlog
from l402core import telemetry
from l402core.documents import Terms
from l402core.errors import PeerError, TooLate

from l402_peer_agent.adversaries import HandOver, hand_over, take_over
from l402_peer_agent.training import Trainer

log = structlog.get_logger()
LOOK_S = 0.2
MARGIN_MS = 1_500
"""Before commits close, an accomplice gives up: it could no longer pay and open."""


class OwnWork:
    """Trains. `hand_to` is where an honest peer leaves its payload for its accomplice, once its own place is taken."""

    def __init__(self, trainer: Trainer, *, peer: str, hand_to: Path | None = None) -> None:
        self._trainer, self._peer, self._hand_to = trainer, peer, hand_to

    async def packed(self, terms: Terms, checkpoint: bytes) -> bytes:
        """The round's packed payload. Raises PeerError."""
        try:
            with telemetry.span("train", attributes={"round": terms.round}):
                trained = await asyncio.to_thread(self._trainer.train, terms, checkpoint)
        except ValueError as error:
            raise PeerError("untrainable", f"the checkpoint or recipe cannot be trained: {error}") from error
        log.info("gradient.trained", round=terms.round, loss_first=trained.losses[0], loss_last=trained.losses[-1])
        return trained.packed

    def opened(self, terms: Terms, packed: bytes) -> None:
        """Its own commitment is in, so a copy cannot be the first."""
        if self._hand_to is not None:
            hand_over(self._hand_to, HandOver(round=terms.round, peer=self._peer, packed=packed))

    def conclude(self, round_: int, *, accepted: bool) -> None:
        """Keep or forget the round's training state."""
        self._trainer.conclude(round_, accepted=accepted)


class BorrowedWork:
    """The accomplice: waits for another's payload and packs it as its own."""

    def __init__(self, path: Path, *, peer: str) -> None:
        self._path, self._peer = path, bytes.fromhex(peer)

    async def packed(self, terms: Terms, checkpoint: bytes) -> bytes:
        """Another's payload of this round. Raises TooLate when none comes before commits close, PeerError."""
        del checkpoint  # it does not work for its money
        while time.time_ns() // 1_000_000 < terms.commit_until_ms - MARGIN_MS:
            packed = take_over(self._path, terms, self._peer)
            if packed is not None:
                log.info("gradient.taken_over", round=terms.round)
                return packed
            await asyncio.sleep(LOOK_S)
        raise TooLate("nothing_to_copy", "nobody handed a payload over before commits closed")

    def opened(self, terms: Terms, packed: bytes) -> None:
        """Nothing to hand on."""

    def conclude(self, round_: int, *, accepted: bool) -> None:
        """Nothing to remember."""
