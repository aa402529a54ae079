"""Bugs planted on purpose, one at a time, each to be found by the simulator within a stated number of histories.

Each puts something wrong in the place of one function of the product while its histories are told. A bug that is not
found is a hole in the simulator, and fails the run.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import msgspec
import sqlalchemy as sa
from l402_invoicer import app as invoicer
from l402_invoicer.policy import Step, step_for
from l402_oracle.adapters import decisions
from l402_oracle.adapters import tables as oracle_tables
from l402_oracle.attestor import delivery, judgement
from l402_oracle.attestor.reveal import Reveal, may_reveal
from l402_peer_agent import fees as peer_fees
from l402_settler import app as settler
from l402_settler import escrows, ledger, tracking, watch
from l402_settler.adapters import books
from l402_settler.ledger import Phase, Transfer
from l402core import bus as real_bus
from l402core import outbox
from l402core.documents import Locked, Offer
from l402core.escrow import Sight
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.outbox import Database, Transaction

from tests.simulation import broker, runs
from tests.simulation.cast import Cast, Manner, Part
from tests.simulation.faults import Fault, Kind
from tests.simulation.runs import Trial
from tests.simulation.shelf import SimShelf

Patch = AbstractContextManager[Any]
ADA = Part("ada", 31)
AGAIN = tuple(Fault(Kind.DELIVERY_AGAIN, number, 3.0) for number in range(1, 80))
"""The bus tells everything four times."""


class Planted(msgspec.Struct, frozen=True):
    """One bug: how it is put in, the histories it is looked for in, and how many of them it may take."""

    name: str
    patch: Callable[[], Patch]
    trial: Callable[[int], Trial]
    within: int


# --- histories to look in -------------------------------------------------------------------------------------------


def plain(*parts: Part, hub: bool = False, faults: tuple[Fault, ...] = ()) -> Callable[[int], Trial]:
    """These peers in any order of events."""
    cast = Cast(parts=parts or (ADA,), hub=hub)
    return lambda seed: Trial(seed, cast, faults, f"seed {seed}")


def struck(
    kind: Kind, first: int, last: int, amount: float = 1.5, also: tuple[Fault, ...] = ()
) -> Callable[[int], Trial]:
    """One fault of a kind, somewhere in this span, beside others that are always there."""

    def trial(seed: int) -> Trial:
        at = first + (seed * 7) % (last - first + 1)
        return Trial(seed, Cast(parts=(ADA,)), (Fault(kind, at, amount), *also), f"seed {seed}, {kind} {at}")

    return trial


def hurried(low: int, high: int) -> Callable[[int], Trial]:
    """So many blocks at once, soon after the ladder is locked."""

    def trial(seed: int) -> Trial:
        burst = Fault(Kind.BLOCKS, 4 + seed % 4, float(low + seed % (high - low + 1)))
        late = Fault(Kind.DELIVERY_LATE, 30 + seed % 10, 6.0)
        return Trial(seed, Cast(parts=(ADA,)), (burst, late), f"seed {seed}, {burst}")

    return trial


# --- bugs -----------------------------------------------------------------------------------------------------------


def _replace(place: Any, name: str, by: Any) -> Callable[[], Patch]:
    return lambda: mock.patch.object(place, name, by)


def _unless(forget: Callable[[Transfer], bool]) -> Callable[[], Patch]:
    """Some lines are never written."""
    post = books.post

    def forgetful(tx: Transaction, *lines: Transfer, now_ms: int) -> bool:
        kept = [line for line in lines if not forget(line)]
        return post(tx, *kept, now_ms=now_ms) if kept else True

    return _replace(books, "post", forgetful)


def _sends_again(known: PaymentView | None, *, now_ms: int, not_after_ms: int) -> Step:
    if known is not None and known.status is PaymentStatus.FAILED and now_ms < not_after_ms:
        return Step.SEND
    return step_for(known, now_ms=now_ms, not_after_ms=not_after_ms)


@contextlib.contextmanager
def _judges_without_lock() -> Iterator[None]:
    """Neither the judgement nor the reveal waits for the settler's signed word."""
    early = judgement._early_fault

    def lenient(submission: Any, copies: Any) -> Any:
        fault = early(submission, copies)
        return None if fault is not None and fault.code == "not_locked" else fault

    def reveal(offer: Offer, locked: Locked | None, height: int | None, margin: int) -> Any:
        return Reveal.NOW if locked is None else may_reveal(offer, locked, height, margin)

    ready = property(lambda self: self.uploaded is not None and self.screened is not None)
    with (
        mock.patch.object(judgement, "_early_fault", lenient),
        mock.patch.object(judgement.Submission, "is_ready", ready),
        mock.patch.object(delivery, "may_reveal", reveal),
    ):
        yield


