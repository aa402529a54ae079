"""The outer step: clip, average, subtract. Pure functions of the accepted updates, blind to order, payment and clocks.

θ ← θ - alpha·agg(Δ̂), where agg takes, at every index, the mean over the peers that sent it ("idx", what production code
does) or over all peers ("all", what the paper writes); alpha does not carry over from one to the other.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sparseloco.clip import clip_factors, median_norms
from sparseloco.defaults import OUTER_LR
from sparseloco.sparse import Update

__all__ = ["Mode", "aggregate", "clip_factors", "median_norms", "outer_step"]

Mode = Literal["idx", "all"]


def aggregate(updates: Mapping[bytes, Update], numel: int, mode: Mode = "idx") -> Tensor:
    """The averaged update, (numel,), float32. `updates` are clipped already, keyed by peer.

    Summed in float64 in the order of the keys, so that the order of arrival does not change a bit. No updates: zeros.
    """
    total, count = np.zeros(numel), np.zeros(numel)
    for key in sorted(updates):
        total[updates[key].indices] += updates[key].values
        count[updates[key].indices] += 1
    if mode == "all":
        count[:] = len(updates)
    mean = np.divide(total, count, out=np.zeros(numel), where=count > 0)
    return torch.from_numpy(mean.astype(np.float32))


def outer_step(theta: Tensor, aggregated: Tensor, alpha: float = OUTER_LR) -> Tensor:
    """The next parameters, (numel,), float32."""
    return theta - alpha * aggregated
