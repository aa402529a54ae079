"""What is frozen is not sent, also where its lock was asked for before; thawed, it is sent once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from l402_invoicer.adapters.cursor import FileCursor
from l402_invoicer.adapters.tally import FileTally
from l402_invoicer.app import Invoicer
from l402_invoicer.config import Config
from l402core.errors import Unavailable
from l402core.events import EscrowDispatched, EscrowFrozen, EscrowRefused, EscrowThawed, Event
from l402core.lnd.port import PaymentStatus, PaymentView

from tests.unit.invoicer.test_invoicer_policy import ATTESTOR, HASHES, NOW_S, a_lock

COMMITMENT = "cc" * 32


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


class Bench:
    """One invoicer, which can be started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.node, self.said, self.now_ms = folder, Node(), list[Event](), NOW_S * 1_000
        self.start()

    def start(self) -> None:
        """A new process on the same files."""
        self.tally = FileTally(self.folder / "tally")
        self.invoicer = Invoicer(
            Config(attestor=ATTESTOR.public), self.node, self, FileCursor(self.folder / "cursor"), self.tally,  # type: ignore[arg-type]  # what is not asked here is missing
            now_ms=lambda: self.now_ms,
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
        try:
            await self.invoicer.lock_ladder(a_lock())
        except Unavailable as later:
            return later.code == "frozen"
        return False


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
    assert (told.index, bench.node.paid) == (2, [])


async def test_what_waited_too_long_is_never_sent(bench: Bench) -> None:
    """Past its last moment it is refused, frozen or not: the settler gives the fee back."""
    await bench.freeze(1)
    bench.now_ms = a_lock().not_after_ms
    assert not await bench.waits()
    assert [type(event) for event in bench.said] == [EscrowRefused]
    assert bench.node.paid == []
