"""Sponsors at the edge: a signed pledge goes to the settler, and what became of it is read. It mints and decides nothing.

A pledge is free, so it is bounded before anybody is asked: by client, and all together. What it may cost is bounded
by the settler: few sponsorships at a time, one unpaid invoice each, and whoever does not pay is asked no more.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec
from l402core.errors import Malformed, Unauthorized
from l402core.events import Question, ReadSponsorship, SponsorshipOpen, SponsorshipView
from l402core.pledges import Pledge
from l402core.signing import Signed, open_signed

from l402_gateway.config import Config
from l402_gateway.reads import Shared

A = TypeVar("A", bound=msgspec.Struct)
PATH = "/v1/sponsorships"


class Asks(Protocol):
    """Questions over the bus. Raises Unavailable, and whatever the settler refuses with."""

    async def ask(self, question: Question, answer: type[A], *, timeout_s: float) -> A: ...


class Limits(Protocol):
    """Counts within a window. Raises Limited, Unavailable."""

    async def count(self, limit: str, subject: str, *, at_most: int, window_s: int) -> None: ...


class Sponsors:
    """What the routes call."""

    def __init__(self, config: Config, bus: Asks, limits: Limits, *, clock: Callable[[], float]) -> None:
        self._config, self._bus, self._limits = config, bus, limits
        self._known: Shared[str, SponsorshipView] = Shared(
            self._read, ttl_s=config.read_cache_ms / 1_000, clock=clock, max_entries=256
        )

    async def limit(self, client: str) -> None:
        """Count a pledge before its body is read. Raises Limited, Unavailable."""
        config = self._config
        window_s = config.mint_window_s
        await self._limits.count("pledge", client, at_most=config.pledges_per_client, window_s=window_s)
        await self._limits.count("pledges", "all", at_most=config.pledges_in_all, window_s=window_s)

    async def open(self, sponsor: str, body: bytes) -> SponsorshipView:
        """Take the pledge of whoever signed the request. The same pledge again gets the same answer."""
        question = SponsorshipOpen(sponsor=sponsor, pledge=_pledge(body, sponsor))
        view = await self._bus.ask(question, SponsorshipView, timeout_s=self._config.bus_timeout_s)
        self._known.drop(view.sponsorship)
        return view

    async def read(self, sponsorship: str) -> SponsorshipView:
        """One sponsorship. Raises NotFound."""
        return await self._known.get(sponsorship)

    async def _read(self, sponsorship: str) -> SponsorshipView:
        question = ReadSponsorship(sponsorship=sponsorship)
        return await self._bus.ask(question, SponsorshipView, timeout_s=self._config.bus_timeout_s)


def _pledge(body: bytes, sponsor: str) -> Signed:
    """The sponsor's own signed pledge. Raises Malformed, Unauthorized."""
    try:
        signed = msgspec.json.decode(body, type=Signed)
    except msgspec.MsgspecError as error:
        raise Malformed("bad_json", f"the body is not a signed pledge in JSON: {error}") from None
    try:
        pledge = open_signed(signed, Pledge.tag, Pledge, signer=sponsor)
    except Unauthorized as error:
        raise Unauthorized("peer_pledge", error.detail) from error
    if pledge.sponsor != sponsor:
        raise Unauthorized("peer_pledge", "the pledge names another sponsor than who signed the request")
    return signed
