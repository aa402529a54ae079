"""What a measured update earns: statistics, the round's reference, the ladder, the decision. Pure; it knows no torch.

Floats end at `quality_ppm`; from there on money is integers only. Source of the rules: the round's signed terms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

PPM = 1_000_000
MAX_QUALITY_PPM = 2 * PPM
"""Quality 2 earns the whole ladder."""
MAX_RUNGS = 32
SIGMAS = 3.0
"""Half-width of every interval, in standard errors."""
BOUNDED = 0.05
"""Of all drops that an excess is computed from, the part at either end that counts as the rest's highest or lowest."""
HOLD = (0.25, 2.5)
"""How far the reference may move from one round to the next, as factors."""


@dataclass(frozen=True)
class Interval:
    """A mean of paired drops, in nats per token, with mean ± 3·SE."""

    mean: float
    se: float
    n: int

    @property
    def lo(self) -> float:
        """Lower end."""
        return self.mean - SIGMAS * self.se

    @property
    def hi(self) -> float:
        """Upper end."""
        return self.mean + SIGMAS * self.se


def interval(drops: Sequence[float]) -> Interval:
    """Mean and standard error of per-sequence drops. Raises ValueError for fewer than two, or one not finite."""
    n = len(drops)
    if n < 2 or not all(math.isfinite(drop) for drop in drops):
        raise ValueError("an interval needs at least two finite drops")
    mean = math.fsum(drops) / n
    variance = math.fsum((drop - mean) ** 2 for drop in drops) / (n - 1)
    return Interval(mean, math.sqrt(variance / n), n)


def excess_milli(own: Sequence[float], hidden: Sequence[float]) -> int:
    """By how much the drops on one's own data lie above those on hidden data, in thousandths of a standard error.

    A few windows drop by many times the others' spread and would hide everything else, so all drops are first bounded to
    the same range: from the 5th to the 95th hundredth of both together. Raises ValueError as `interval` does.
    """
    together = sorted([*own, *hidden])
    outer = math.floor(BOUNDED * len(together))
    low, high = together[outer], together[-1 - outer]
    mine, theirs = (interval([min(max(drop, low), high) for drop in drops]) for drops in (own, hidden))
    error = math.hypot(mine.se, theirs.se)
    return round(1000 * (mine.mean - theirs.mean) / error) if error else 0


def reference(
    drops: Sequence[float], phi_ppm: int, previous: float | None, yardstick: float | None = None
) -> float | None:
    """The round's reference drop, in nats per token: the yardstick's, which no submission moves.

    Without one, Σs²/Σs over the accepted drops, each positive, recomputed over those above φ times the first value, so
    that many small identities do not lower it. Either is held within 0.25 to 2.5 times the last round's (`previous` is
    None in the first). No accepted drops and no yardstick: `previous`.
    """
    if any(drop <= 0 for drop in drops):
        raise ValueError("accepted drops are positive")
    if yardstick is None and not drops:
        return previous
    value = _accepted_reference(drops, phi_ppm) if yardstick is None else yardstick
    if previous is None:
        return value
    return min(max(value, HOLD[0] * previous), HOLD[1] * previous)


def quality_ppm(drop: float, reference: float, phi_ppm: int) -> int:
    """clip((drop - floor) / (reference - floor), 0, 2) in parts per million, floored: the only float that meets money.

    floor = φ·reference. Raises ValueError unless the reference is positive and 0 ≤ φ < 1.
    """
    if not (reference > 0 and math.isfinite(reference) and math.isfinite(drop)) or not 0 <= phi_ppm < PPM:
        raise ValueError("quality needs finite drops, a positive reference and 0 ≤ phi < 1")
    floor = reference * phi_ppm / PPM
    share = (drop - floor) / (reference - floor)
    return math.floor(min(max(share, 0.0), MAX_QUALITY_PPM / PPM) * PPM)


def units_for(quality: int, rungs: int = 6) -> int:
    """Units earned by a quality in ppm, floored: quality 2 is the whole ladder of 2^rungs - 1."""
    if not 0 <= quality <= MAX_QUALITY_PPM:
        raise ValueError(f"quality {quality} ppm is outside 0..{MAX_QUALITY_PPM}")
    return quality * ladder_units(rungs) // MAX_QUALITY_PPM


