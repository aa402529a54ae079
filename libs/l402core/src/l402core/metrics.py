"""Numbers for Prometheus that every service tells, and the page that shows them. It measures nothing by itself.

`prometheus_client`, not OpenTelemetry's metrics: a page that is scraped needs no collector, and it is the well-kept one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client import REGISTRY, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from l402core.lnd.fitness import CHECKS

READY_WITHIN_S: Final = 3.0
"""A part that does not answer must not keep the page from being read."""

READY: Final = Gauge("l402_ready", "1 where a part that this service needs answers, as /readyz says.", ["part"])
NODE_FIT: Final = Gauge(
    "l402_node_fit", "1 where our Lightning node passes a check, 0 for the one it fails.", ["check"]
)
NODE_CALLS: Final = Histogram(
    "l402_node_call_seconds", "Calls on our Lightning node; the outcome is \"ok\" or the code of what it refused with.",
    ["call", "outcome"], buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)  # fmt: skip
NODE_HEIGHT: Final = Gauge("l402_node_block_height", "Height of the chain at our node, as last believed.")


def tell_fitness(failing: str) -> None:
    """Of our node: which check fails, "" for none. What cannot be asked while another fails is not said to fail."""
    for check in CHECKS:
        NODE_FIT.labels(check).set(check != failing)


async def page(ready: Callable[[], Awaitable[dict[str, bool]]], accept: str = "") -> tuple[bytes, str]:
    """Everything that this process tells now, and its media type; its parts are asked first.

    Whoever accepts OpenMetrics is told beside a histogram's sample which trace it was.
    """
    try:
        parts = await asyncio.wait_for(ready(), READY_WITHIN_S)
    except TimeoutError:
        parts = {"answers_in_time": False}
    READY.clear()
    for part, answers in parts.items():
        READY.labels(part).set(answers)
    encode, media_type = choose_encoder(accept)
    return encode(REGISTRY), media_type
