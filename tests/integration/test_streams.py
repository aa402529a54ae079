"""A stream of a real nats-server is deleted under running services: it comes back, and so does what it held."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from l402core.bus import Bus, migrate
from l402core.delivering import Consumer
from l402core.events import FACTS, FeeSettled
from l402core.streams import LIST_EVERY, Declared, incarnation, keep_streams
from nats.js.api import ConsumerInfo

from tests.support.nats import running_nats
from tests.support.watching import until

CONSUMER = Consumer("tester", FeeSettled, ack_wait_s=2)


def fee(number: int) -> FeeSettled:
    """A fact."""
    return FeeSettled(id="f", occurred_at_ms=1, payment_hash=f"{number:064x}", amount_msat=5, settle_index=number or 1)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server with our streams declared."""
    with running_nats(tmp_path / "nats") as address:
        asyncio.run(migrate(address, (CONSUMER,)))
        yield address


@pytest.mark.parametrize("loss", ["stream", "consumer"])
async def test_what_vanished_is_declared_and_said_again(url: str, loss: str) -> None:
    """The running consumer hears what its own books say again, without a restart of anybody."""
    heard: list[int] = []
    bus = Bus(url, "tester")

    async def hear(event: FeeSettled) -> None:
        heard.append(int(event.payment_hash, 16))

    async def say_again(_incarnation: str) -> None:
        await bus.publish(fee(2))

    bus.consume(CONSUMER, hear)
    await bus.start()
    keeping = asyncio.create_task(keep_streams(url, "settler", say_again, every_s=0.1))
    await bus.publish(fee(1))
    await until(lambda: heard == [1])
    await asyncio.sleep(0.5)
    client = await nats.connect(url)
    stream = client.jetstream()
    if loss == "stream":
        await stream.delete_stream(FACTS)
    else:
        await stream.delete_consumer(FACTS, CONSUMER.durable)
    await until(lambda: 2 in heard)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await client.close()
    await bus.stop()


async def test_everybody_who_keeps_books_says_them_again(url: str) -> None:
    """Whoever comes second finds the stream there again, knows that it is another one, and calls it by the same name."""
    said: dict[str, str] = {}

    async def keep(name: str, every_s: float) -> None:
        async def say_again(made: str) -> None:
            said[name] = made

        await keep_streams(url, "settler", say_again, every_s=every_s)

    bus = Bus(url, "tester")
    await bus.start()
    await bus.publish(fee(1))
    keepers = [asyncio.create_task(keep("quick", 0.1)), asyncio.create_task(keep("slow", 1.0))]
    await asyncio.sleep(1.5)
    client, before = await nats.connect(url), await incarnation(url, "settler")
    assert before == await incarnation(url, "attestor") != "", "it stays the same through everybody's restarts"
    await client.jetstream().delete_stream(FACTS)
    assert await incarnation(url, "settler") == ""
    await until(lambda: set(said) == {"quick", "slow"})
    assert set(said.values()) == {await incarnation(url, "settler")} != {before}
    for keeper in keepers:
        keeper.cancel()
    await asyncio.gather(*keepers, return_exceptions=True)
    await client.close()
    await bus.stop()


async def test_a_stream_that_was_made_again_and_has_grown_since_is_another_one(url: str) -> None:
    """Whoever comes second, and late, finds more messages there than it knew, and says its books again all the same."""
    bus, client = Bus(url, "tester"), await nats.connect(url)
    await bus.start()
    stream = client.jetstream()
    first, second = Declared(stream), Declared(stream)
    await bus.publish(fee(1))
    assert (await first.restore(), await second.restore()) == ([], [])
    await stream.delete_stream(FACTS)
    assert FACTS in await first.restore()
    for number in range(1, 4):
        await bus.publish(fee(number))
    assert await second.restore() == [FACTS]
    assert (await first.restore(), await second.restore()) == ([], [])
    await client.close()
    await bus.stop()


async def test_consumers_are_listed_now_and_then_and_where_one_is_gone(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream's own count tells of a loss at once; what each of them waits for may be a few looks old."""
    client = await nats.connect(url)
    stream, listed = client.jetstream(), list[str]()
    list_of = stream.consumers_info

    async def counted(name: str) -> list[ConsumerInfo]:
        listed.append(name)
        return await list_of(name)

    monkeypatch.setattr(stream, "consumers_info", counted)
    declared = Declared(stream)
    for _ in range(LIST_EVERY):
        assert await declared.restore() == []
    assert listed.count(FACTS) == 1
    await stream.delete_consumer(FACTS, CONSUMER.durable)
    await declared.restore()
    listed.clear()
    await stream.delete_consumer(FACTS, CONSUMER.durable)
    assert await declared.restore() == [f"{FACTS}/{CONSUMER.durable}"]
    assert listed.count(FACTS) == 1
    await client.close()


async def test_a_keeper_stops_even_where_a_call_swallows_its_cancellation(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python 3.11's `wait_for` does when the answer comes at the same moment."""
    inside = asyncio.Event()

    async def restore(_self: Declared) -> list[str]:
        inside.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return []

    async def say_again(_incarnation: str) -> None:
        raise AssertionError("nothing was gone")

    monkeypatch.setattr(Declared, "restore", restore)
    keeping = asyncio.create_task(keep_streams(url, "settler", say_again, every_s=0.1))
    await inside.wait()
    keeping.cancel()
    inside.clear()
    done, _ = await asyncio.wait({keeping}, timeout=10)
    assert keeping in done
    assert not inside.is_set()
