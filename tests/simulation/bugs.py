"""Bugs to plant: each puts something wrong in the place of one function of the product while its block lasts."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import msgspec
import sqlalchemy as sa
from l402_invoicer import stops
from l402_invoicer.policy import Step, step_for
from l402_oracle.adapters import decisions
from l402_oracle.adapters import tables as oracle_tables
from l402_oracle.attestor import delivery, judgement, judging, payable
from l402_oracle.attestor.reveal import Reveal, may_reveal
from l402_peer_agent import fees as peer_fees
from l402_settler import admission, escrows, ledger, submissions, tracking
from l402_settler import app as settler
from l402_settler.adapters import books, fee_books, inbox, journal
from l402_settler.ledger import Phase, Transfer
from l402_settler.rounds import missed
from l402_settler.sponsorships import Sponsors
from l402core import delivering as real
from l402core import outbox
from l402core.documents import Locked, Offer
from l402core.errors import NotFound
from l402core.escrow import Sight
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.outbox import Database, Transaction
from l402core.streams import Declared

from tests.simulation import broker
from tests.simulation.shelf import SimShelf
from tests.simulation.story import disks

Patch = AbstractContextManager[Any]
TOKENS = ("tokens", "PRIMARY KEY (token_id)"), ("submissions", "UNIQUE (token_id)")
"""What in the database itself lets a token be used once."""


def replaced(place: Any, name: str, by: Any) -> Callable[[], Patch]:
    return lambda: mock.patch.object(place, name, by)


def unless(forget: Callable[[Transfer], bool]) -> Callable[[], Patch]:
    """Some lines are never written."""
    post = journal.post

    def forgetful(tx: Transaction, *lines: Transfer, now_ms: int) -> bool:
        kept = [line for line in lines if not forget(line)]
        return post(tx, *kept, now_ms=now_ms) if kept else True

    return replaced(journal, "post", forgetful)


def sends_again(known: PaymentView | None, *, now_ms: int, not_after_ms: int) -> Step:
    if known is not None and known.status is PaymentStatus.FAILED and now_ms < not_after_ms:
        return Step.SEND
    return step_for(known, now_ms=now_ms, not_after_ms=not_after_ms)


@contextlib.contextmanager
def judges_without_lock() -> Iterator[None]:
    """Neither the judgement nor the reveal waits for the settler's signed word."""
    early = judgement._early_fault

    def lenient(submission: Any, copies: Any) -> Any:
        fault = early(submission, copies)
        return None if fault is not None and fault.code == "not_locked" else fault

    def reveal(offer: Offer, locked: Locked | None, height: int | None, margin: int) -> Any:
        return Reveal.NOW if locked is None else may_reveal(offer, locked, height, margin)

    ready = property(lambda self: self.uploaded is not None and self.screened is not None)
    with (
        mock.patch.object(judging, "unpayable", return_value={}),
        mock.patch.object(judgement, "_early_fault", lenient),
        mock.patch.object(judgement.Submission, "is_ready", ready),
        mock.patch.object(delivery, "may_reveal", reveal),
    ):
        yield


@contextlib.contextmanager
def reveals_by(rule: Callable[[Offer, Locked | None, int | None, int], Reveal]) -> Iterator[None]:
    """The rule of the reveal is wrong wherever it is asked."""
    with mock.patch.object(delivery, "may_reveal", rule), mock.patch.object(payable, "may_reveal", rule):
        yield


def reveals_a_block_late() -> Patch:
    return reveals_by(
        lambda offer, locked, height, margin: may_reveal(offer, locked, None if height is None else height - 1, margin)
    )


def reveals_at_any_height() -> Patch:
    return reveals_by(lambda offer, locked, _height, margin: may_reveal(offer, locked, 0, margin))


@contextlib.contextmanager
def judges_what_it_cannot_pay() -> Iterator[None]:
    """The reveal is refused, and what it was for is shown to everybody."""
    with mock.patch.object(judging, "unpayable", return_value={}):
        yield


@contextlib.contextmanager
def judges_after_all() -> Iterator[None]:
    """A peer asks when its time is over, and is told that nothing will be decided."""
    with mock.patch.object(decisions, "lapse", return_value=False), mock.patch.object(delivery, "TooEarly", NotFound):
        yield


def books_every_delivery() -> Patch:
    times = iter(range(1_000_000))

    def book(tx: Transaction, payment_hash: str, amount_msat: int, settle_index: int, *, now_ms: int) -> None:
        fee_books.add_fee(tx, payment_hash, amount_msat, settle_index)
        line = ledger.fee_received(payment_hash, amount_msat)
        journal.post(tx, msgspec.structs.replace(line, id=f"{line.id}:{next(times)}"), now_ms=now_ms)

    return mock.patch.multiple(settler, book_fee=book, inbox=_Forgetful())


class _Forgetful:
    """An inbox that forgets at once."""

    def __getattr__(self, name: str) -> Any:
        return (lambda *_, **__: True) if name == "is_first" else getattr(inbox, name)


def credits_twice() -> Patch:
    issue = escrows.issue_credit

    def twice(office: Any, tx: Transaction, *, token_id: str, **about: Any) -> None:
        issue(office, tx, token_id=token_id, **about)
        issue(office, tx, token_id=token_id[::-1], **about)

    return mock.patch.object(tracking, "issue_credit", twice)


