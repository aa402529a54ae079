"""The connection beneath the bus, on a real nats-server: what it promises when the server, or a consumer, goes away."""

import asyncio
from pathlib import Path

import nats
import pytest
from l402core.bus import Bus, migrate
from l402core.delivering import Consumer
from l402core.errors import Unavailable
from l402core.events import FACTS, FeeSettled
from l402core.jetstream import Link
from nats.errors import NoRespondersError

from tests.support.cutting import Cut
from tests.support.nats import free_port, running_nats
from tests.support.watching import until

CONSUMER = Consumer("tester", FeeSettled, workers=3, ack_wait_s=2)


async def test_no_more_are_in_hand_than_the_consumer_says(tmp_path: Path) -> None:
    """Forty messages, three places: three are begun, and each that ends makes room for another."""
    now: list[int] = []
    most: list[int] = []
    with running_nats(tmp_path / "nats") as url:
        await migrate(url, (CONSUMER,))
        bus = Bus(url, "tester")

        async def hear(event: FeeSettled) -> None:
            now.append(event.settle_index)
            most.append(len(now))
            await asyncio.sleep(0.01)
            now.remove(event.settle_index)

        bus.consume(CONSUMER, hear)
        await bus.start()
        await asyncio.gather(*(bus.publish(_fee(number)) for number in range(40)))
        await until(lambda: len(most) == 40 and not now)
        await bus.stop()
    assert max(most) == 3


async def test_a_server_that_comes_back_is_heard_again(tmp_path: Path) -> None:
    """It has forgotten our request for messages: another is made as soon as it is there."""
    port, heard = free_port(), list[int]()
    folder = tmp_path / "nats"
    with running_nats(folder, port=port) as url:
        await migrate(url, (CONSUMER,))
        bus = Bus(url, "tester")

        async def hear(event: FeeSettled) -> None:
            heard.append(event.settle_index)

        bus.consume(CONSUMER, hear)
        await bus.start()
        await bus.publish(_fee(1))
        await until(lambda: heard == [1])
    with running_nats(folder, port=port) as url:
        await migrate(url, (CONSUMER,))
        await _until_stored(bus, _fee(2))
        await until(lambda: heard == [1, 2])
        await bus.stop()


async def test_a_wire_that_nobody_closed_and_nothing_comes_on_is_given_up(tmp_path: Path) -> None:
    """As when a router forgets us: no end of the connection ever arrives. Its pings go unanswered, and a new one is made."""
    lost = asyncio.Event()
    with running_nats(tmp_path / "nats") as url:
        async with Cut(url) as wire:
            link = Link(wire.url, "tester", ping_every_s=0.2)
            await link.connect()
            link.cut.append(lost.set)
            wire.silence()
            await asyncio.wait_for(lost.wait(), 30)
            await until(link.connected)
            with pytest.raises(NoRespondersError):  # the server's own word, on the new wire
                await link.request("nobody.listens", b"", {}, 10)
            await link.close()


async def test_a_consumer_that_is_made_again_is_read_again(tmp_path: Path) -> None:
    """While it is gone nothing is heard, and nothing fails."""
    heard: list[int] = []
    with running_nats(tmp_path / "nats") as url:
        await migrate(url, (CONSUMER,))
        bus = Bus(url, "tester")

        async def hear(event: FeeSettled) -> None:
            heard.append(event.settle_index)

        bus.consume(CONSUMER, hear)
        await bus.start()
        client = await nats.connect(url)
        await client.jetstream().delete_consumer(FACTS, CONSUMER.durable)
        await bus.publish(_fee(1))
        await migrate(url, (CONSUMER,))
        await until(lambda: heard == [1])
        await client.close()
        await bus.stop()


async def test_what_is_in_hand_when_we_stop_is_finished(tmp_path: Path) -> None:
    """Its acknowledgement reaches the server: whoever comes next does not get it again."""
    begun, ended = asyncio.Event(), asyncio.Event()
    with running_nats(tmp_path / "nats") as url:
        await migrate(url, (CONSUMER,))
        bus = Bus(url, "tester")

        async def hear(_event: FeeSettled) -> None:
            begun.set()
            await asyncio.sleep(0.3)
            ended.set()

        bus.consume(CONSUMER, hear)
        await bus.start()
        await bus.publish(_fee(1))
        await begun.wait()
        await bus.stop()
        assert ended.is_set()
        client = await nats.connect(url)
        info = await client.jetstream().consumer_info(FACTS, CONSUMER.durable)
        assert (info.num_ack_pending, info.num_pending) == (0, 0)
        await client.close()


async def test_a_message_for_no_stream_of_ours_is_refused(tmp_path: Path) -> None:
    """JetStream's refusal is the world's fault, and never taken for an acknowledgement."""
    with running_nats(tmp_path / "nats") as url:
        await migrate(url, (CONSUMER,))
        bus = Bus(url, "tester")
        await bus.start()
        for stream, subject in (("OTHER", _fee(1).subject), (FACTS, "nobodys.business")):
            try:
                await bus.publish_raw(stream, subject, "m", b"{}")
            except Unavailable:
                continue
            raise AssertionError(f"{subject} in {stream} was taken for stored")
        await bus.stop()


def _fee(number: int) -> FeeSettled:
    return FeeSettled(id="f", occurred_at_ms=1, payment_hash=f"{number:064x}", amount_msat=5, settle_index=number)


async def _until_stored(bus: Bus, event: FeeSettled) -> None:
    for _ in range(60):
        try:
            await bus.publish(event)
        except Unavailable:
            await asyncio.sleep(0.1)
            continue
        return
    raise AssertionError("the server did not come back")
