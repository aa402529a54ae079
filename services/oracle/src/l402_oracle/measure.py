"""How much one update lowers the loss: paired, on hidden shards, in place, undone to the bit. It knows no money.

The same tokens before and after, in batches of one canonical shape, because batch size alone changes bits; so does
the number of threads, which the caller sets (torch.set_num_threads) and the receipt names.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from sparseloco.data import Corpus, hidden_windows
from sparseloco.defaults import CONTEXT, SCORE_MIN_SHARDS, SCORE_RELATIVE_ERROR, SHARD_WINDOWS
from sparseloco.device import DeviceUpdate
from sparseloco.model import ByteGPT, GPTShape, sequence_losses
from sparseloco.outer import clip_factors
from sparseloco.sparse import Update
from torch import Tensor

from l402_oracle.resident import Answer, resident
from l402_oracle.scoring import Interval, Reason, interval
from l402_oracle.turns import Turn


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
    """One checkpoint in memory, and what its loss is on each shard.

    Whoever holds the `turn` calls it; while it waits for a device, another measurement may have the turn.
    """

    def __init__(
        self, theta: Tensor, corpus: Corpus, shape: GPTShape | None = None, device: str = "cpu", turn: Turn | None = None
    ) -> None:  # fmt: skip
        self._turn = turn
        self._resident = resident(theta, shape, device)
        self._device = device
        self._corpus = corpus
        self._windows: dict[int, Tensor] = {}
        self._baseline: dict[int, tuple[float, ...]] = {}

    @property
    def theta(self) -> Tensor:
        """The checkpoint's parameters, (numel,): a copy."""
        return self._resident.theta

    def baseline(self, shards: Sequence[int]) -> list[float]:
        """Per-sequence losses of the checkpoint itself, shard after shard, each computed once for all updates."""
        new = [shard for shard in shards if shard not in self._baseline]
        self._remember(new, self._waited(self._asked(new)) if new else [])
        return [loss for shard in shards for loss in self._baseline[shard]]

    def measure(
        self, update: Update | DeviceUpdate, shards: Sequence[int], stopping: Stopping | None = None, alpha: float = 1.0
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
            new = [shard for shard in stage if shard not in self._baseline]
            first = self._asked(new) if new else list
            with self._resident.applied(update, alpha):
                then = self._asked(stage)
            after += self._waited(then)
            self._remember(new, first())
            before += self.baseline(stage)
            seen += len(stage)
            if _is_clear(before, after, stopping.relative_error):
                break
        return Measured(tuple(shards[:seen]), tuple(before), tuple(after))

    def try_on(
        self, update: Update | DeviceUpdate, windows: Tensor, alpha: float = 1.0
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Losses before and after on windows (n · SHARD_WINDOWS, CONTEXT + 1) of one update's own, one per sequence."""
        batches = [batch.to(self._device) for batch in torch.split(windows, SHARD_WINDOWS)]
        before = self._resident.asked(batches)
        with self._resident.applied(update, alpha):
            after = self._resident.asked(batches)
        worked = self._waited(after)
        return tuple(before()), tuple(worked)

    def _asked(self, shards: Sequence[int]) -> Answer:
        """One canonical forward pass a shard."""
        return self._resident.asked([self._windows_of(shard) for shard in shards])

    def _waited(self, answer: Answer) -> list[float]:
        if self._turn is None:
            return answer()
        with self._turn.given_up():
            return answer()

    def _remember(self, shards: Sequence[int], losses: Sequence[float]) -> None:
        for number, shard in enumerate(shards):
            self._baseline[shard] = tuple(losses[number * SHARD_WINDOWS : (number + 1) * SHARD_WINDOWS])

    def _windows_of(self, shard: int) -> Tensor:
        if shard not in self._windows:
            self._windows[shard] = hidden_windows(self._corpus, shard).to(self._device)
        return self._windows[shard]


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


AnyUpdate = TypeVar("AnyUpdate", Update, DeviceUpdate)


def clipped(update: AnyUpdate, medians: Sequence[float]) -> AnyUpdate:
    """The update with each tensor at most at the round's median norm: what is measured is what is applied."""
    return update.scaled(clip_factors(update.norms(), medians))
