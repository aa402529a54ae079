"""Who did not train on the data that the terms assigned to it. Pure; it knows no tensor and no money.

An update lowers the loss on the very windows it was trained on by more than on hidden ones; a copy, another's work, or
training on the hidden pool itself does not. Measured on the demo's model from a warmed-up checkpoint: honest peers 4.7
to 6 standard errors more, the hidden pool -1.2 to -0.2. Early in training nobody's own data can be told apart, so the
question is put only where the round itself shows that it can be.
"""

import math
import statistics
from collections.abc import Mapping

import msgspec
from l402core.events import GradientMeasured

from l402_oracle.scoring import Reason

SHOWN = 4.0
"""Where the round's median update helps its own data by so many standard errors more, own data can be told apart."""
MISSING = 1.0
"""There, an update that helps its own data by fewer did not come from it."""
PART = 0.25
"""Of what the yardstick's own data shows: who shows less made few of its steps on it, however long they are."""
AGAINST = -3.0
"""Anywhere, an update that helps the hidden shards by so much more was trained on them."""


class Tried(msgspec.Struct, frozen=True):
    """One improvement's mean drops with their standard errors, nano-nats: on hidden shards, and on assigned data."""

    hidden_mean: int
    hidden_error: float
    own_mean: int
    own_error: float


def tried(measured: GradientMeasured) -> Tried | None:
    """None where it was not tried on its assigned data."""
    if measured.failure or not measured.own_sequences:
        return None
    error = (measured.drop_high - measured.drop_mean) / 3
    return Tried(measured.drop_mean, error, measured.own_mean, measured.own_error)


def excess(one: Tried) -> float:
    """By how many standard errors it helps its assigned data more than hidden data."""
    error = math.hypot(one.own_error, one.hidden_error)
    return (one.own_mean - one.hidden_mean) / error if error else 0.0


def not_own_data(improvements: Mapping[str, Tried], yardstick: Tried | None = None) -> dict[str, Reason]:
    """By commitment: those whose assigned data does not show in their work. Of a whole round.

    The yardstick's work says whether own data can be told, and how much of it honest work shows; without one the round's
    median says whether.
    """
    found = {commitment: excess(one) for commitment, one in improvements.items()}
    if not found:
        return {}
    usual = excess(yardstick) if yardstick else statistics.median_low(found.values())
    least = max(MISSING, PART * usual) if yardstick else MISSING
    limit = least if usual >= SHOWN else AGAINST
    return {commitment: _reason(improvements[commitment]) for commitment, seen in found.items() if seen < limit}


def shown(one: Tried) -> str:
    """What was seen, for a receipt."""
    own, hidden = one.own_mean / 1e9, one.hidden_mean / 1e9
    lowers = f"it lowers the loss there by {own:.4f} and on hidden shards by {hidden:.4f} nats per token"
    return f"{lowers}: {excess(one):+.1f} standard errors"


def _reason(one: Tried) -> Reason:
    return Reason("not_own_data", f"It was not trained on the data it was assigned: {shown(one)}.")
