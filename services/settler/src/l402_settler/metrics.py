"""The settler's own numbers for Prometheus: what its node can still lock, and how near the nearest expiry is."""

import math
from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter, Gauge

SENDABLE: Final = Gauge("l402_node_sendable_msat", "What active channels can send, in msat: a bound, not a promise.")
SLOTS_FREE: Final = Gauge("l402_node_htlc_slots_free", "HTLC slots that active channels have left, outgoing.")
CHANNELS: Final = Gauge("l402_node_channels_active", "Active channels.")
RUNGS_OPEN: Final = Gauge("l402_rungs_open", "Rungs whose end is not known.")
GUARDIAN_BLOCKS: Final = Gauge(
    "l402_guardian_blocks_left", "Blocks until the nearest expiry of an open HTLC; +Inf where none is open."
)
GUARDIAN_ALARMS: Final = Counter("l402_guardian_alarms", "Looks at which an open HTLC was too near its expiry.")


def tell_expiries(blocks_left: Iterable[int]) -> None:
    """Of all open HTLCs."""
    GUARDIAN_BLOCKS.set(min(blocks_left, default=math.inf))
