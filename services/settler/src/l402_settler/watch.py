"""The settler's eyes on its own node: payments, liquidity, height. It only looks; what was seen is joined in `tracking`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import sqlalchemy as sa
import structlog
from l402core.batches import batches
from l402core.documents import LADDER
from l402core.errors import L402Error, Unavailable
from l402core.escrow import RUNG_RECOVER, AskAgain, Rung
from l402core.events import Reconcile, Reconciled
from l402core.lnd.fitness import Trouble, shortage, silence, slots_free, trouble
from l402core.lnd.port import ChannelView, InvoiceView, NodeInfo, PaymentView
from l402core.metrics import NODE_HEIGHT, tell_fitness
from l402core.outbox import Transaction

from l402_settler import ledger, metrics
from l402_settler.adapters import books, journal
from l402_settler.freezing import freeze_payment
from l402_settler.guardian import guard
from l402_settler.office import Office
from l402_settler.reconciling import Reconciling, without_stranded
from l402_settler.telling import tell_differences
from l402_settler.tracking import Look, look_of, never_sent, record

log = structlog.get_logger()
SIGHT_EVERY_S = 2.0
LOOK_AGAIN_EVERY_S = 15.0
RECONNECT_S = 1.0
RESTS = 19
"""A comparison of books and node is followed by so many times its length without one: a twentieth of the time is theirs."""
SIGHTS_TOGETHER = 256
"""Updates of payments that are joined at a time."""
LOOKS_TOGETHER = 32


class Node(Protocol):
    """What is needed of our node: reads alone."""

    async def info(self) -> NodeInfo: ...

    async def channels(self) -> list[ChannelView]: ...

    async def closing_channels(self) -> int: ...

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None: ...

    def watch_payments(self) -> AsyncIterator[PaymentView]: ...

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None: ...

    def payment_pages(self) -> AsyncIterator[list[PaymentView]]: ...

    def invoice_pages(self) -> AsyncIterator[list[InvoiceView]]: ...


class Watch:
    """Four loops without end, each of which outlives a node that is silent for a while.

    `monotonic` measures how long a comparison of books and node took.
    """

    def __init__(self, office: Office, node: Node, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._office, self._monotonic = office, monotonic
        self._node = node
        self._met_ms: dict[str, int] = {}
        """When each open rung was first seen open by a look: what was locked a moment ago has not been silent for long."""

    async def payments(self) -> None:
        """Every update of every payment of ours, for ever; a cut stream is taken up again after looking at open rungs."""
        while True:
            try:
                await self._look_at_open_rungs()
                await self._follow()
            except Unavailable as error:
                log.warning("node.stream_cut", detail=error.detail)
            await asyncio.sleep(RECONNECT_S)

    async def _follow(self) -> None:
        async with aclosing(batches(self._looks(), at_most=SIGHTS_TOGETHER)) as seen:
            async for looks in seen:
                await self._record(looks)

    async def _looks(self) -> AsyncIterator[Look]:
        """What the stream tells, noted as it comes: the invoicer's hint, which follows at once, need not make us ask."""
        async for view in self._node.watch_payments():
            look = look_of(view)
            if look is not None:
                self._office.joined.looked_at((look.payment_hash,), self._office.now_ms())
                yield look

    async def open_rungs(self) -> None:
        """Ask about each open rung now and then: silence is what the stream cannot tell.

        A rung that LND has never heard of long after it could be sent, or noted and never sent, brings no update ever;
        nor does a stream that hangs without an error. One look-up each 15 s per open rung that has been silent for as long
        is what that costs.
        """
        while True:
            await asyncio.sleep(LOOK_AGAIN_EVERY_S)
            try:
                await self._look_at_open_rungs(silent_s=LOOK_AGAIN_EVERY_S)
            except Unavailable as error:
                log.warning("node.unavailable", detail=error.detail)

    async def _look_at_open_rungs(self, *, silent_s: float = 0.0) -> None:
        office = self._office
        now_ms = office.now_ms()
        before_ms = now_ms - int(silent_s * 1_000)
        every = await office.database.read(books.open_rungs)
        self._met_ms = {line.payment_hash: self._met_ms.get(line.payment_hash, now_ms) for line in every}
        lines = [line for line in every if self._heard_ms(line.payment_hash) <= before_ms]
        for start in range(0, len(lines), LOOKS_TOGETHER):
            looks = await asyncio.gather(*(self._look_at(line) for line in lines[start : start + LOOKS_TOGETHER]))
            await self._record(await self._without_stranded([look for look in looks if look is not None]))

    def _heard_ms(self, payment_hash: str) -> int:
        heard_ms = self._office.joined.heard_ms(payment_hash)
        return self._met_ms[payment_hash] if heard_ms is None else heard_ms

    async def _without_stranded(self, seen: Sequence[PaymentView | Look]) -> list[PaymentView | Look]:
        """The same, but what LND will call in flight for ever has ended. Raises Unavailable."""
        views = [view for view in seen if isinstance(view, PaymentView)]
        found = await without_stranded(self._node, views, self._office.sight.height)
        return [*(look for look in seen if isinstance(look, Look)), *found.views]

    async def _look_at(self, line: sa.Row[Any]) -> PaymentView | Look | None:
        view = await self._node.lookup_payment(bytes.fromhex(line.payment_hash))
        if view is not None:
            return view
        grace_ms = self._office.config.never_sent_s * 1000
        may = AskAgain.GIVE_UP in RUNG_RECOVER[Rung(line.state)]
        late = may and self._office.now_ms() >= line.not_after_ms + grace_ms
        return never_sent(line.payment_hash) if late else None

    async def _record(self, seen: Sequence[PaymentView | Look]) -> None:
        impossible = await record(self._office, seen)
        for payment_hash, error in impossible:
            await self._freeze(payment_hash, error.code, error.detail)
        if impossible:  # now that nothing follows from it any more, what can be true of it is written down
            await record(self._office, seen)

    async def _freeze(self, payment_hash: str, code: str, reason: str) -> None:
        office = self._office
        await office.database.transact(lambda tx: freeze_payment(office, tx, payment_hash, code=code, reason=reason))

    async def books(self) -> None:
        """Compare the books with our node's lists, at the start and then on a schedule.

        With a long past a comparison takes a while, and one after another would leave no time for what is paid now.
        """
        while True:
            began_s, every_s = self._monotonic(), self._office.config.reconcile_s
            try:
                await self.reconcile(Reconcile())
                pause_s = max(every_s, RESTS * (self._monotonic() - began_s))
            except Unavailable as error:
                pause_s = min(every_s, LOOK_AGAIN_EVERY_S)
                log.warning("reconcile.waits", detail=error.detail)
            await asyncio.sleep(pause_s)

    async def reconcile(self, _question: Reconcile) -> Reconciled:
        """One comparison: what lags is joined, what contradicts is frozen, all of it is told. Raises Unavailable."""
        found = await Reconciling(self._office, self._node, record=self._record, freeze=self._freeze).reconcile()
        tell_differences(found)
        return found

    async def node(self) -> None:
        """Look at our node, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(SIGHT_EVERY_S)

    async def look(self) -> None:
        """Height, liquidity and slots of our node; and the guardian's look, whether or not the node answers."""
        try:
            await self._look_at_node()
        except L402Error as error:
            self._blame(silence(error))
        try:
            await guard(self._office)
        except L402Error as error:
            log.warning("guardian.blind", detail=error.detail)

    async def _look_at_node(self) -> None:
        office, sight = self._office, self._office.sight
        info, channels = await self._node.info(), await self._node.channels()
        found = trouble(info, network=office.config.lnd_network)
        if found is None or found.check != "network":
            sight.see_tip(info.block_height, office.now_ms())
        self._blame(found)
        if found is None:  # of an unfit node we believe neither height nor money
            active = [channel for channel in channels if channel.active]
            sight.height = info.block_height
            sight.slots_to = _by_node(active, lambda one: slots_free(one, office.config.slots_per_channel))
            sight.slots = sum(sight.slots_to.values())
            sight.msat_to = _by_node(active, lambda one: one.sendable_msat)
            sight.liquidity_msat = sum(sight.msat_to.values())
            sight.failing = self._short_of(channels)
            tell_fitness(sight.failing)
            NODE_HEIGHT.set(sight.height)
            metrics.SENDABLE.set(sight.liquidity_msat)
            metrics.SLOTS_FREE.set(sight.slots)
            metrics.CHANNELS.set(len(active))
            owned_msat = sum(channel.local_msat for channel in channels)  # a peer that is away takes nothing along
            await office.database.transact(lambda tx: self._book_opening(tx, owned_msat))

    def _short_of(self, channels: list[ChannelView]) -> str:
        config = self._office.config
        short = shortage(
            channels,
            needed_msat=config.routed_ladder_msat(),
            needed_slots=len(LADDER),
            slots_per_channel=config.slots_per_channel,
        )
        return short.check if short else ""

    def _blame(self, found: Trouble | None) -> None:
        sight = self._office.sight
        sentence = f"the coordinator's node: {found.sentence}" if found else ""
        if found and sentence != sight.trouble:
            log.warning("node.trouble", check=found.check, detail=found.sentence)
        sight.failing, sight.trouble = found.check if found else "", sentence
        tell_fitness(sight.failing)

    def _book_opening(self, tx: Transaction, amount: int) -> None:
        if amount and journal.opened_at_ms(tx) is None:
            journal.post(tx, ledger.opening(amount), now_ms=self._office.now_ms())


def _by_node(channels: list[ChannelView], left_in: Callable[[ChannelView], int]) -> dict[str, int]:
    """What the channels to each neighbour have left."""
    left: dict[str, int] = {}
    for channel in channels:
        left[channel.remote_pubkey] = left.get(channel.remote_pubkey, 0) + left_in(channel)
    return left
