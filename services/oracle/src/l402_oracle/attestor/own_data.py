"""Who did not train on the data that the terms assigned to it. Pure; it knows no tensor and no money.

An update lowers the loss on the very windows it was trained on by more than on hidden ones; a copy, another's work, or
training on the hidden pool itself does not. Measured on the demo's model from a warmed-up checkpoint: honest peers 4.7
to 6 standard errors more, the hidden pool -1.2 to -0.2. Early in training nobody's own data can be told apart, so the
question is put only where the round itself shows that it can be.
"""

import math
import statistics
from collections.abc import Mapping

from l402core.events import GradientMeasured

from l402_oracle.scoring import Reason

SHOWN = 4.0
"""Where the round's median update helps its own data by so many standard errors more, own data can be told apart."""
MISSING = 1.0
"""There, an update that helps its own data by fewer did not come from it."""
AGAINST = -3.0
"""Anywhere, an update that helps the hidden shards by so much more was trained on them."""


def excess(measured: GradientMeasured) -> float | None:
    """By how many standard errors it helps its assigned data more than hidden data; None where it was not tried."""
    if measured.failure or not measured.own_sequences:
        return None
    hidden_error = (measured.drop_high - measured.drop_mean) / 3
    error = math.hypot(measured.own_error, hidden_error)
    return (measured.own_mean - measured.drop_mean) / error if error else None


def not_own_data(measured: Mapping[str, GradientMeasured]) -> dict[str, Reason]:
    """By commitment: those whose assigned data does not show in their work. `measured`: the round's improvements."""
    found = {commitment: seen for commitment, one in measured.items() if (seen := excess(one)) is not None}
    if not found:
        return {}
    can_tell = statistics.median_low(found.values()) >= SHOWN
    limit = MISSING if can_tell else AGAINST
    return {commitment: _reason(measured[commitment], seen) for commitment, seen in found.items() if seen < limit}


def shown(measured: GradientMeasured) -> str:
    """What was seen, for a receipt; '' where it was not tried."""
    seen = excess(measured)
    if seen is None:
        return ""
    return f"{_compared(measured)}: {seen:+.1f} standard errors"


def _reason(measured: GradientMeasured, seen: float) -> Reason:
    return Reason(
        "not_own_data",
        f"It was not trained on the data it was assigned: {_compared(measured)}, {seen:+.1f} standard errors.",
    )


def _compared(measured: GradientMeasured) -> str:
    own, hidden = measured.own_mean / 1e9, measured.drop_mean / 1e9
    return f"it lowers the loss there by {own:.4f} and on hidden shards by {hidden:.4f} nats per token"
