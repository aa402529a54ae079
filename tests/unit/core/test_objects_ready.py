"""Whether the object store answers: asked seldom, one look at a time, and a look that hangs is an answer too."""

import asyncio

import httpx
import pytest
from l402core.control import control_app
from l402core.errors import Unavailable
from l402core.objects_ready import EVERY_S, STALE_S, ObjectsReady


class Store:
    """As a test has it: there, away, broken, or hanging."""

    def __init__(self) -> None:
        self.looks = 0
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.now = 100.0

    async def look(self, *, writing: bool) -> None:
        """Counts, waits, fails."""
        assert writing
        self.looks += 1
        await self.open.wait()
        if self.error is not None:
            raise self.error

    def ready(self, within_s: float = 30.0) -> ObjectsReady:
        """Over this clock."""
        return ObjectsReady(self, writing=True, clock=lambda: self.now, within_s=within_s)


async def test_who_asks_often_costs_one_look_in_two_seconds() -> None:
    """Before that the last answer is told, whatever has happened since; at the next look it is seen."""
    store = Store()
    ready = store.ready()
    assert [await ready.answers() for _ in range(5)] == [True] * 5
    store.error = Unavailable("disk", "gone")
    store.now += EVERY_S / 2
    assert (await ready.answers(), store.looks) == (True, 1)
    store.now += EVERY_S / 2
    assert (await ready.answers(), store.looks) == (False, 2)
    store.error = None
    assert (await ready.answers(), store.looks) == (False, 2)
    store.now += EVERY_S
    assert (await ready.answers(), store.looks) == (True, 3)


async def test_all_who_ask_at_once_wait_for_the_same_look() -> None:
    """And one of them that leaves takes the answer from nobody."""
    store = Store()
    store.open.clear()
    ready = store.ready()
    asking = [asyncio.create_task(ready.answers()) for _ in range(10)]
    await asyncio.sleep(0)
    asking[0].cancel()
    store.open.set()
    assert (await asyncio.gather(*asking[1:]), store.looks) == ([True] * 9, 1)


async def test_a_look_that_hangs_means_no_and_is_not_begun_twice() -> None:
    """However many ask, one look hangs; when it ends its answer counts."""
    store = Store()
    store.open.clear()
    ready = store.ready(within_s=0.001)
    for _ in range(5):
        assert not await ready.answers()
        store.now += EVERY_S
    assert store.looks == 1
    store.open.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (await ready.answers(), store.looks) == (True, 1)


async def test_a_store_that_is_slow_is_not_away_until_nothing_was_heard_of_it_for_long() -> None:
    """The answer before counts for six seconds, a no as much as a yes."""
    for error in (None, Unavailable("disk", "gone")):
        store = Store()
        store.error = error
        ready = store.ready(within_s=0.001)
        await asyncio.gather(ready.answers(), asyncio.sleep(0.01))
        store.open.clear()
        store.now += STALE_S - 1
        assert await ready.answers() is (error is None)
        store.now += 1
        assert not await ready.answers()
        assert store.looks == 2


async def test_a_look_that_breaks_means_no_and_another_follows() -> None:
    """A defect in a client is not taken for a store that answers, and ends no looking."""
    store = Store()
    ready = store.ready()
    store.error = RuntimeError("a client's defect")
    assert not await ready.answers()
    store.error, store.now = None, store.now + EVERY_S
    assert await ready.answers()


@pytest.mark.parametrize(("told_only", "status"), [(frozenset[str](), 503), (frozenset({"objects"}), 200)])
async def test_a_part_that_is_only_told_keeps_nobody_out(told_only: frozenset[str], status: int) -> None:
    """Named all the same; any other part that is away is a ground for a 503."""
    parts = {"bus": True, "objects": False}

    async def ready() -> dict[str, bool]:
        return parts

    app = control_app("a service", ready, told_only=told_only)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (status, {"bus": True, "objects": False})
        parts["bus"] = False
        assert (await client.get("/readyz")).status_code == 503