def ladder_units(rungs: int = 6) -> int:
    """All units of a ladder: 6 rungs → 63."""
    if not 1 <= rungs <= MAX_RUNGS:
        raise ValueError(f"{rungs} rungs are outside 1..{MAX_RUNGS}")
    return (1 << rungs) - 1


def mask_for(units: int, rungs: int = 6) -> int:
    """Which rungs to reveal: bit i is the rung of 2^i units, so the mask of a sum is the sum itself."""
    if not 0 <= units <= ladder_units(rungs):
        raise ValueError(f"{units} units are outside 0..{ladder_units(rungs)}")
    return units


@dataclass(frozen=True)
class Reason:
    """Why a decision is as it is: a stable code for programs, a sentence for people."""

    code: str
    sentence: str


@dataclass(frozen=True)
class PayRules:
    """What the decision needs of the round's terms."""

    phi_ppm: int = 600_000
    rungs: int = 6


@dataclass(frozen=True)
class Decision:
    """What the attestor decides once: a verdict, why, and the part of the ladder that is earned."""

    verdict: Literal["accepted", "rejected"]
    reasons: tuple[Reason, ...]
    quality_ppm: int
    units: int
    mask: int


def is_improvement(measured: Interval) -> bool:
    """Accepted only where the whole interval lies above zero."""
    return measured.lo > 0


def decide(
    measured: Interval | None, faults: Sequence[Reason], round_reference: float | None, rules: PayRules
) -> Decision:
    """The verdict on one submission.

    `faults` are what screening found (a duplicate, a norm beyond sanity, …): any rejects, and no measurement is needed.
    Raises ValueError where neither a fault nor a measurement is given: an unmeasured submission is not rejected, it is
    unscored. What earns nothing is rejected, so that no unpaid work is used: noise improves a random model a little.
    """
    if faults:
        return _rejected(*faults)
    if measured is None:
        raise ValueError("a submission without fault needs a measurement")
    if not is_improvement(measured):
        return _rejected(_no_improvement(measured))
    if round_reference is None:
        raise ValueError("a round with an accepted update has a reference")
    quality = quality_ppm(measured.mean, round_reference, rules.phi_ppm)
    units = units_for(quality, rules.rungs)
    if units == 0:
        return _rejected(_below_floor(measured, round_reference, rules))
    return Decision("accepted", (_improved(measured, round_reference),), quality, units, mask_for(units, rules.rungs))


def _rejected(*reasons: Reason) -> Decision:
    return Decision("rejected", reasons, quality_ppm=0, units=0, mask=0)


def _no_improvement(measured: Interval) -> Reason:
    if measured.hi < 0:
        raised = f"{-measured.hi:.4f} to {-measured.lo:.4f} nats per token"
        return Reason("harmful", f"It made the model worse: it raises the loss by {raised}.")
    between = f"between {measured.lo:+.4f} and {measured.hi:+.4f} nats per token"
    return Reason(
        "no_improvement", f"No improvement could be shown: it lowers the loss by {between}, which includes 0."
    )


def _below_floor(measured: Interval, round_reference: float, rules: PayRules) -> Reason:
    floor = f"rewards begin above {rules.phi_ppm / 10_000:g} %, and what is not paid for is not used"
    return Reason(
        "below_floor", f"It improved too little: it lowers the loss by {_share(measured, round_reference)}; {floor}."
    )


def _improved(measured: Interval, round_reference: float) -> Reason:
    share = _share(measured, round_reference)
    return Reason(
        "improved", f"It improved the model: it lowers the loss by {measured.mean:.4f} nats per token, {share}."
    )


def _share(measured: Interval, round_reference: float) -> str:
    return f"{100 * measured.mean / round_reference:.0f} % of the round's reference ({round_reference:.4f})"


def _accepted_reference(drops: Sequence[float], phi_ppm: int) -> float:
    first = _self_weighted(drops)
    return _self_weighted([drop for drop in drops if drop * PPM >= phi_ppm * first])


def _self_weighted(drops: Sequence[float]) -> float:
    return math.fsum(drop * drop for drop in drops) / math.fsum(drops)
