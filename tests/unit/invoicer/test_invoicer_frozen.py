"""What is frozen is not sent, also where its lock was asked for before; thawed, it is sent once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from l402_invoicer.adapters.cursor import FileCursor
from l402_invoicer.adapters.tally import FileTally
from l402_invoicer.app import Invoicer, _revision
from l402_invoicer.config import Config
from l402_invoicer.stops import Asks
from l402core.errors import Unavailable
from l402core.events import (
    EscrowDispatched,
    EscrowFrozen,
    EscrowRefused,
    EscrowThawed,
    Event,
    Question,
    ReadStops,
    Stand,
)
from l402core.lnd.port import PaymentStatus, PaymentView

from tests.support.watching import until
from tests.unit.invoicer.test_invoicer_policy import ATTESTOR, HASHES, NOW_S, a_lock

COMMITMENT = "cc" * 32
LIMIT_S = 30
A = TypeVar("A", bound=msgspec.Struct)


class Node:
    """A node that remembers what it was told to pay."""

    def __init__(self) -> None:
        self.paid: list[str] = []
        self.known: dict[bytes, PaymentView] = {}

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """As the port."""
        return self.known.get(payment_hash)

    async def pay(self, bolt11: str, **_terms: int) -> PaymentView:
        """As the port: it is on its way."""
        self.paid.append(bolt11)
        payment_hash = HASHES[a_lock().bolt11s.index(bolt11)]
        self.known[payment_hash] = PaymentView(payment_hash=payment_hash, status=PaymentStatus.IN_FLIGHT, amount_msat=1)
        return self.known[payment_hash]


class Settler:
    """What a settler would say of what is frozen; `silent` ones are not there."""

    def __init__(self, *stands: Stand) -> None:
        self.stands, self.silent = list(stands), False
        self.asked: list[tuple[str, ...]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def ask(self, question: Question, answer: type[A]) -> A:
        """As the bus."""
        assert isinstance(question, ReadStops)
        self.asked.append(question.about)
        if self.silent:
            raise Unavailable("bus", "settler did not answer")
        self.meanwhile()
        return msgspec.convert({"stands": self.stands}, answer, from_attributes=True)


class Bench:
    """One invoicer, which can be started again; with a settler it is in doubt when it begins."""

    def __init__(self, folder: Path, settler: Asks | None = None) -> None:
        self.folder, self.node, self.said, self.now_ms = folder, Node(), list[Event](), NOW_S * 1_000
        self.settler = settler
        self.start()

    def start(self) -> None:
        """A new process on the same files."""
        self.tally = FileTally(self.folder / "tally")
        self.invoicer = Invoicer(
            Config(attestor=ATTESTOR.public), self.node, self, FileCursor(self.folder / "cursor"), self.tally,  # type: ignore[arg-type]  # what is not asked here is missing
            now_ms=lambda: self.now_ms, settler=self.settler,
        )  # fmt: skip

    async def publish(self, event: Event, *, parent: str = "") -> None:
        """As the bus."""
        self.said.append(event)

    async def freeze(self, revision: int) -> None:
        """The settler's word."""
        await self.invoicer.stops.on_frozen(
            EscrowFrozen(id="f", occurred_at_ms=0, revision=revision, round=3, commitment=COMMITMENT)
        )

    async def thaw(self, revision: int) -> None:
        """The settler's word."""
        await self.invoicer.stops.on_thawed(
            EscrowThawed(id="t", occurred_at_ms=0, revision=revision, round=3, commitment=COMMITMENT)
        )

    async def waits(self) -> bool:
        """Whether the lock is to be tried again later."""
        return await self.why() == "frozen"

    async def why(self) -> str:
        """Why the lock is to be tried again later; '' where it was sent."""
        try:
            await self.invoicer.lock_ladder(a_lock())
        except Unavailable as later:
            return later.code
        return ""

    @contextlib.asynccontextmanager
    async def learning(self) -> AsyncIterator[None]:
        """The job that asks whenever in doubt."""
        job = asyncio.create_task(self.invoicer.stops.learn_forever())
        try:
            yield
        finally:
            job.cancel()

    async def knows(self) -> None:
        """Until it does."""
        await until(lambda: self.invoicer.stops.knows)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An invoicer with a node that pays."""
    made = Bench(tmp_path)
    yield made
    made.tally.close()


async def test_a_lock_in_hand_waits_until_it_is_thawed(bench: Bench) -> None:
    """Nothing is sent, and it is no failure; then every rung is sent once."""
    await bench.freeze(1)
    assert await bench.waits()
    assert (bench.node.paid, bench.said) == ([], [])
    await bench.thaw(2)
    assert not await bench.waits()
    assert len(bench.node.paid) == 6
    assert not await bench.waits()
    assert len(bench.node.paid) == 6


async def test_a_stop_survives_a_restart(bench: Bench) -> None:
    """What was written down before the process died holds for the next."""
    await bench.freeze(1)
    bench.tally.close()
    bench.start()
    assert await bench.waits()
    assert bench.node.paid == []


async def test_the_highest_word_holds_in_whatever_order_they_come(bench: Bench) -> None:
    """Facts come late, twice, and out of order."""
    await bench.thaw(2)
    await bench.freeze(1)
    assert not await bench.waits()
    await bench.freeze(3)
    await bench.thaw(2)
    assert await bench.waits() is False  # all was sent before: it is told as it is
    assert len(bench.node.paid) == 6


async def test_what_was_sent_before_is_told_as_it_is(bench: Bench) -> None:
    """A freeze does not hide what happens at the node; the rest of the ladder waits."""
    bench.node.known[HASHES[2]] = PaymentView(
        payment_hash=HASHES[2], status=PaymentStatus.SETTLED, amount_msat=1
    )  # fmt: skip
    await bench.freeze(1)
    assert await bench.waits()
    (told,) = bench.said
    assert isinstance(told, EscrowDispatched)
    assert ([rung.index for rung in told.rungs], bench.node.paid) == ([2], [])


async def test_what_waited_too_long_is_never_sent(bench: Bench) -> None:
    """Past its last moment it is refused, frozen or not: the settler gives the fee back."""
    await bench.freeze(1)
    bench.now_ms = a_lock().not_after_ms
    assert not await bench.waits()
    assert [type(event) for event in bench.said] == [EscrowRefused]
    assert bench.node.paid == []


async def test_an_invoicer_that_begins_sends_nothing_before_it_was_told_what_is_frozen(tmp_path: Path) -> None:
    """A settler that is away, or cannot tell, keeps every lock waiting; nothing is frozen, and all of it is sent."""
    settler = Settler()
    settler.silent = True
    bench = Bench(tmp_path, settler)
    async with bench.learning():
        await until(lambda: bool(settler.asked))
        assert (await bench.why(), bench.node.paid) == ("stops_unknown", [])
        settler.silent = False
        await bench.knows()
        assert (await bench.why(), len(bench.node.paid)) == ("", 6)
    bench.tally.close()


async def test_what_was_said_while_it_was_away_it_learns(tmp_path: Path) -> None:
    """A freeze holds what it has in hand, on its own disk too; a thaw of what it had noted as frozen lets it go."""
    settler = Settler(Stand(commitment=COMMITMENT, revision=1, frozen=True))
    bench = Bench(tmp_path, settler)
    async with bench.learning():
        await bench.knows()
        assert (await bench.why(), bench.node.paid) == ("frozen", [])
    bench.tally.close()
    settler.stands = [Stand(commitment=COMMITMENT, revision=2, frozen=False)]
    bench.start()
    async with bench.learning():
        await bench.knows()
        assert settler.asked[-1] == (COMMITMENT,)
        assert (await bench.why(), len(bench.node.paid)) == ("", 6)
    bench.tally.close()


async def test_an_answer_that_is_older_than_what_was_heard_changes_nothing(tmp_path: Path) -> None:
    """The thaw overtakes the answer that still has it frozen."""
    bench = Bench(tmp_path, Settler(Stand(commitment=COMMITMENT, revision=1, frozen=True)))
    await bench.thaw(2)
    async with bench.learning():
        await bench.knows()
        assert await bench.why() == ""
    bench.tally.close()


async def test_who_is_cut_off_while_it_is_told_asks_again(tmp_path: Path) -> None:
    """The bus goes away with the answer under way: what was said since may be missed."""
    settler = Settler()
    bench = Bench(tmp_path, settler)

    def cut_once() -> None:
        settler.meanwhile, settler.silent = lambda: None, True  # the next time
        bench.invoicer.stops.doubt()

    settler.meanwhile = cut_once
    async with bench.learning():
        await until(lambda: len(settler.asked) > 1)
        assert await bench.why() == "stops_unknown"
        settler.stands, settler.silent = [Stand(commitment=COMMITMENT, revision=1, frozen=True)], False
        await bench.knows()
        assert await bench.why() == "frozen"
    bench.tally.close()


def test_no_two_words_about_a_ladder_are_taken_for_one() -> None:
    """The bus drops what bears the number of what was said before: every attempt, and every set of states, has its own."""
    views = {status: PaymentView(payment_hash=b"", status=status, amount_msat=1) for status in PaymentStatus}
    numbers = [
        _revision(msgspec.structs.replace(a_lock(), revision=attempt), {3: views[one], 4: views[two]} | rest)
        for attempt in range(4)
        for one in PaymentStatus
        for two in PaymentStatus
        for rest in ({}, dict.fromkeys((0, 1, 2), views[PaymentStatus.IN_FLIGHT]), {5: views[one]})
    ]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < 2**53  # a number of JSON
