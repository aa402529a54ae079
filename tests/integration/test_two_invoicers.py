"""Two invoicers on one bus: a freeze that one of them is handed stops the lock that the other has in hand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from l402_invoicer.app import CONSUMERS
from l402core.bus import Bus, migrate
from l402core.events import EscrowFrozen, EscrowThawed

from tests.support.nats import running_nats
from tests.unit.invoicer.test_invoicer_frozen import COMMITMENT, Bench

LIMIT_S = 30


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server with the streams and the consumers that all invoicers share."""
    with running_nats(tmp_path / "nats") as address:
        asyncio.run(migrate(address, CONSUMERS))
        yield address


@contextlib.asynccontextmanager
async def listening(url: str, bench: Bench) -> AsyncIterator[None]:
    """One replica, on the bus as its `__main__` puts it there."""
    bus = Bus(url, "invoicer")
    bench.invoicer.stops.register(bus)
    await bus.start()
    try:
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


async def until(are_so: Callable[[], bool]) -> None:
    """What was said has reached everybody."""
    for _ in range(LIMIT_S * 100):
        if are_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {LIMIT_S} s")


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
