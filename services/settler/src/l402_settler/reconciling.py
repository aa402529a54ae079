"""One comparison of the whole books with our node's own lists: read in pages, doubted, then joined, frozen and told.

What differs is decided in `reconcile`. Neither the books nor the lists are ever in memory as a whole.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
import structlog
from l402core.errors import Unavailable
from l402core.escrow import Rung
from l402core.events import LedgerDifference, Reconciled
from l402core.lnd.port import ChannelView, InvoiceState, InvoiceView, PaymentView
from l402core.lnd.stranded import ended, is_past, is_stranded
from l402core.outbox import Transaction

from l402_settler.adapters import books, fee_books, owed_books, sponsor_books
from l402_settler.adapters.explained_books import explained_of
from l402_settler.adapters.outside_books import is_outside
from l402_settler.adapters.scratch import Scratch
from l402_settler.fees import book_fee
from l402_settler.merging import side_by_side
from l402_settler.office import Office
from l402_settler.outside import IN, OUT
from l402_settler.reconcile import (
    CONTRADICTION,
    EXPLAINED,
    FOREIGN,
    GRAVITY,
    LAG,
    ROUTING,
    BookedRung,
    compare_fees,
    compare_rungs,
)
from l402_settler.sponsor_reconcile import compare_tranches
from l402_settler.tracking import Look

log = structlog.get_logger()
TOLD_MAX = 1_000


class Node(Protocol):
    """What is needed of our node: its lists in pages, and a second look at one entry."""

    def payment_pages(self) -> AsyncIterator[list[PaymentView]]: ...

    def invoice_pages(self) -> AsyncIterator[list[InvoiceView]]: ...

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None: ...

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None: ...

    async def channels(self) -> list[ChannelView]: ...

    async def closing_channels(self) -> int: ...


class Stranded(msgspec.Struct, frozen=True):
    """Payments with those that can never be paid any more shown as failed, and those of which that is not known yet."""

    views: list[PaymentView]
    undecided: frozenset[str]
    """Hashes of payments whose HTLCs have expired and are in no channel, while some channel is still being closed."""


async def without_stranded(node: Node, seen: Sequence[PaymentView], height: int) -> Stranded:
    """What LND will call in flight for ever has ended. Raises Unavailable."""
    past = {view.payment_hash for view in seen if is_past(view, height)}
    if not past:
        return Stranded(list(seen), frozenset())
    out = {hash_ for channel in await node.channels() for hash_ in channel.pending_out_hashes}
    closing = await node.closing_channels()
    again = {hash_: await node.lookup_payment(hash_) for hash_ in past}
    over = {
        hash_: ended(view)
        for hash_, view in again.items()
        if view is not None and is_stranded(view, height, out=out, closing=closing)
    }
    open_ = (hash_ for hash_, view in again.items() if view is not None and is_past(view, height) and hash_ not in out)
    return Stranded(
        [over.get(view.payment_hash, view) for view in seen],
        frozenset(hash_.hex() for hash_ in open_ if hash_ not in over),
    )


class Reconciling:
    """Compares; `record` joins what was seen into the books, `freeze` stops the owner of a payment hash, with a code and
    a reason."""

    def __init__(
        self, office: Office, node: Node, *, record: Callable[[Sequence[PaymentView | Look]], Awaitable[None]],
        freeze: Callable[[str, str, str], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._office = office
        self._node = node
        self._record = record
        self._freeze = freeze

    async def reconcile(self) -> Reconciled:
        """What lags is joined, what contradicts is frozen, all of it is told. Raises Unavailable."""
        office = self._office
        if office.sight.height == 0:
            raise Unavailable("node", "our node's height is not known yet, and what has expired cannot be told")
        rungs, of_rungs = await self._rungs()
        tranches = await office.database.read(sponsor_books.all_tranches)
        with Scratch(InvoiceView) as invoices:
            async for page in self._node.invoice_pages():
                invoices.put((view.payment_hash.hex(), view) for view in page)
            after = await office.database.read(sponsor_books.all_tranches)
            sponsors = [row.payment_hash for row in after]
            fees, of_fees = await self._fees(invoices, frozenset(sponsors))
            found = await self._weighed(compare_tranches(tranches, after, invoices.at(sponsors).values()))
        await self._act(found)
        differences = sorted((*of_rungs, *of_fees, *found), key=lambda one: GRAVITY.index(one.weight))
        log.info("ledger.reconciled", rungs=rungs, fees=fees, tranches=len(tranches), differences=len(differences))
        return Reconciled(
            at_ms=office.now_ms(), rungs=rungs, fees=fees, tranches=len(tranches),
            differences=tuple(differences[:TOLD_MAX]), untold=max(0, len(differences) - TOLD_MAX),
        )  # fmt: skip

    async def _rungs(self) -> tuple[int, list[LedgerDifference]]:
        """How many there are, and what differs."""
        count, found = 0, list[LedgerDifference]()
        with Scratch(PaymentView) as payments:
            async for page in self._node.payment_pages():
                payments.put((view.payment_hash.hex(), without_secret(view)) for view in page)
            async for booked, told in side_by_side(self._booked, payments.between):
                count += len(booked)
                for one in await self._compared(booked.values(), told.values()):
                    found += await self._confirmed(one)
        return count, found

    async def _compared(self, booked: Iterable[BookedRung], told: Iterable[PaymentView]) -> list[LedgerDifference]:
        seen = await without_stranded(self._node, list(told), self._office.sight.height)
        payments = {view.payment_hash.hex(): view for view in seen.views}
        return compare_rungs(booked, payments, undecided=seen.undecided)

    async def _confirmed(self, doubt: LedgerDifference) -> list[LedgerDifference]:
        """The same looked at once more, the books first: what moved since its page was read is no difference."""
        if doubt.weight == FOREIGN:
            return [] if await self._office.database.read(lambda tx: _is_told(tx, doubt.payment_hash)) else [doubt]
        row, routing_msat = await self._office.database.read(
            lambda tx: (books.rung(tx, doubt.payment_hash), books.routing_of(tx, doubt.payment_hash))
        )
        view = await self._node.lookup_payment(bytes.fromhex(doubt.payment_hash))
        found = await self._compared(
            [] if row is None else [_booked(row, routing_msat)], [] if view is None else [view]
        )
        found = await self._weighed(found)
        for one in found:
            if one.weight == LAG and view is not None:
                await self._record((await without_stranded(self._node, [view], self._office.sight.height)).views)
        await self._act(found)
        return found

    async def _weighed(self, found: list[LedgerDifference]) -> list[LedgerDifference]:
        """What a person has explained is no contradiction any more."""
        wrong = [one.payment_hash for one in found if one.weight in (CONTRADICTION, ROUTING)]
        known = await self._office.database.read(lambda tx: explained_of(tx, wrong)) if wrong else frozenset[str]()
        return [msgspec.structs.replace(one, weight=EXPLAINED) if one.payment_hash in known else one for one in found]

    async def _act(self, found: Iterable[LedgerDifference]) -> None:
        for one in found:
            if one.weight == CONTRADICTION:
                log.critical("ledger.contradiction", **msgspec.structs.asdict(one))
                reason = f"the books have this {one.what} {one.books}, our node {one.lnd}: {one.amount_msat} msat"
                await self._freeze(one.payment_hash, "ledger_contradiction", reason)
            if one.weight == ROUTING:
                log.critical("ledger.routing", **msgspec.structs.asdict(one))

    async def _booked(self, after: str, at_most: int) -> dict[str, BookedRung]:
        def read(tx: Transaction) -> dict[str, BookedRung]:
            rows = books.rungs_after(tx, after, at_most)
            routing = books.routing_between(tx, after, rows[-1].payment_hash) if rows else {}
            return {row.payment_hash: _booked(row, routing.get(row.payment_hash, 0)) for row in rows}

        return await self._office.database.read(read)

    async def _fees(
        self, invoices: Scratch[InvoiceView], sponsors: frozenset[str]
    ) -> tuple[int, list[LedgerDifference]]:
        """How many there are, and what differs; fees of which no message told are booked."""
        count, found, office = 0, list[LedgerDifference](), self._office

        async def booked(after: str, at_most: int) -> dict[str, int]:
            return await office.database.read(lambda tx: fee_books.fees_after(tx, after, at_most))

        async for fees, told in side_by_side(booked, invoices.between):
            count += len(fees)
            others = [view for hash_, view in told.items() if hash_ not in sponsors]
            for doubt in compare_fees(fees, others, memo_prefix=office.config.fee_memo_prefix):
                found += await self._confirmed_fee(doubt, told.get(doubt.payment_hash))
        return count, found

    async def _confirmed_fee(self, doubt: LedgerDifference, told: InvoiceView | None) -> list[LedgerDifference]:
        office, hash_ = self._office, doubt.payment_hash
        row = await office.database.read(lambda tx: fee_books.fee(tx, hash_))
        fresh = told if doubt.weight != CONTRADICTION else await self._node.lookup_invoice(bytes.fromhex(hash_))
        found = compare_fees(
            {hash_: row.amount_msat} if row is not None else {}, [fresh] if fresh is not None else [],
            memo_prefix=office.config.fee_memo_prefix,
        )  # fmt: skip
        found = await self._weighed([one for one in found if not await self._came_from_outside(one)])
        for one in found:
            if one.weight == LAG and fresh is not None and fresh.state is InvoiceState.SETTLED:
                await self._book(fresh)
        await self._act(found)
        return found

    async def _came_from_outside(self, one: LedgerDifference) -> bool:
        """Whether it is foreign, and a person has explained it."""
        is_foreign = one.weight == FOREIGN
        return is_foreign and await self._office.database.read(lambda tx: is_outside(tx, one.payment_hash, IN))

    async def _book(self, fee: InvoiceView) -> None:
        """A fee that our node has and no message told of: a stream that vanished took it along."""
        office, hash_ = self._office, fee.payment_hash.hex()
        await office.database.transact(
            lambda tx: book_fee(tx, hash_, fee.paid_msat, fee.settle_index, now_ms=office.now_ms())
        )


def without_secret(view: PaymentView) -> PaymentView:
    """The same without its preimage, which is not written into any file."""
    return view if view.preimage is None else msgspec.structs.replace(view, preimage=None)


def _is_told(tx: Transaction, payment_hash: str) -> bool:
    """Whether a person has said what a payment was that is no rung: of a debt, or outside of the protocol."""
    return owed_books.settled_with(tx, payment_hash) is not None or is_outside(tx, payment_hash, OUT)


def _booked(row: sa.Row[Any], routing_msat: int) -> BookedRung:
    return BookedRung(
        payment_hash=row.payment_hash, commitment=row.commitment, amount_msat=row.amount_msat, state=Rung(row.state),
        routing_msat=routing_msat,
    )  # fmt: skip
