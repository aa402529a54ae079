"""The settler's own numbers for Prometheus: money and rounds from its books, what its node can lock, how near an expiry is.

Sums of the books are told as they stand there, so that several settlers tell the same: take the largest, never their sum.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

SENDABLE: Final = Gauge("l402_node_sendable_msat", "What active channels can send, in msat: a bound, not a promise.")
SLOTS_FREE: Final = Gauge("l402_node_htlc_slots_free", "HTLC slots that active channels have left, outgoing.")
CHANNELS: Final = Gauge("l402_node_channels_active", "Active channels.")
RUNGS_OPEN: Final = Gauge("l402_rungs_open", "Rungs whose end is not known.")
GUARDIAN_BLOCKS: Final = Gauge(
    "l402_guardian_blocks_left",
    "Blocks until the nearest expiry of an open HTLC, a sponsor's too; +Inf where none is open.",
)
GUARDIAN_ALARMS: Final = Counter("l402_guardian_alarms", "Looks at which an open HTLC was too near its expiry.")

LOCKED: Final = Gauge("l402_locked_msat", "Rewards that lie in rungs whose end is not known.")
OWED: Final = Gauge("l402_owed_msat", "Decided, not delivered on its ladder, and waiting for a new offer.")
CREDITS: Final = Gauge("l402_credits_msat", "Fees that could not be served and may be used once more.")
UNCLAIMED: Final = Gauge("l402_fees_unclaimed_msat", "Fees that arrived and have opened nothing yet.")
ESCROWS: Final = Gauge("l402_escrows_open", "Open escrows.", ["state"])
ESCROW_AGE: Final = Gauge("l402_escrow_oldest_seconds", "Age of the oldest open escrow; 0 where none is.", ["state"])
FROZEN: Final = Gauge("l402_frozen", "What waits for a person.", ["what"])
DIFFERENCES: Final = Gauge(
    "l402_ledger_differences", "What the books and our node saw differently at the last comparison.", ["weight"]
)
RECONCILED: Final = Gauge("l402_ledger_reconciled_timestamp_seconds", "When they were compared last.")
ROUND: Final = Gauge("l402_round", "The newest round.")
ROUND_OVERDUE: Final = Gauge(
    "l402_round_overdue_seconds", "How long the newest round's phase has outlasted its deadline; 0 while it has not."
)
SUBMISSIONS: Final = Gauge(
    "l402_round_submissions", "Submissions of the newest round that have come so far.", ["stage"]
)


class Sums(Collector):
    """Totals as the books have them: they grow, and are not ours to count."""

    NAMES: Final = {
        "l402_fees_msat": "Fees that opened a submission, those that became a credit later included.",
        "l402_rewards_msat": "What gradients were decided to have earned.",
        "l402_forfeited_msat": "Of these, what was revealed and never collected.",
        "l402_sponsored_msat": "What sponsors have paid for progress.",
        "l402_routing_msat": "What routes kept of what we paid.",
    }

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def tell(self, name: str, value: int) -> None:
        """As it stands now."""
        assert name in self.NAMES
        self._told[name] = value

    def describe(self) -> Iterator[Metric]:
        """Without values."""
        for name, help_ in self.NAMES.items():
            yield CounterMetricFamily(name, help_)

    def collect(self) -> Iterator[Metric]:
        """What was told."""
        for name, help_ in self.NAMES.items():
            yield CounterMetricFamily(name, help_, value=self._told.get(name, 0))


SUMS: Final = Sums()
REGISTRY.register(SUMS)
