"""The bus on a real nats-server: nothing is dropped in silence, and refusals cross it whole."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest
from l402core import bus as bus_module
from l402core.bus import DEAD, Bus, migrate
from l402core.delivering import Consumer
from l402core.errors import Contradiction, Exhausted, Unavailable
from l402core.events import FACTS, FeeMint, FeeMinted, FeeSettled
from l402core.telemetry import span, trace_id
from opentelemetry.sdk.trace import TracerProvider

from tests.support.nats import running_nats
from tests.support.watching import until

FEE = FeeSettled(id="f", occurred_at_ms=1, payment_hash="aa" * 32, amount_msat=5, settle_index=1)
CONSUMER = Consumer("tester", FeeSettled, ack_wait_s=2)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server with our streams declared."""
    with running_nats(tmp_path / "nats") as address:
        asyncio.run(migrate(address, (CONSUMER,)))
        yield address


async def test_a_fact_published_twice_is_heard_once(url: str) -> None:
    """The message id deduplicates; publishing again from the books is harmless."""
    heard: list[FeeSettled] = []
    bus = Bus(url, "tester")

    async def hear(event: FeeSettled) -> None:
        heard.append(event)

    bus.consume(CONSUMER, hear)
    await bus.start()
    await bus.publish(FEE)
    await bus.publish(FEE)
    await until(lambda: bool(heard))
    await asyncio.sleep(0.3)
    await bus.stop()
    assert heard == [FEE]


async def test_a_handler_that_cannot_now_is_asked_again(url: str) -> None:
    """WorldError is retried with a delay until it works."""
    attempts: list[int] = []
    bus = Bus(url, "tester")

    async def hear(_event: FeeSettled) -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise Unavailable("node", "asleep")

    bus.consume(CONSUMER, hear)
    await bus.start()
    await bus.publish(FEE)
    await until(lambda: len(attempts) == 3)
    await bus.stop()
    assert len(attempts) == 3


async def test_whoever_must_know_of_a_dead_letter_hears_first(url: str) -> None:
    """It is told what, and why; while it cannot take that in, the message comes again and is not given up."""
    told: list[tuple[str, str]] = []
    bus = Bus(url, "tester")

    async def hear(_event: FeeSettled) -> None:
        raise Contradiction("impossible", "two facts")

    async def dead(subject: str, body: bytes, error: Exception) -> None:
        told.append((subject, type(error).__name__))
        assert FEE.payment_hash.encode() in body
        if len(told) == 1:
            raise Unavailable("database", "away")

    bus.consume(CONSUMER, hear, dead)
    await bus.start()
    await bus.publish(FEE)
    await until(lambda: len(told) == 2)
    await bus.stop()
    assert told == [(FEE.subject, "Contradiction")] * 2


async def test_the_last_delivery_is_a_dead_letter_too(tmp_path: Path) -> None:
    """The world failed it as often as its consumer's patience goes: it is not dropped in silence."""
    told: list[str] = []
    impatient = Consumer("tester", FeeSettled, ack_wait_s=2, patience=2)
    with running_nats(tmp_path / "nats") as address:
        await migrate(address, (impatient,))
        bus = Bus(address, "tester")

        async def hear(_event: FeeSettled) -> None:
            raise Unavailable("node", "asleep")

        async def dead(subject: str, _body: bytes, _error: Exception) -> None:
            told.append(subject)

        bus.consume(impatient, hear, dead)
        await bus.start()
        await bus.publish(FEE)
        await until(lambda: bool(told))
        await bus.stop()
    assert told == [FEE.subject]


async def test_a_contradiction_becomes_a_dead_letter(url: str) -> None:
    """It is not tried again, and it is not lost: the advisory lies in a stream."""
    attempts: list[int] = []
    bus = Bus(url, "tester")

    async def hear(_event: FeeSettled) -> None:
        attempts.append(1)
        raise Contradiction("impossible", "two facts")

    bus.consume(CONSUMER, hear)
    await bus.start()
    await bus.publish(FEE)
    client = await nats.connect(url)
    stream = client.jetstream()
    for _ in range(50):
        if (await stream.stream_info(DEAD)).state.messages:
            break
        await asyncio.sleep(0.1)
    assert (await stream.stream_info(DEAD)).state.messages == 1
    assert len(attempts) == 1
    await client.close()
    await bus.stop()


async def test_poison_is_a_dead_letter_and_the_next_message_is_heard(url: str) -> None:
    """Bytes that are no event end as a dead letter; the queue moves on."""
    heard: list[FeeSettled] = []
    bus = Bus(url, "tester")

    async def hear(event: FeeSettled) -> None:
        heard.append(event)

    bus.consume(CONSUMER, hear)
    await bus.start()
    await bus.publish_raw(FACTS, f"{FeeSettled.name}.poison", "p", b"{not json")
    await bus.publish(FEE)
    await until(lambda: bool(heard))
    await bus.stop()
    assert heard == [FEE]


async def test_an_answer_and_a_refusal_cross_the_bus(url: str, set_up_telemetry: Callable[[], TracerProvider]) -> None:
    """The asker gets the answer, or the very error the answerer raised, in the asker's trace."""
    set_up_telemetry()
    seen: list[str] = []
    bus = Bus(url, "tester")

    async def answer(question: FeeMint) -> FeeMinted:
        seen.append(trace_id())
        if question.amount_msat > 5:
            raise Exhausted("budget", "no more")
        return FeeMinted(payment_hash="aa", bolt11="ln", expires_at_ms=1)

    bus.answer(FeeMint, answer)
    await bus.start()
    with span("root"):
        asked = trace_id()
        assert (await bus.ask(_mint(5), FeeMinted)).bolt11 == "ln"
    with pytest.raises(Exhausted, match="no more"):
        await bus.ask(_mint(6), FeeMinted)
    await bus.stop()
    assert seen[0] == asked


async def test_who_is_only_about_to_answer_is_waited_for(url: str) -> None:
    """A service that starts a moment later answers all the same: its place in the queue is not there yet."""
    asker, late = Bus(url, "asker"), Bus(url, "tester")

    async def answer(_question: FeeMint) -> FeeMinted:
        return FeeMinted(payment_hash="aa", bolt11="ln", expires_at_ms=1)

    late.answer(FeeMint, answer)
    await asker.start()
    asked = asyncio.create_task(asker.ask(_mint(1), FeeMinted))
    await asyncio.sleep(0.2)
    await late.start()
    assert (await asked).bolt11 == "ln"
    await asker.stop()
    await late.stop()


async def test_nobody_there_is_unavailable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question without an answerer, and a server that is gone, are both the world's fault."""
    bus = Bus(url, "tester")
    await bus.start()
    with pytest.raises(Unavailable):
        await bus.ask(_mint(1), FeeMinted, timeout_s=0.3)
    await bus.stop()
    monkeypatch.setattr(bus_module, "PUBLISH_TIMEOUT_S", 0.3)
    with pytest.raises(Unavailable):
        await migrate("nats://127.0.0.1:1", (CONSUMER,))


async def test_the_migration_can_run_again(url: str) -> None:
    """Declaring streams and consumers twice changes nothing: what waits in a stream still waits."""
    bus = Bus(url, "tester")
    await bus.start()
    await bus.publish(FEE)
    await bus.stop()
    await migrate(url, (CONSUMER,))
    client = await nats.connect(url)
    assert (await client.jetstream().stream_info(FACTS)).state.messages == 1
    await client.close()


def _mint(amount_msat: int) -> FeeMint:
    return FeeMint(round=1, commitment="c", amount_msat=amount_msat, expiry_s=60)
