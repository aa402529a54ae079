"""A trace goes on from whoever sent a message, and nothing that is no traceparent begins one."""

from collections.abc import Callable

import pytest
from l402core import telemetry
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import set_tracer_provider

TRACE, PARENT = "ab" * 16, "cd" * 8


@pytest.fixture(autouse=True)
def tracing() -> None:
    """Spans that are recorded and go nowhere."""
    set_tracer_provider(TracerProvider())


@pytest.mark.parametrize("parent", [f"00-{TRACE}-{PARENT}-01", {"traceparent": f"00-{TRACE}-{PARENT}-01"}])
def test_a_span_goes_on_in_its_parents_trace_and_says_so_to_the_next(parent: str | dict[str, str]) -> None:
    """By a header's value or by all headers; the next one hears this span's own id."""
    with telemetry.span("here", parent=parent) as span:
        own = span.get_span_context()
        assert telemetry.trace_id() == TRACE
        assert telemetry.traceparent() == f"00-{TRACE}-{own.span_id:016x}-01"
        with telemetry.span("inside"):
            assert telemetry.trace_id() == TRACE
    assert telemetry.traceparent() == ""


@pytest.mark.parametrize(
    "parent",
    [
        "", "nothing", f"00-{TRACE}-{PARENT}", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01-more", f"ff-{TRACE}-{PARENT}-01",
    ],
)  # fmt: skip
def test_what_is_no_traceparent_begins_a_trace_of_its_own(parent: str) -> None:
    """Headers come from outside: nothing in them can break a request, and nothing malformed is followed."""
    with telemetry.span("outer"), telemetry.span("here", parent=parent):
        assert telemetry.trace_id() not in ("", TRACE, "0" * 32)


def test_what_is_done_for_many_is_linked_to_each_and_to_nothing_else() -> None:
    """A link is another trace's span; what is no traceparent is left out."""
    others = [f"00-{TRACE}-{PARENT}-01", "", "nothing", f"00-{'12' * 16}-{'34' * 8}-00"]
    with telemetry.span("together", parent="", links=others) as span:
        found = [(f"{one.context.trace_id:032x}", f"{one.context.span_id:016x}") for one in span.links]  # type: ignore[attr-defined]  # of a recorded span
    assert found == [(TRACE, PARENT), ("12" * 16, "34" * 8)]


def test_the_operator_chooses_how_many_traces_are_kept(
    monkeypatch: pytest.MonkeyPatch, set_up_telemetry: Callable[[], TracerProvider]
) -> None:
    """By OpenTelemetry's own variables."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    provider = set_up_telemetry()
    assert not provider.get_tracer("here").start_span("left out").is_recording()
    provider.shutdown()