def decides_again(tx: Transaction, *, newest: int) -> None:
    """A worker that measured otherwise is believed, too: the union of two decisions."""
    del newest
    table = oracle_tables.decisions
    tx.execute(sa.update(table).values(said=False, mask=table.c.mask.op("|")(1 << 5)))


def forgets_the_expiry() -> Patch:
    """A rung is in flight, and the books do not say until when."""
    moved = books.move_rungs

    def forgetful(*about: Any, expiry_height: int, **values: Any) -> None:
        del expiry_height
        moved(*about, expiry_height=0, **values)

    return mock.patch.object(books, "move_rungs", forgetful)


def misses_late(*about: Any, now_ms: int, **facts: Any) -> str:
    """Every deadline of an escrow is kept, minutes later."""
    return missed(*about, now_ms=now_ms - 150_000, **facts)


def settles_when_decided() -> Patch:
    scored = settler.Settler.on_scored

    async def early(self: Any, event: Any) -> None:
        await scored(self, event)
        lines = await self._office.database.read(lambda tx: books.rungs_of(tx, event.commitment))
        paid = [line for line in lines if event.mask >> line.rung & 1]
        looks = [tracking.Look(payment_hash=line.payment_hash, sight=Sight.SUCCEEDED) for line in paid]
        await tracking.record(self._office, looks)

    return mock.patch.object(settler.Settler, "on_scored", early)


async def gives_up_at_once(self: Any, line: Any) -> Any:
    view = await self._node.lookup_payment(bytes.fromhex(line.payment_hash))
    return view if view is not None else tracking.never_sent(line.payment_hash)


def forgets_before_the_ack() -> Patch:
    async def careless(self: Database, publisher: Any) -> bool:
        table = self._outbox
        rows = await self.read(lambda tx: tx.rows(sa.select(table).order_by(table.c.id).limit(outbox.BATCH)))
        if rows:
            await self.transact(lambda tx: tx.execute(sa.delete(table).where(table.c.id.in_([row.id for row in rows]))))
        for row in rows:
            await publisher.publish_raw(row.stream, row.subject, row.message_id, row.body)
        return bool(rows)

    return mock.patch.object(Database, "_publish_batch", careless)


def all_rungs(_mask: int, rungs_: int) -> tuple[int, ...]:
    return tuple(range(rungs_))


def wrong_end() -> Patch:
    ended = ledger.rung_ended

    def end(*about: Any, paid: bool) -> Transfer:
        return msgspec.structs.replace(ended(*about, paid=paid), phase=Phase.VOID)

    return mock.patch.object(ledger, "rung_ended", end)


@contextlib.contextmanager
def pays_again() -> Iterator[None]:
    """The gateway, for its part, has forgotten the first challenge."""
    told = peer_fees._with

    def hasty(payment: Any, known: PaymentView | None) -> Any:
        return told(payment, known) if known else msgspec.structs.replace(payment, status="failed", again=False)

    async def forgotten(_self: Any, _key: str) -> None:
        return None

    with mock.patch.object(peer_fees, "_with", hasty), mock.patch.object(SimShelf, "unpaid", forgotten):
        yield


def sends_what_is_frozen() -> Patch:
    """It is written down, and nobody looks."""

    async def noted(self: Any, event: Any, *, frozen: bool) -> None:
        self._notes.note_stop(event.commitment, event.revision, self._now_ms(), frozen=frozen)

    return mock.patch.object(stops.Stops, "_stand", noted)


def begins_without_doubt(_self: stops.Stops) -> None:
    """An invoicer that starts takes what is on its disk for all that is frozen."""


def declares_in_silence() -> Patch:
    """A stream that was lost is there again, and nobody says what it held."""
    restore = Declared.restore

    async def silent(self: Declared) -> list[str]:
        await restore(self)
        return []

    return mock.patch.object(Declared, "restore", silent)


def asks_in_vain(_self: Database, _mark: str) -> None:
    """A request that is made again has the id that the bus knows."""


async def forgets_sponsors(_self: Sponsors) -> None:
    """What is said again is about escrows alone."""


def acks_first() -> Patch:
    deliver = real.deliver

    async def eager(
        consumer: Any, decoder: Any, handler: Callable[[Any], Awaitable[None]], message: Any, *more: Any
    ) -> None:
        await message.ack()
        await deliver(consumer, decoder, handler, message, *more)

    return mock.patch.object(broker, "deliver", eager)


@contextlib.contextmanager
def token_unasked() -> Iterator[None]:
    """Nobody looks whether a token was used before, and the database no longer minds."""
    with disks()[0].without(*TOKENS), mock.patch.object(fee_books, "token", return_value=None):
        yield


@contextlib.contextmanager
def fee_serves_twice() -> Iterator[None]:
    """And whoever has a place gets another one for the same fee."""
    may_open = submissions.may_open

    def generous(*about: Any, **facts: Any) -> Any:
        return may_open(*about, **{**facts, "open_peers": frozenset()})

    with token_unasked(), mock.patch.object(admission, "may_open", generous):
        yield
