"""How much one update lowers the loss: paired, on hidden shards, in place, undone to the bit. It knows no money.

The same tokens before and after, in batches of one canonical shape, because batch size alone changes bits; so does
the number of threads, which the caller sets (torch.set_num_threads) and the receipt names.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sparseloco.data import Corpus, hidden_windows
from sparseloco.defaults import CONTEXT, SCORE_MIN_SHARDS, SCORE_RELATIVE_ERROR, SHARD_WINDOWS
from sparseloco.model import ByteGPT, GPTShape, sequence_losses
from sparseloco.outer import clip_factors
from sparseloco.sparse import Update
from torch import Tensor

from l402_oracle.scoring import Interval, Reason, interval


@dataclass(frozen=True)
class Measured:
    """One update's measurement, enough to repeat it."""

    shards: tuple[int, ...]
    losses_before: tuple[float, ...]  # nats per token, one per sequence
    losses_after: tuple[float, ...]

    @property
    def drops(self) -> tuple[float, ...]:
        """Per-sequence paired drops, in nats per token."""
        return tuple(before - after for before, after in zip(self.losses_before, self.losses_after, strict=True))

    @property
    def is_finite(self) -> bool:
        """False where the update blew the model up: a fault, and no interval exists."""
        return all(math.isfinite(loss) for loss in self.losses_after)

    @property
    def interval(self) -> Interval:
        """Mean drop ± 3·SE. Raises ValueError unless `is_finite`."""
        return interval(self.drops)

    @property
    def tokens(self) -> int:
        """Tokens predicted after the update."""
        return len(self.losses_after) * CONTEXT


@dataclass(frozen=True)
class Stopping:
    """When a measurement may end before its last shard: it looks after `min_shards`, then each time they doubled.

    Few looks, because every further look at an interval is one more chance to be lucky.
    """

    min_shards: int = SCORE_MIN_SHARDS
    relative_error: float = SCORE_RELATIVE_ERROR
    """A clear improvement is known well enough when SE/mean is at most this; 0 means to the last shard."""

    def stages(self, shards: Sequence[int]) -> list[Sequence[int]]:
        """The shards between two looks."""
        ends = [self.min_shards]
        while ends[-1] < len(shards):
            ends.append(2 * ends[-1])
        return [shards[start:end] for start, end in zip([0, *ends], ends, strict=False)]


class Measurer:
    """One checkpoint in memory, and what its loss is on each shard."""

    def __init__(self, theta: Tensor, corpus: Corpus, shape: GPTShape | None = None) -> None:
        self._model = ByteGPT(theta.clone(), shape)
        self._model.requires_grad_(requires_grad=False)
        self._flat = self._model.flat.data
        self._corpus = corpus
        self._baseline: dict[int, tuple[float, ...]] = {}

    @property
    def theta(self) -> Tensor:
        """The checkpoint's parameters, (numel,): a copy."""
        return self._flat.clone()

    def baseline(self, shard: int) -> tuple[float, ...]:
        """Per-sequence losses of the checkpoint itself, computed once per shard."""
        if shard not in self._baseline:
            self._baseline[shard] = self._losses(shard)
        return self._baseline[shard]

    def measure(
        self, update: Update, shards: Sequence[int], stopping: Stopping | None = None, alpha: float = 1.0
    ) -> Measured:
        """θ - alpha·update against θ on `shards`, in their order. The checkpoint is restored to the bit.

        `update` is clipped already. Raises ValueError where a shard repeats or an index lies outside the model.
        """
        if len(set(shards)) != len(shards) or not shards:
            raise ValueError("a measurement needs shards, and each once")
        stopping = stopping or Stopping()
        before: list[float] = []
        after: list[float] = []
        seen = 0
        for stage in stopping.stages(shards):
            before += [loss for shard in stage for loss in self.baseline(shard)]
            after += self._losses_with(update, stage, alpha)
            seen += len(stage)
            if _is_clear(before, after, stopping.relative_error):
                break
        return Measured(tuple(shards[:seen]), tuple(before), tuple(after))

    def _losses_with(self, update: Update, shards: Sequence[int], alpha: float) -> list[float]:
        indices = torch.from_numpy(update.indices)
        originals = self._flat[indices]
        try:
            self._flat.index_add_(0, indices, torch.from_numpy(update.values), alpha=-alpha)
            return [loss for shard in shards for loss in self._losses(shard)]
        finally:
            # writing back is exact; adding the update again would drift by a rounding
            self._flat[indices] = originals

    def _losses(self, shard: int) -> tuple[float, ...]:
        with torch.no_grad():
            losses = sequence_losses(self._model, hidden_windows(self._corpus, shard))
        return tuple(losses.tolist())


def _is_clear(before: Sequence[float], after: Sequence[float], relative_error: float) -> bool:
    """Broken, clearly harmful, or improving and known well enough."""
    if not all(math.isfinite(loss) for loss in after):
        return True
    seen = interval([b - a for b, a in zip(before, after, strict=True)])
    return seen.hi < 0 or (seen.lo > 0 and seen.se <= relative_error * seen.mean)


def mean_loss(theta: Tensor, windows: Tensor, shape: GPTShape | None = None) -> float:
    """Mean loss on windows (B, CONTEXT + 1), in nats per token, in batches of the canonical shape: the loss curve."""
    model = ByteGPT(theta, shape)
    with torch.no_grad():
        losses = torch.cat([sequence_losses(model, batch) for batch in torch.split(windows, SHARD_WINDOWS)])
    return float(losses.double().mean())


NORM_LIMIT = 1e3
"""Largest sane L2 norm of a whole update; honest ones lie below 30."""
NORM_FLOOR = 1e-6
"""Below this an update moves nothing."""


def screen(norms: Sequence[float]) -> tuple[Reason, ...]:
    """What is wrong with an update at sight of its per-tensor norms alone; empty where nothing is."""
    total = math.sqrt(math.fsum(norm * norm for norm in norms))
    if not math.isfinite(total):
        return (Reason("not_finite", "The update has a value that is not finite."),)
    if total < NORM_FLOOR:
        return (Reason("zero_update", "The update changes nothing."),)
    if total > NORM_LIMIT:
        return (Reason("norm_insane", f"The update's norm is {total:.3g}, beyond the limit of {NORM_LIMIT:g}."),)
    return ()


def clipped(update: Update, medians: Sequence[float]) -> Update:
    """The update with each tensor at most at the round's median norm: what is measured is what is applied."""
    return update.scaled(clip_factors(update.norms(), medians))
