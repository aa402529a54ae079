"""The ways to combine eight peers that are compared, as data. It knows no tensor."""

from dataclasses import dataclass, replace

from sparseloco import defaults
from sparseloco.sparse import Quantiser


@dataclass(frozen=True)
class Arm:
    """One way to make the next checkpoint of what the peers did with the same tokens."""

    name: str
    sparse: bool = True
    alpha: float = defaults.OUTER_LR
    alpha_first: float | None = None
    """The outer step of the first round, from which it goes straight to `alpha` over `ramp` rounds."""
    ramp: int = 0
    momentum: float = 0.0
    """Nesterov's, of the outer step."""
    beta: float = defaults.FEEDBACK_DECAY
    feedback_from: int = 0
    """The first round whose remainder is remembered."""
    feedback_reset: int = 0
    """Every so many rounds all is forgotten; 0: never."""
    feedback_cap: float | None = None
    """What is remembered is at most so many times as long as the round's own delta."""
    k: int = defaults.TOP_K
    quantiser: Quantiser = Quantiser.SIGN_TWO
    divide_by_all: bool = False
    """Mean over all peers instead of over those that sent an index."""

    def alpha_in(self, round_: int) -> float:
        """The outer step of a round, counted from 0."""
        if self.alpha_first is None or round_ >= self.ramp:
            return self.alpha
        return self.alpha_first + (self.alpha - self.alpha_first) * round_ / self.ramp


DENSE = Arm("dense averaging", sparse=False, alpha=1.0)
DILOCO = Arm("dense DiLoCo (0.7, Nesterov 0.9)", sparse=False, alpha=0.7, momentum=0.9)
"""Outer rate and momentum of the paper: https://arxiv.org/abs/2311.08105."""
PUBLISHED = Arm("SparseLoCo (beta 0.95, alpha 1, as published)", alpha=1.0, beta=0.95)
SPARSE = Arm(f"SparseLoCo (beta {defaults.FEEDBACK_DECAY}, alpha {defaults.OUTER_LR}, our defaults)")
CORE = (DENSE, DILOCO, PUBLISHED, SPARSE)

DILOCOS = tuple(
    replace(DILOCO, name=f"dense DiLoCo ({alpha}, Nesterov {momentum})", alpha=alpha, momentum=momentum)
    for alpha, momentum in ((1.0, 0.5), (0.7, 0.7), (0.7, 0.8), (1.0, 0.7), (0.4, 0.9))
)
"""The comparator deserves its own search, or the gap to it would mean nothing."""


def _sparse(name: str, **changes: object) -> Arm:
    return replace(PUBLISHED, name=f"SparseLoCo, {name}", **changes)  # type: ignore[arg-type]  # checked when it is made


VARIANTS = (
    *(_sparse(f"beta {beta}", beta=beta) for beta in (0.0, 0.5, 0.8, 0.9, 1.0)),
    *(_sparse(f"alpha {alpha}", alpha=alpha) for alpha in (0.5, 0.7, 1.3, 1.6, 2.0)),
    _sparse("alpha 0.5 to 1 in 5 rounds", alpha_first=0.5, ramp=5),
    _sparse("alpha 1 to 0.5 in 20 rounds", alpha=0.5, alpha_first=1.0, ramp=20),
    _sparse("alpha 1.5 to 0.7 in 20 rounds", alpha=0.7, alpha_first=1.5, ramp=20),
    _sparse("Nesterov 0.3", momentum=0.3),
    _sparse("Nesterov 0.5", momentum=0.5),
    _sparse("alpha 0.7, Nesterov 0.5", alpha=0.7, momentum=0.5),
    _sparse("alpha 0.7, Nesterov 0.7", alpha=0.7, momentum=0.7),
    _sparse("alpha 0.4, Nesterov 0.8", alpha=0.4, momentum=0.8),
    *(_sparse(f"feedback at most {cap} delta", feedback_cap=cap) for cap in (1.0, 2.0)),
    _sparse("feedback from round 4", feedback_from=3),
    _sparse("feedback reset every 5 rounds", feedback_reset=5),
    _sparse("alpha 1.3, Nesterov 0.5", alpha=1.3, momentum=0.5),
    _sparse("beta 0.8, Nesterov 0.5", beta=0.8, momentum=0.5),
    _sparse("beta 0.8, alpha 0.7, Nesterov 0.7", beta=0.8, alpha=0.7, momentum=0.7),
    _sparse("beta 0.8, alpha 1.3", beta=0.8, alpha=1.3),
    _sparse("beta 0.9, alpha 1.3", beta=0.9, alpha=1.3),
    _sparse("k 128", k=128),
    _sparse("k 256", k=256),
    _sparse("mean over all, alpha 4", divide_by_all=True, alpha=4.0),
    _sparse("published quantiser", quantiser=Quantiser.PUBLISHED),
)
"""Where the gap to DiLoCo may come from: stale feedback, the step's schedule, the first rounds, what k and two bits cost."""

SAME_BYTES = frozenset(arm.name for arm in VARIANTS if arm.k == defaults.TOP_K)
"""Variants that send no more than the default does: only these may win."""
