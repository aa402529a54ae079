"""Numbers for Prometheus about messages: how long each took and had waited, what lies there, what was given up.

It measures where it is told to, and knows no bus. A histogram's sample names its trace, where whoever reads asks for it.
"""

from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from l402core import telemetry

DONE, AGAIN, BURIED = "done", "again", "dead"
"""What became of a delivery."""
SECONDS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

HANDLED: Final = Histogram(
    "l402_message_seconds", "From a message's delivery to its end here.", ["event", "outcome"], buckets=SECONDS
)
WAITED: Final = Histogram(
    "l402_message_wait_seconds", "How long a message lay on its stream before its first delivery: the bus's lag.",
    ["event"], buckets=SECONDS,
)  # fmt: skip
DEAD_LETTERS: Final = Counter("l402_dead_letters", "Messages that were given up.", ["event"])
BACKLOG: Final = Gauge("l402_bus_backlog", "Messages that wait for a consumer to take them.", ["consumer"])
IN_HAND: Final = Gauge("l402_bus_in_hand", "Messages that a consumer has and has not answered.", ["consumer"])
DEAD_KEPT: Final = Gauge(
    "l402_dead_letters_kept", "Dead letters on their stream, which forgets them after a week.", ["stream"]
)
"""With a label, so that there is none before the first look: a start must not look like new ones."""


def handled(event: str, outcome: str, seconds: float) -> None:
    """One delivery is over."""
    HANDLED.labels(event, outcome).observe(seconds, exemplar())
    if outcome == BURIED:
        DEAD_LETTERS.labels(event).inc()


def waited(event: str, seconds: float) -> None:
    """One message came for the first time. Two clocks may disagree by a little."""
    WAITED.labels(event).observe(max(0.0, seconds))


def lies_there(consumers: Iterable[tuple[str, int, int]], dead_kept: int) -> None:
    """Of each consumer what waits and what is in hand; how many dead letters are kept."""
    for name, waiting, in_hand in consumers:
        BACKLOG.labels(name).set(waiting)
        IN_HAND.labels(name).set(in_hand)
    DEAD_KEPT.labels("DEAD").set(dead_kept)


def exemplar() -> dict[str, str] | None:
    """The trace that a sample belongs to."""
    trace_id = telemetry.trace_id()
    return {"trace_id": trace_id} if trace_id else None
