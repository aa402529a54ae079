"""The gateway's own numbers for Prometheus: what was asked, how it was answered, who listens."""

from typing import Final

from l402core.bus_metrics import exemplar
from prometheus_client import Gauge, Histogram

REQUESTS: Final = Histogram(
    "l402_request_seconds", "Requests by what they wanted and how they were answered.", ["route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)  # fmt: skip
LISTENERS: Final = Gauge("l402_hint_listeners", "Who listens to server-sent hints now.")


def answered(route: str, status: int, seconds: float) -> None:
    """One request is over. Routes are few: never a hash or a number."""
    REQUESTS.labels(route, str(status)).observe(seconds, exemplar())