def _reveals_a_block_late(offer: Offer, locked: Locked | None, height: int | None, margin: int) -> Any:
    return may_reveal(offer, locked, None if height is None else height - 1, margin)


def _reveals_at_any_height(offer: Offer, locked: Locked | None, _height: int | None, margin: int) -> Any:
    return may_reveal(offer, locked, 0, margin)


def _books_every_delivery() -> Patch:
    times = iter(range(1_000_000))

    def book(tx: Transaction, payment_hash: str, amount_msat: int, settle_index: int, *, now_ms: int) -> None:
        books.add_fee(tx, payment_hash, amount_msat, settle_index)
        line = ledger.fee_received(payment_hash, amount_msat)
        books.post(tx, msgspec.structs.replace(line, id=f"{line.id}:{next(times)}"), now_ms=now_ms)

    return mock.patch.multiple(settler, book_fee=book, books=_Forgetful())


class _Forgetful:
    """Books without an inbox."""

    def __getattr__(self, name: str) -> Any:
        return (lambda *_, **__: True) if name == "is_first" else getattr(books, name)


def _credits_twice() -> Patch:
    issue = escrows.issue_credit

    def twice(office: Any, tx: Transaction, *, token_id: str, **about: Any) -> None:
        issue(office, tx, token_id=token_id, **about)
        issue(office, tx, token_id=token_id[::-1], **about)

    return mock.patch.object(tracking, "issue_credit", twice)


def _decides_again(tx: Transaction, *, newest: int) -> None:
    """A worker that measured otherwise is believed, too: the union of two decisions."""
    del newest
    table = oracle_tables.decisions
    tx.execute(sa.update(table).values(said=False, mask=table.c.mask.op("|")(1 << 5)))


def _settles_when_decided() -> Patch:
    scored = settler.Settler.on_scored

    async def early(self: Any, event: Any) -> None:
        await scored(self, event)
        lines = await self._office.database.read(lambda tx: books.rungs_of(tx, event.commitment))
        paid = [line for line in lines if event.mask >> line.rung & 1]
        looks = [tracking.Look(payment_hash=line.payment_hash, sight=Sight.SUCCEEDED) for line in paid]
        await tracking.record(self._office, looks)

    return mock.patch.object(settler.Settler, "on_scored", early)


async def _gives_up_at_once(self: Any, line: Any) -> Any:
    view = await self._node.lookup_payment(bytes.fromhex(line.payment_hash))
    return view if view is not None else tracking.never_sent(line.payment_hash)


def _forgets_before_the_ack() -> Patch:
    async def careless(self: Database, publisher: Any) -> bool:
        table = self._outbox
        rows = await self.read(lambda tx: tx.rows(sa.select(table).order_by(table.c.id).limit(outbox.BATCH)))
        if rows:
            await self.transact(lambda tx: tx.execute(sa.delete(table).where(table.c.id.in_([row.id for row in rows]))))
        for row in rows:
            await publisher.publish_raw(row.stream, row.subject, row.message_id, row.body)
        return bool(rows)

    return mock.patch.object(Database, "_publish_batch", careless)


def _all_rungs(_mask: int, rungs_: int) -> tuple[int, ...]:
    return tuple(range(rungs_))


def _wrong_end() -> Patch:
    ended = ledger.rung_ended

    def end(*about: Any, paid: bool) -> Transfer:
        return msgspec.structs.replace(ended(*about, paid=paid), phase=Phase.VOID)

    return mock.patch.object(ledger, "rung_ended", end)


