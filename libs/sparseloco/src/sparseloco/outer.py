"""The outer step: clip, average, subtract. Pure functions of the accepted updates, blind to order, payment and clocks.

θ ← θ - alpha·agg(Δ̂), where agg takes, at every index, the mean over the peers that sent it ("idx", what production code
does) or over all peers ("all", what the paper writes); alpha does not carry over from one to the other.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sparseloco.defaults import OUTER_LR
from sparseloco.sparse import Update

Mode = Literal["idx", "all"]


def median_norms(norms: Collection[Sequence[float]]) -> tuple[float, ...]:
    """The lower median per tensor, (tensors,), of norms (peers, tensors): half of the peers must collude to raise it.

    The lower one of two middle values, so that with an even count the larger half cannot pull it up.
    Raises ValueError without peers.
    """
    if not norms:
        raise ValueError("a median needs at least one peer")
    return tuple(sorted(column)[(len(norms) - 1) // 2] for column in zip(*norms, strict=True))


def clip_factors(norms: Sequence[float], medians: Sequence[float]) -> tuple[float, ...]:
    """min(1, median / norm) per tensor, (tensors,)."""
    return tuple(min(1.0, m / n) if n > 0 else 1.0 for n, m in zip(norms, medians, strict=True))


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
