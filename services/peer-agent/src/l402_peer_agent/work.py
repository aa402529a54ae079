"""How a peer comes by a payload and what it uploads, off the event loop. It knows no money and no coordinator."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from l402core import telemetry
from l402core.documents import Terms
from l402core.errors import PeerError, TooLate

from l402_peer_agent.adversaries.handing import HandOver, hand_over, taken_from
from l402_peer_agent.training import Taken, Trainer

log = structlog.get_logger()
LOOK_S = 0.2
MARGIN_MS = 1_500
"""Before commits close, an accomplice gives up: it could no longer pay and open."""


class Work:
    """One peer's work. `hand_to`: where an honest peer leaves its payload for accomplices, once its place is taken;
    `hand_from`: where an accomplice looks for those of others.
    """

    def __init__(
        self, trainer: Trainer, *, peer: str, hand_to: Path | None = None, hand_from: Sequence[Path] = ()
    ) -> None:
        self._trainer, self._peer, self._hand_to, self._hand_from = trainer, peer, hand_to, hand_from

    async def packed(self, terms: Terms, checkpoint: bytes) -> bytes:
        """The round's packed payload. Raises PeerError, TooLate where there is nothing to send."""
        taken = await self._taken(terms)
        try:
            with telemetry.span("train", attributes={"round": terms.round}):
                trained = await asyncio.to_thread(self._trainer.train, terms, checkpoint, taken)
        except ValueError as error:
            raise PeerError("untrainable", f"the checkpoint or recipe cannot be trained: {error}") from error
        first, last = (trained.losses[0], trained.losses[-1]) if trained.losses else (None, None)
        log.info("gradient.trained", round=terms.round, loss_first=first, loss_last=last)
        return trained.packed

    def opened(self, terms: Terms, packed: bytes) -> None:
        """Its own commitment is in, so a copy cannot be the first."""
        if self._hand_to is not None:
            hand_over(self._hand_to, HandOver(round=terms.round, peer=self._peer, packed=packed))

    async def sent(self, terms: Terms, sealed: bytes) -> bytes:
        """What is uploaded for `sealed`: that, unless it is a cheat's. Raises TooLate where nothing ever is."""
        if self._trainer.sends == "other":
            return sealed[:-1] + bytes([sealed[-1] ^ 1])
        if self._trainer.sends == "nothing":
            raise TooLate("kept_back", "this peer uploads nothing")
        if self._trainer.sends == "late":
            while _now_ms() <= terms.upload_until_ms:  # noqa: ASYNC110 - a deadline, which no event announces
                await asyncio.sleep(LOOK_S)
        return sealed

    def conclude(self, round_: int, *, accepted: bool) -> None:
        """Keep or forget the round's training state."""
        self._trainer.conclude(round_, accepted=accepted)

    async def _taken(self, terms: Terms) -> tuple[Taken, ...]:
        """As many of others' payloads as it needs, waited for until commits close."""
        while True:
            taken = taken_from(self._hand_from, terms.round) if self._trainer.needs else ()
            if len(taken) >= self._trainer.needs or _now_ms() >= terms.commit_until_ms - MARGIN_MS:
                return taken
            await asyncio.sleep(LOOK_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
