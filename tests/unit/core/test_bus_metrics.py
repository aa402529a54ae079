"""Numbers about messages: each outcome is counted as what it was, and a sample names its trace to whoever asks."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from l402core import bus_metrics, telemetry
from l402core.control import control_app
from l402core.delivering import Consumer, deliver
from l402core.errors import Malformed, Unavailable
from l402core.events import RoundClosed, WorkDead
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY

MINE = Consumer("tester", WorkDead, patience=3)


class OneMessage:
    """A delivery, and what was said of it."""

    subject = "work.dead.v1.x"
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(self, attempt: int = 1) -> None:
        self.attempt, self.said = attempt, ""
        event = WorkDead(id="1", occurred_at_ms=1, request="x", reason="y")
        self.body = msgspec.json.encode(event)

    async def ack(self) -> None:
        self.said = "ack"

    async def nack(self, delay: float | None = None) -> None:
        self.said = "nack"

    async def reject(self) -> None:
        self.said = "reject"

    async def in_progress(self) -> None:
        """Not that fast."""


def counted(outcome: str) -> float:
    """Deliveries with that end so far."""
    labels = {"event": WorkDead.name, "outcome": outcome}
    return REGISTRY.get_sample_value("l402_message_seconds_count", labels) or 0


def buried() -> float:
    """Dead letters so far."""
    return REGISTRY.get_sample_value("l402_dead_letters_total", {"event": WorkDead.name}) or 0


@pytest.mark.parametrize(
    ("raises", "attempt", "outcome", "said"),
    [
        (None, 1, bus_metrics.DONE, "ack"),
        (Unavailable("x", "y"), 1, bus_metrics.AGAIN, "nack"),
        (RuntimeError("a bug"), 1, bus_metrics.AGAIN, "nack"),
        (Malformed("x", "y"), 1, bus_metrics.BURIED, "reject"),
        (Unavailable("x", "y"), 3, bus_metrics.BURIED, "nack"),
    ],
)
async def test_a_delivery_is_counted_as_what_became_of_it(
    raises: Exception | None, attempt: int, outcome: str, said: str
) -> None:
    """The last delivery that the server will make is a dead letter too, whoever buries it."""
    before, dead_before = counted(outcome), buried()

    async def handler(_event: Any) -> None:
        if raises is not None:
            raise raises

    message = OneMessage(attempt)
    await deliver(MINE, msgspec.json.Decoder(WorkDead), handler, message)
    assert message.said == said
    assert counted(outcome) == before + 1
    assert buried() == dead_before + (outcome == bus_metrics.BURIED)


async def test_a_long_job_is_told_of_until_it_is_over() -> None:
    """JetStream would else give it to another after the consumer's `ack_wait_s`."""
    beats = asyncio.Semaphore(0)

    class Long(OneMessage):
        async def in_progress(self) -> None:
            assert not self.said
            beats.release()

    async def handler(_event: Any) -> None:
        for _ in range(3):
            await beats.acquire()

    message = Long()
    impatient = Consumer("tester", WorkDead, ack_wait_s=0)
    await asyncio.wait_for(deliver(impatient, msgspec.json.Decoder(WorkDead), handler, message), 30)
    await asyncio.sleep(0)
    assert message.said == "ack"


async def test_a_sample_names_its_trace_to_whoever_accepts_it(set_up_telemetry: Callable[[], TracerProvider]) -> None:
    """As an exemplar in OpenMetrics; in the plain format it has no place."""
    provider = set_up_telemetry()

    async def ready() -> dict[str, bool]:
        return {}

    with telemetry.span("something"):
        trace_id = telemetry.trace_id()
        bus_metrics.handled(RoundClosed.name, bus_metrics.DONE, 0.003)
    provider.shutdown()
    transport = httpx.ASGITransport(control_app("a service", ready))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
        plain = await http.get("/metrics")
        rich = await http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert trace_id
    assert trace_id not in plain.text
    assert f'# {{trace_id="{trace_id}"}}' in rich.text
    assert rich.headers["content-type"].startswith("application/openmetrics-text")


def test_clocks_that_disagree_make_no_negative_wait() -> None:
    """The server's clock may be ahead of ours."""
    bus_metrics.waited(RoundClosed.name, -5.0)
    assert (REGISTRY.get_sample_value("l402_message_wait_seconds_sum", {"event": RoundClosed.name}) or 0) >= 0


def test_what_lies_on_the_streams_is_told_by_consumer() -> None:
    """What waits, what is in hand, and the dead."""
    bus_metrics.lies_there([("settler-x", 7, 2)], 3)
    assert REGISTRY.get_sample_value("l402_bus_backlog", {"consumer": "settler-x"}) == 7
    assert REGISTRY.get_sample_value("l402_bus_in_hand", {"consumer": "settler-x"}) == 2
    assert REGISTRY.get_sample_value("l402_dead_letters_kept", {"stream": "DEAD"}) == 3
