"""Whether peers could reach us: a mark in the books that settlers renew, and what its gaps say about a missed deadline.

It believes nobody but settlers and gateways. No peer's request renews a mark, and no peer's silence makes a gap, so that
whoever withholds what it owes cannot make an outage of it.
"""

import structlog
from l402core.documents import Terms
from l402core.escrow import Escrow
from l402core.events import AWAKE_EVERY_MS, GatewayAwake, GatewayHeard
from l402core.outbox import Transaction

from l402_settler.adapters import awake_books
from l402_settler.office import Office
from l402_settler.rounds import locks_until_ms

log = structlog.get_logger()
SETTLER, GATEWAY = "settler", "gateway"
GAP_MS = 8_000
"""So long nobody was there, and it is an outage. A restart takes less, and peers ask again all the while."""


class Awake:
    """One settler process's share of the mark: any of several renews it."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._marked_ms = 0
        self._gateway_ms = 0

    async def on_gateway(self, _question: GatewayAwake) -> GatewayHeard:
        """A gateway serves; the next mark says so."""
        self._gateway_ms = self._office.now_ms()
        return GatewayHeard(at_ms=self._gateway_ms)

    async def mark(self) -> None:
        """Now and then: we are there, and so was a gateway. Before any deadline strikes, so that a gap is known."""
        now_ms = self._office.now_ms()
        if abs(now_ms - self._marked_ms) < AWAKE_EVERY_MS:
            return

        def work(tx: Transaction) -> None:
            known = awake_books.marks(tx)
            _note(tx, known, SETTLER, now_ms)
            if self._gateway_ms:
                _note(tx, known, GATEWAY, self._gateway_ms)

        await self._office.database.transact(work)
        self._marked_ms = now_ms


def _note(tx: Transaction, known: dict[str, int], part: str, at_ms: int) -> None:
    if part not in known:
        awake_books.begin(tx, part, at_ms)
        return
    if at_ms - known[part] > GAP_MS:
        awake_books.add_outage(tx, part, known[part], at_ms)
        log.warning("outage.seen", part=part, since_ms=known[part], until_ms=at_ms)
    awake_books.renew(tx, part, at_ms)


def window(state: Escrow, terms: Terms) -> tuple[int, int] | None:
    """When a peer acts at the latest in a state that waits for it: from the deadline before to its own."""
    return {
        Escrow.OFFERED: (terms.commit_until_ms, locks_until_ms(terms)),
        Escrow.LOCKING: (terms.commit_until_ms, terms.lock_by_ms),
        Escrow.LOCKED: (terms.lock_by_ms, terms.upload_until_ms),
    }.get(state)


def was_away(tx: Transaction, state: Escrow, terms: Terms, *, now_ms: int) -> bool:
    """Whether no settler, or no gateway, was there for a part of the window that a peer has missed."""
    span = window(state, terms)
    if span is None:
        return False
    since_ms, until_ms = span
    if awake_books.outage_between(tx, since_ms, until_ms) is not None:
        return True
    return any(at_ms < until_ms and now_ms - at_ms > GAP_MS for at_ms in awake_books.marks(tx).values())
