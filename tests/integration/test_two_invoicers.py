"""Two invoicers on one bus: a freeze that one of them is handed stops the lock that the other has in hand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from l402_invoicer.app import CONSUMERS
from l402core.bus import Bus, migrate
from l402core.events import EscrowFrozen, EscrowThawed, ReadStops

from tests.support.cutting import Cut
from tests.support.nats import running_nats
from tests.support.settler import Stage
from tests.support.watching import until
from tests.unit.invoicer.test_invoicer_frozen import COMMITMENT, Bench


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server with the streams and the consumers that all invoicers share."""
    with running_nats(tmp_path / "nats") as address:
        asyncio.run(migrate(address, CONSUMERS))
        yield address


@contextlib.asynccontextmanager
async def listening(url: str, bench: Bench) -> AsyncIterator[None]:
    """One replica, on the bus as its `__main__` puts it there."""
    async with on(Bus(url, "invoicer"), bench):
        yield


@contextlib.asynccontextmanager
async def on(bus: Bus, bench: Bench) -> AsyncIterator[None]:
    """The same on this connection."""
    bench.invoicer.stops.register(bus)
    await bus.start()
    try:
        async with bench.learning() if bench.settler else contextlib.nullcontext():
            yield
    finally:
        await bus.stop()
        bench.tally.close()


@pytest.fixture
async def replicas(tmp_path: Path, url: str) -> AsyncIterator[tuple[Bench, Bench]]:
    """Each with files of its own, and one node."""
    benches = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        benches.append(Bench(tmp_path / name))
    one, two = benches
    two.node.paid, two.node.known = one.node.paid, one.node.known  # it is the same node
    async with listening(url, one), listening(url, two):
        yield one, two


async def heard(replicas: tuple[Bench, Bench], *, stopped: bool) -> None:
    """Until both stand so."""
    await until(lambda: all(one.invoicer.stops.holds(COMMITMENT) is stopped for one in replicas))


async def test_both_hear_of_each_freeze_and_each_thaw(url: str, replicas: tuple[Bench, Bench]) -> None:
    """Neither sends what it has in hand while it is frozen; thawed, the ladder is sent once, by whoever comes first."""
    settler = Bus(url, "settler")
    await settler.start()
    await settler.publish(EscrowFrozen(id="f", occurred_at_ms=0, revision=1, round=3, commitment=COMMITMENT))
    await heard(replicas, stopped=True)
    for one in replicas:
        assert await one.waits()
    assert replicas[0].node.paid == []
    await settler.publish(EscrowThawed(id="t", occurred_at_ms=0, revision=2, round=3, commitment=COMMITMENT))
    await heard(replicas, stopped=False)
    for one in replicas:
        assert not await one.waits()
    assert len(replicas[0].node.paid) == 6
    await settler.stop()


async def test_what_a_replica_has_overheard_is_on_its_own_disk(url: str, replicas: tuple[Bench, Bench]) -> None:
    """Started again, it knows, whichever of them was handed the word."""
    settler = Bus(url, "settler")
    await settler.start()
    await settler.publish(EscrowFrozen(id="f", occurred_at_ms=0, revision=1, round=3, commitment=COMMITMENT))
    await settler.stop()
    await until(lambda: all(COMMITMENT in one.tally.stopped() for one in replicas))


# One that was not there when it was said.


@contextlib.asynccontextmanager
async def a_settler(tmp_path: Path, url: str) -> AsyncIterator[Stage]:
    """Real books with the escrow of the lock that these benches have in hand, and its answers on the bus."""
    folder = tmp_path / "books"
    folder.mkdir()
    stage = Stage(folder)
    await stage.open_round()
    await stage.desk.open(stage.opening("a"))
    with stage.database.engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("update submissions set commitment = ?", (COMMITMENT,))
    bus = Bus(url, "settler")
    bus.answer(ReadStops, stage.settler.read_stops)
    await bus.start()
    yield stage
    await bus.stop()
    stage.database.close()


def bench_on(tmp_path: Path, name: str, bus: Bus) -> Bench:
    """A replica that asks over this connection."""
    (tmp_path / name).mkdir(exist_ok=True)
    return Bench(tmp_path / name, bus)


async def test_a_replica_that_starts_after_a_freeze_that_another_was_handed_learns_it(tmp_path: Path, url: str) -> None:
    """It has the lock in hand and was never told: it sends nothing, and once thawed it sends all."""
    async with a_settler(tmp_path, url) as stage:
        await stage.freeze(COMMITMENT)
        late = Bus(url, "invoicer")
        two = bench_on(tmp_path, "two", late)
        assert await two.why() == "stops_unknown"
        async with on(late, two):
            await two.knows()
            assert (await two.why(), two.node.paid) == ("frozen", [])
        await stage.thaw(COMMITMENT)
        again = Bus(url, "invoicer")
        two.settler = again
        two.start()
        async with on(again, two):
            await two.knows()
            assert (await two.why(), len(two.node.paid)) == ("", 6)


async def test_a_replica_that_is_cut_off_sends_nothing_until_it_has_asked_again(tmp_path: Path, url: str) -> None:
    """Its connection breaks, another is handed the freeze; it holds back while it is away, and after."""
    async with a_settler(tmp_path, url) as stage, Cut(url) as cut:
        bus = Bus(cut.url, "invoicer")
        two = bench_on(tmp_path, "two", bus)
        async with on(bus, two):
            await two.knows()
            cut.off()
            await until(lambda: not two.invoicer.stops.knows)
            await stage.freeze(COMMITMENT)
            assert (await two.why(), two.node.paid) == ("stops_unknown", [])
            cut.mend()
            await two.knows()
            assert (await two.why(), two.node.paid) == ("frozen", [])
            assert COMMITMENT in two.tally.stopped()
