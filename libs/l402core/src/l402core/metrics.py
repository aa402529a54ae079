"""Numbers for Prometheus that every service tells, and the page that shows them. It measures nothing by itself.

`prometheus_client`, not OpenTelemetry's metrics: a page that is scraped needs no collector, and it is the well-kept one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from l402core.lnd.fitness import CHECKS

PAGE_TYPE: Final = CONTENT_TYPE_LATEST
READY_WITHIN_S: Final = 3.0
"""A part that does not answer must not keep the page from being read."""

READY: Final = Gauge("l402_ready", "1 where a part that this service needs answers, as /readyz says.", ["part"])
NODE_FIT: Final = Gauge(
    "l402_node_fit", "1 where our Lightning node passes a check, 0 for the one it fails.", ["check"]
)
NODE_HEIGHT: Final = Gauge("l402_node_block_height", "Height of the chain at our node, as last believed.")


def tell_fitness(failing: str) -> None:
    """Of our node: which check fails, "" for none. What cannot be asked while another fails is not said to fail."""
    for check in CHECKS:
        NODE_FIT.labels(check).set(check != failing)


async def page(ready: Callable[[], Awaitable[dict[str, bool]]]) -> bytes:
    """Everything that this process tells now; its parts are asked first."""
    try:
        parts = await asyncio.wait_for(ready(), READY_WITHIN_S)
    except TimeoutError:
        parts = {"answers_in_time": False}
    READY.clear()
    for part, answers in parts.items():
        READY.labels(part).set(answers)
    return generate_latest()
