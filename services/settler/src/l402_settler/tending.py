"""The hand that ends sponsors' tranches at our node: it looks, settles what was earned, and gives back the rest.

Here alone the settler acts on LND, and only on invoices that our own node made. The intent is in the books before LND
hears of it, and whatever LND answers is looked up again where the answer was lost. It decides nothing: `tranches` does.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
import structlog
from l402core import telemetry
from l402core.documents import Terms
from l402core.errors import Conflict, Contradiction, L402Error
from l402core.lnd.port import InvoiceState, InvoiceView
from l402core.outbox import Transaction
from l402core.sealing import Unseals
from l402core.secret import Secret
from l402core.sponsorship import Tranche

from l402_settler import sponsor_steps as steps
from l402_settler.adapters import books, sponsor_books
from l402_settler.adapters.freeze_books import TRANCHE
from l402_settler.freezing import freeze
from l402_settler.office import Office
from l402_settler.tranches import Due, Facts, due
from l402_settler.views import terms_of

log = structlog.get_logger()
Row = sa.Row[Any]
TEND_EVERY_S = 1.0
LOOK_EVERY_S = 15.0


class Node(Protocol):
    """What is needed of our node: it sees, settles and cancels invoices of its own."""

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None: ...

    def watch_invoice(self, payment_hash: bytes) -> AsyncIterator[InvoiceView]: ...

    async def settle_invoice(self, preimage: Secret) -> None: ...

    async def cancel_invoice(self, payment_hash: bytes) -> None: ...


class Tending:
    """The one loop that acts, and what it saw."""

    def __init__(self, office: Office, node: Node, key: Unseals) -> None:
        self._office = office
        self._node = node
        self._key = key
        self._listening: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def poke(self) -> None:
        """Something changed: look now, and wake whoever waits for a tranche."""
        self._wake.set()
        self._office.changed(steps.CHANGED)

    async def forever(self) -> None:
        """Look at every live tranche, whenever something changed and now and then. Outlives a silent node."""
        looked_at, clock = float("-inf"), asyncio.get_running_loop().time
        try:
            while True:
                look = clock() - looked_at >= LOOK_EVERY_S
                looked_at = clock() if look else looked_at
                try:
                    await self.tend(look=look)
                    await self._listen()
                except L402Error as error:
                    log.warning("sponsors.wait", code=error.code, detail=error.detail)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), TEND_EVERY_S)
                self._wake.clear()
        finally:
            for task in self._listening.values():
                task.cancel()

    async def tend(self, *, look: bool = True) -> None:
        """One look: take every step that is due. With `look`, also ask LND about invoices that nothing is due for."""
        office, asked_s = self._office, self._office.config.sponsor_announce_s
        if await office.database.read(lambda tx: sponsor_books.asked_before(tx, office.now_ms() - asked_s * 1_000)):
            await office.database.transact(lambda tx: steps.end_unanswered(office, tx))
        for line, judge_by_ms, parent in await self._office.database.read(_live):
            try:
                await self._tend(line, judge_by_ms, parent, look=look)
            except Contradiction as error:
                await self.freeze(line.payment_hash, error)
            except L402Error as error:
                log.warning("tranche.waits", payment_hash=line.payment_hash, code=error.code, detail=error.detail)

    async def _tend(self, line: Row, judge_by_ms: int, parent: str, *, look: bool) -> None:
        office = self._office
        if line.frozen:
            return await self._look(line) if look else None
        facts = Facts(
            state=Tranche(line.state), pay_by_ms=line.pay_by_ms, expiry_height=line.expiry_height,
            judge_by_ms=judge_by_ms,
        )  # fmt: skip
        what, reason = due(facts, office.config, now_ms=office.now_ms(), height=office.sight.height)
        if what is Due.GIVE_BACK:
            given = await office.database.transact(
                lambda tx: steps.give_back(office, tx, line.payment_hash, reason, only_if=facts.state)
            )
            what = Due.CANCEL if given else Due.LOOK
        if what is Due.LOOK:
            return await self._look(line) if look else None
        with telemetry.span(f"tranche {what}", parent=parent):
            await (self._settle(line) if what is Due.SETTLE else self._cancel(line))
        return None

    async def _look(self, line: Row) -> None:
        if line.state == Tranche.MINTING:
            return
        view = await self._node.lookup_invoice(bytes.fromhex(line.payment_hash))
        if view is not None:
            await self.see(view)

    async def _settle(self, line: Row) -> None:
        """Take what was earned. Nothing that may fail stands between LND's yes and its record."""
        hash_ = bytes.fromhex(line.payment_hash)
        view = await self._node.lookup_invoice(hash_)
        if view is None:
            raise Contradiction("tranche_missing", f"our node has no invoice on {line.payment_hash[:16]}…")
        if view.state is InvoiceState.ACCEPTED:
            preimage = self.unseal(line.sealed_preimage, line.payment_hash)
            with contextlib.suppress(Conflict):  # LND cancelled it a moment ago: the next look says so
                await self._node.settle_invoice(preimage)
                view = msgspec.structs.replace(view, state=InvoiceState.SETTLED)
        await self.see(view)

    async def _cancel(self, line: Row) -> None:
        """Give the money back at once, or see that nobody ever paid."""
        office, hash_ = self._office, bytes.fromhex(line.payment_hash)
        view = await self._node.lookup_invoice(hash_)
        if view is None:
            if office.now_ms() >= line.pay_by_ms + office.config.never_sent_s * 1000:  # later than this none is minted
                await office.database.transact(lambda tx: steps.see_never_made(office, tx, line.payment_hash))
                self.poke()
            return
        if view.state in (InvoiceState.OPEN, InvoiceState.ACCEPTED):
            await self._node.cancel_invoice(hash_)
            view = msgspec.structs.replace(view, state=InvoiceState.CANCELED)
        await self.see(view)

    async def see(self, view: InvoiceView) -> None:
        """Join what our node says of an invoice. Raises Contradiction."""
        await self._office.database.transact(lambda tx: steps.see(self._office, tx, view))
        if view.state is not InvoiceState.OPEN:
            self.poke()

    async def freeze(self, payment_hash: str, error: Contradiction) -> None:
        """Nobody acts on it any more until a person has looked."""
        office = self._office
        await office.database.transact(
            lambda tx: freeze(office, tx, TRANCHE, payment_hash, code=error.code, reason=error.detail)
        )

    async def _listen(self) -> None:
        """One subscription per invoice that somebody else may move; a cut one is taken up again at the next look."""
        lines = await self._office.database.read(sponsor_books.live_tranches)
        wanted = {one.payment_hash for one in lines if one.state in (Tranche.MINTED, Tranche.LOCKED, Tranche.FUNDING)}
        self._listening = {hash_: task for hash_, task in self._listening.items() if not task.done()}
        for hash_ in wanted - set(self._listening):
            self._listening[hash_] = asyncio.create_task(self._hear(hash_))

    async def _hear(self, payment_hash: str) -> None:
        try:
            async for view in self._node.watch_invoice(bytes.fromhex(payment_hash)):
                await self.see(view)
        except Contradiction as error:
            await self.freeze(payment_hash, error)
        except L402Error as error:
            log.warning("tranche.unheard", payment_hash=payment_hash, code=error.code, detail=error.detail)

    def unseal(self, sealed: str, payment_hash: str) -> Secret:
        """The preimage. Raises Contradiction for what does not open this hash."""
        try:
            preimage = Secret(self._key.unseal(bytes.fromhex(sealed)))
        except (ValueError, L402Error) as error:
            raise Contradiction("preimage_unreadable", "the oracle's preimage is not sealed to us") from error
        if hashlib.sha256(preimage.reveal()).hexdigest() != payment_hash:
            raise Contradiction("preimage_other", f"the oracle's preimage is not that of {payment_hash[:16]}…")
        return preimage


def _live(tx: Transaction) -> list[tuple[Row, int, str]]:
    """Every live tranche, with the judge_by of the round that it funds, and the trace that its pledge began."""
    found: list[tuple[Row, int, str]] = []
    for line in sponsor_books.live_tranches(tx):
        round_ = books.round_row(tx, line.round) if line.round else None
        terms: Terms | None = terms_of(round_) if round_ is not None else None
        found.append((line, terms.judge_by_ms if terms else 0, steps.trace_of(tx, line)))
    return found
