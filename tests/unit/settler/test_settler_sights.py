"""What our node tells of many rungs at once, and how little of it costs a commit."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import sqlalchemy as sa
from l402_settler.adapters import books
from l402_settler.app import Settler
from l402_settler.tracking import record
from l402_settler.watch import Watch
from l402core.errors import Unavailable
from l402core.events import DispatchedRung, EscrowDispatched
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.signing import SigningKey
from sqlalchemy import event

from tests.support.settler import PEER, Stage, sha
from tests.unit.settler.test_settler_watch import OneNode

OTHER = SigningKey(b"\x21" * 32)


def sight(name: str, index: int, status: PaymentStatus, height: int = 190) -> PaymentView:
    """Our node's word on one rung."""
    return PaymentView(
        payment_hash=bytes.fromhex(sha(f"rung {name} {index}")), status=status, amount_msat=0,
        htlc_expiry_heights=(height,),
    )  # fmt: skip


def ladder(name: str, status: PaymentStatus, height: int = 190) -> list[PaymentView]:
    """Its word on a whole ladder."""
    return [sight(name, index, status, height) for index in range(6)]


class Commits:
    """Counts a stage's write transactions."""

    def __init__(self, stage: Stage) -> None:
        self.count = 0
        event.listen(stage.database.engine, "commit", self._one)

    def _one(self, _connection: sa.Connection) -> None:
        self.count += 1


@pytest.fixture
async def locking(stage: Stage) -> Stage:
    """A ladder that is registered, and nothing seen of it."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    return stage


async def test_a_ladder_seen_at_once_is_one_commit_and_seen_again_none(locking: Stage) -> None:
    """Six rungs in flight: one transaction. The same word again, as LND tells it after a reconnect: none."""
    commits = Commits(locking)
    await record(locking.office, ladder("a", PaymentStatus.IN_FLIGHT))
    assert commits.count == 1
    await record(locking.office, ladder("a", PaymentStatus.IN_FLIGHT))
    await record(locking.office, [sight("stranger", 0, PaymentStatus.IN_FLIGHT)])
    assert commits.count == 1
    view = await locking.office.view(sha("a"))
    assert [rung.state for rung in view.rungs] == ["in flight"] * 6


async def test_another_route_is_news(locking: Stage) -> None:
    """The HTLC that is out now expires elsewhere: the guardian must know."""
    await record(locking.office, ladder("a", PaymentStatus.IN_FLIGHT))
    await record(locking.office, [sight("a", 3, PaymentStatus.IN_FLIGHT, height=205)])
    lines = await locking.database.read(lambda tx: books.rungs_of(tx, sha("a")))
    assert [line.expiry_height for line in lines] == [190, 190, 190, 205, 190, 190]


async def test_out_and_back_within_one_batch_is_both_steps(locking: Stage) -> None:
    """Nothing is skipped because it came together: the rung was out, then it was back, and the escrow failed."""
    await record(locking.office, [sight("a", 0, PaymentStatus.IN_FLIGHT), sight("a", 0, PaymentStatus.FAILED)])
    view = await locking.office.view(sha("a"))
    assert (view.state, view.rungs[0].state) == ("failed", "returned")


async def test_one_impossible_escrow_does_not_hold_up_the_others(stage: Stage) -> None:
    """A rung paid and failed: its escrow is frozen, and its neighbour's rungs are joined all the same."""
    for name, peer in (("a", PEER), ("b", OTHER)):
        await stage.desk.open(stage.opening(name, peer=peer))
        await stage.settler.on_offer(stage.offer(name, peer=peer.public))
        await stage.desk.register_locks(msgspec.structs.replace(stage.locks(name), peer=peer.public))
    await record(stage.office, ladder("a", PaymentStatus.FAILED))
    watch = Watch(stage.office, Telling([*ladder("a", PaymentStatus.SETTLED), *ladder("b", PaymentStatus.IN_FLIGHT)]))
    with pytest.raises(Unavailable):
        await watch._follow()
    rows = await stage.database.read(lambda tx: books.submissions_of(tx, 1))
    assert [row.commitment for row in rows if row.frozen] == [sha("a")]
    assert {rung.state for rung in (await stage.office.view(sha("b"))).rungs} == {"in flight"}


async def test_a_hint_about_a_rung_that_the_node_has_told_of_asks_it_nothing(stage: Stage) -> None:
    """Though it is in nobody's books yet. Of what the stream does not tell, the node is asked."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    node = Telling([sight("a", 0, PaymentStatus.IN_FLIGHT)])
    with pytest.raises(Unavailable):
        async for _ in Watch(stage.office, node)._looks():
            pass
    settler = Settler(stage.office, None, node)  # type: ignore[arg-type]  # the bus is not touched here
    await settler.on_dispatched(hint(0, 1))
    assert node.asked == [bytes.fromhex(sha("rung a 1"))]


async def test_a_hint_that_overtakes_the_stream_waits_for_it(stage: Stage) -> None:
    """The invoicer's word comes first, and the stream tells of both rungs while the settler waits: it asks nothing."""
    node = Telling([sight("a", index, PaymentStatus.IN_FLIGHT) for index in (0, 1)])
    settler = Settler(stage.office, None, node)  # type: ignore[arg-type]  # the bus is not touched here
    hinted = asyncio.create_task(settler.on_dispatched(hint(0, 1)))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        async for _ in Watch(stage.office, node)._looks():
            pass
    await hinted
    assert node.asked == []


def hint(*indices: int) -> EscrowDispatched:
    """The invoicer's word that these rungs of ladder a are on their way."""
    rungs = [DispatchedRung(index=index, payment_hash=sha(f"rung a {index}"), status="IN_FLIGHT") for index in indices]
    return EscrowDispatched(id="d", occurred_at_ms=0, round=1, commitment=sha("a"), rungs=tuple(rungs))


class Telling(OneNode):
    """A node whose stream tells this and is cut."""

    def __init__(self, views: list[PaymentView]) -> None:
        super().__init__()
        self._views = views
        self.asked: list[bytes] = []

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """Nothing, and noted."""
        self.asked.append(payment_hash)
        return None

    async def watch_payments(self) -> AsyncIterator[PaymentView]:
        """All of it."""
        for view in self._views:
            yield view
        raise Unavailable("lnd", "cut")