@contextlib.contextmanager
def _pays_again() -> Iterator[None]:
    """The gateway, for its part, has forgotten the first challenge."""
    told = peer_fees._with

    def hasty(payment: Any, known: PaymentView | None) -> Any:
        return told(payment, known) if known else msgspec.structs.replace(payment, status="failed", again=False)

    async def forgotten(_self: Any, _key: str) -> None:
        return None

    with mock.patch.object(peer_fees, "_with", hasty), mock.patch.object(SimShelf, "unpaid", forgotten):
        yield


def _acks_first() -> Patch:
    deliver = real_bus.deliver

    async def eager(consumer: Any, decoder: Any, handler: Callable[[Any], Awaitable[None]], message: Any) -> None:
        await message.ack()
        await deliver(consumer, decoder, handler, message)

    return mock.patch.object(broker, "deliver", eager)


PLANTED: tuple[Planted, ...] = (
    Planted("a rung is sent again under a hash that failed", _replace(invoicer, "step_for", _sends_again),
            plain(Part("ada", 31, Manner.REFUSES_RUNGS), faults=AGAIN), 20),
    Planted("the end of a rung that came back is not booked", _unless(lambda line: line.phase is Phase.VOID), plain(), 3),
    Planted("the end of a paid rung is booked as a void", _wrong_end, plain(), 3),
    Planted("preimages leave without lock evidence",
            _judges_without_lock, struck(Kind.DELIVERY_LATE, 15, 45, 25.0), 60),
    Planted("preimages leave one block too late", _replace(delivery, "may_reveal", _reveals_a_block_late), hurried(38, 42), 60),
    Planted("the reveal does not look at the height", _replace(delivery, "may_reveal", _reveals_at_any_height),
            hurried(40, 60), 20),
    Planted("rungs outside of the decision are revealed", _replace(delivery, "mask_indices", _all_rungs), plain(), 3),
    Planted("a restart makes the union of two decisions", _replace(decisions, "tell_again", _decides_again),
            struck(Kind.KILL_AFTER, 100, 150), 60),
    Planted("a fee is booked at every delivery of its message", _books_every_delivery, plain(faults=AGAIN), 10),
    Planted("a failed escrow's fee is credited twice", _credits_twice, plain(Part("ada", 31, Manner.OUT_OF_REACH)), 10),
    Planted("rungs are booked as paid when they are decided", _settles_when_decided, plain(), 3),
    Planted("lnd's 'not found' is taken for a failure at once", _replace(watch.Watch, "_look_at", _gives_up_at_once),
            struck(Kind.KILL_AFTER, 40, 75, 0.05), 60),
    Planted("the outbox forgets before the bus has acknowledged", _forgets_before_the_ack,
            struck(Kind.PUBLISH_LOST, 20, 45), 60),
    Planted("a consumer acknowledges before it has acted", _acks_first, struck(Kind.KILL_AFTER, 60, 150, 3.0), 300),
    Planted("a forfeit is not booked", _unless(lambda line: line.kind == "forfeit"),
            plain(Part("ada", 31, Manner.NEVER_SETTLES)), 3),
    Planted("routing fees are not booked", _unless(lambda line: line.kind == "routing"), plain(hub=True), 3),
    Planted("a decision is not booked", _unless(lambda line: line.kind == "reward"), plain(), 3),
    Planted("a peer takes silence for failure and pays another fee", _pays_again,
            struck(Kind.LND_ANSWER_LOST, 1, 30, 0.0), 60),
)  # fmt: skip


class Found(msgspec.Struct, frozen=True):
    """After how many histories a bug was found, and by what; 0: not found."""

    name: str
    after: int
    within: int
    wrong: str


def look_for(planted: Planted) -> Found:
    """Tell histories until one goes wrong."""
    with planted.patch():
        for seed in range(1, planted.within + 1):
            told = runs.tell_trial(planted.trial(seed))
            if told.wrong:
                return Found(planted.name, seed, planted.within, told.wrong)
    return Found(planted.name, 0, planted.within, "")


def look_for_number(place: int) -> Found:
    """One of `PLANTED`, for another process."""
    return look_for(PLANTED[place])


def table(found: Iterable[Found]) -> Iterator[str]:
    """For people, a line each."""
    yield f"{'planted bug':58} {'found after':>11} {'of at most':>10}  by"
    for one in found:
        yield f"{one.name:58} {one.after or 'NOT FOUND':>11} {one.within:>10}  {one.wrong.partition(chr(10))[0]}"
