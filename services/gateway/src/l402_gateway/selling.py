"""A challenge for a paid step: one invoice for each submission and peer, however often it is asked for.

It knows limits and what may be forgotten, and leaves what an invoice is to the invoicer.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

import msgspec
import structlog
from l402core.errors import Exhausted, Unavailable
from l402core.events import FeeMint, FeeMinted, PeerStanding, Question, ReadStanding, RoundView
from l402core.l402 import Macaroon, RootKeys

from l402_gateway import challenge
from l402_gateway.challenge import Unpaid
from l402_gateway.config import Config
from l402_gateway.reads import Shared
from l402_gateway.routes import Paid
from l402_gateway.views import terms_of

log = structlog.get_logger()
LATE_FEE_S = 7 * 86_400
"""A credential outlives its round: presented too late it opens nothing, and its fee becomes a credit."""
A = TypeVar("A", bound=msgspec.Struct)


class Shelf(Protocol):
    """What may be forgotten: unpaid challenges and limits. Raises Unavailable, Limited."""

    async def unpaid(self, key: str) -> Unpaid | None: ...
    async def keep(self, key: str, unpaid: Unpaid, *, for_s: int) -> None: ...
    async def count(self, limit: str, subject: str, *, at_most: int, window_s: int) -> None: ...
    def alone(self, key: str, *, wait_s: float) -> AbstractAsyncContextManager[None]: ...


class Asking(Protocol):
    """A question to the coordinator's other services. Raises Unavailable, Meaningless, and their own refusals."""

    async def __call__(self, question: Question, answer: type[A], /) -> A: ...


class Selling:
    """What a submission costs, asked once and told as often as somebody asks."""

    def __init__(
        self, config: Config, ask: Asking, shelf: Shelf, rounds: Shared[int, RoundView], keys: Callable[[], RootKeys], *,
        now_ms: Callable[[], int], clock: Callable[[], float], rng_bytes: Callable[[int], bytes],
        takes_uploads: Callable[[], Awaitable[bool]],
    ) -> None:  # fmt: skip
        self._config, self._ask, self._shelf, self._rounds, self._keys = config, ask, shelf, rounds, keys
        self._now_ms, self._rng_bytes, self._takes_uploads = now_ms, rng_bytes, takes_uploads
        self._selling: Shared[tuple[Paid, str, str], Unpaid] = Shared(self._sell_alone, ttl_s=0.0, clock=clock)

    async def sell(self, paid: Paid, peer: str, client: str) -> tuple[Macaroon, Unpaid]:
        """A challenge for this submission: the same one until it expires.

        Raises NotFound, TooLate, Exhausted where no fee is sold; Limited, Unavailable.
        """
        view = await self._rounds.get(paid.round)
        challenge.may_sell(view, terms_of(view), now_ms=self._now_ms())
        if not await self._takes_uploads():
            raise Unavailable("objects", "what is uploaded cannot be kept now: nobody is told to pay for it")
        base = msgspec.structs.replace(paid, step="", path="")
        unpaid = await self._shelf.unpaid(_key(base, peer)) or await self._selling.get((base, peer, client))
        return challenge.token(self._keys(), unpaid, base, peer), unpaid

    async def _sell_alone(self, who: tuple[Paid, str, str]) -> Unpaid:
        paid, peer, client = who
        await self._limit(peer, client)
        async with self._shelf.alone(_key(paid, peer), wait_s=self._config.bus_timeout_s):
            known = await self._shelf.unpaid(_key(paid, peer))
            if known is not None:
                return known
            if peer:
                await self._may_owe(peer)
            unpaid = await self._mint(paid)
            kept_s = challenge.keep_for_s(unpaid, now_ms=self._now_ms(), margin_s=self._config.challenge_margin_s)
            await self._shelf.keep(_key(paid, peer), unpaid, for_s=kept_s)
            log.info("challenge.made", round=paid.round, commitment=paid.commitment, payment_hash=unpaid.payment_hash)
            return unpaid

    async def _limit(self, peer: str, client: str) -> None:
        config = self._config
        window_s = config.mint_window_s
        await self._shelf.count("client", client, at_most=config.mints_per_client, window_s=window_s)
        if peer:
            await self._shelf.count("peer", peer, at_most=config.mints_per_peer, window_s=window_s)
        await self._shelf.count("gateway", "all", at_most=config.mints_in_all, window_s=window_s)

    async def _may_owe(self, peer: str) -> None:
        """Raises Exhausted for a peer that leaves as much hanging as may be: it gets no new challenge."""
        standing = await self._ask(ReadStanding(peer=peer), PeerStanding)
        if not standing.available:
            raise Exhausted("peer_exposure", standing.unavailable_reason)

    async def _mint(self, paid: Paid) -> Unpaid:
        terms = terms_of(await self._rounds.get(paid.round))
        life_s = challenge.invoice_life_s(terms, now_ms=self._now_ms(), longest_s=self._config.fee_expiry_s)
        question = FeeMint(round=paid.round, commitment=paid.commitment, amount_msat=terms.fee_msat, expiry_s=life_s)
        minted = await self._ask(question, FeeMinted)
        return Unpaid(
            payment_hash=minted.payment_hash,
            bolt11=minted.bolt11,
            token_id=self._keys().new_token_id(self._rng_bytes).hex(),
            expires_at_ms=minted.expires_at_ms,
            fee_msat=terms.fee_msat,
            terms=terms.digest(),
            valid_until_s=terms.judge_by_ms // 1_000 + LATE_FEE_S,
        )


def _key(paid: Paid, peer: str) -> str:
    return f"{paid.round}:{paid.commitment}:{peer or '-'}"
