"""From what the peers' models became to the next one, for many runs at once: dense, DiLoCo, or through the codec.

The codec's own selection and quantiser work on all peers together; `check` compares with the library, to the bit.
"""

from collections.abc import Callable, Sequence

import torch
from _convergence_arms import SPARSE, Arm
from _convergence_fleet import PEERS, SPEC
from sparseloco.clip import clip_factors, median_norms
from sparseloco.codec import compress, decode, decompress, flat_index
from sparseloco.layout import Grid, grids_of, kept_per_tensor
from sparseloco.outer import aggregate
from sparseloco.quantise import quantise
from sparseloco.select import top_positions
from sparseloco.sparse import Quantiser, expand
from torch import Tensor


class Outer:
    """The feedback of each peer and the momentum of each run, and what a round makes of them."""

    def __init__(self, arms: Sequence[Arm], device: torch.device) -> None:
        self._arms = arms
        self._feedback = torch.zeros(len(arms), PEERS, SPEC.numel, device=device)
        self._momentum = torch.zeros(len(arms), SPEC.numel, device=device)

    def step(self, theta: Tensor, deltas: Tensor, round_: int) -> Tensor:  # (runs, numel), (runs, PEERS, numel)
        """The next parameters of each run, (runs, numel)."""
        mean = deltas.mean(1)
        for kind in {(arm.k, arm.quantiser) for arm in self._arms if arm.sparse}:
            runs = [i for i, arm in enumerate(self._arms) if arm.sparse and (arm.k, arm.quantiser) == kind]
            for run, sent in zip(runs, self._sent(runs, deltas, *kind, round_), strict=True):
                mean[run] = mean_of_sent(sent, divide_by_all=self._arms[run].divide_by_all)
        momentum = self._column(lambda arm: arm.momentum)
        alpha = self._column(lambda arm: arm.alpha_in(round_))
        self._momentum.mul_(momentum).add_(mean)
        return theta - alpha * torch.where(momentum > 0, mean + momentum * self._momentum, mean)

    def _sent(self, runs: list[int], deltas: Tensor, k: int, quantiser: Quantiser, round_: int) -> list[Tensor]:
        """What arrives of each run, (PEERS, numel) dense; the feedback moves on."""
        beta = torch.tensor([self._arms[run].beta for run in runs], device=deltas.device)[:, None, None]
        wanted = deltas[runs] + beta * self._feedback[runs]
        sent = rounded(wanted.flatten(0, 1), k, quantiser).view_as(wanted)
        left = wanted - sent
        for place, run in enumerate(runs):
            self._feedback[run] = self._remembered(self._arms[run], left[place], deltas[run], round_)
        return list(sent)

    def _remembered(self, arm: Arm, left: Tensor, delta: Tensor, round_: int) -> Tensor:
        if round_ < arm.feedback_from or (arm.feedback_reset and (round_ + 1) % arm.feedback_reset == 0):
            return torch.zeros_like(left)
        if arm.feedback_cap is None:
            return left
        longest = arm.feedback_cap * delta.norm(dim=1, keepdim=True)
        return left.mul((longest / left.norm(dim=1, keepdim=True)).clamp(max=1))

    def _column(self, of: Callable[[Arm], float]) -> Tensor:  # (runs, 1)
        return torch.tensor([of(arm) for arm in self._arms], device=self._momentum.device)[:, None]


def rounded(wanted: Tensor, k: int, quantiser: Quantiser) -> Tensor:  # (models, numel) → the same
    """What the codec would deliver of each row: chunked top-k, two bits, dense again."""
    models = len(wanted)
    rows = torch.arange(models, device=wanted.device)[:, None] * SPEC.numel
    indices = torch.cat([rows + _chosen(wanted, grid, k).view(models, -1) for grid in grids_of(SPEC)], dim=1)
    values = wanted.view(-1)[indices]
    segments = kept_per_tensor(SPEC, k) * models  # a tensor of a row is a tensor
    codes, tables = quantise(values.view(-1), segments, quantiser)
    sent = torch.zeros_like(wanted)
    sent.view(-1)[indices.view(-1)] = decode(codes, tables, segments)
    return sent


def _chosen(wanted: Tensor, grid: Grid, k: int) -> Tensor:  # (models, numel) → (models · entries,)
    """Flat indices inside each row: the rows' parts of one grid lie under one another, so one selection serves all."""
    matrix = wanted[:, grid.offset : grid.offset + grid.numel].reshape(-1, grid.width)
    positions = top_positions(matrix, grid.rows, grid.columns, k)
    return flat_index(grid, positions.view(len(wanted), grid.chunks, -1))


def mean_of_sent(sent: Tensor, *, divide_by_all: bool = False) -> Tensor:  # (PEERS, numel) → (numel,)
    """Clipped to the median norm of each tensor, then the mean over the peers that sent an index, or over all."""
    norms = torch.stack([part.double().norm(dim=1) for part in torch.split(sent, list(SPEC.sizes), 1)], dim=1)
    medians = norms.sort(dim=0).values[(len(sent) - 1) // 2]
    factors = (medians / norms).clamp(max=1).float()  # (PEERS, tensors)
    sizes = torch.tensor(SPEC.sizes, device=sent.device)
    total = (sent * factors.repeat_interleave(sizes, dim=1, output_size=SPEC.numel)).double().sum(0)
    count = len(sent) if divide_by_all else (sent != 0).sum(0).clamp(min=1)
    return (total / count).float()


def check(device: torch.device) -> None:
    """What is measured here is the product's codec and aggregation. Raises AssertionError where it is not."""
    generator = torch.Generator().manual_seed(1)
    deltas = torch.randn(2, SPEC.numel, generator=generator) * 1e-2
    sent = rounded(deltas.to(device), SPARSE.k, SPARSE.quantiser)
    updates = {}
    for number, delta in enumerate(deltas):
        sparse, _ = compress(delta, torch.zeros(SPEC.numel), SPEC)
        assert torch.equal(sent[number].cpu(), decompress(sparse, SPEC))
        updates[bytes([number])] = expand(sparse, SPEC)
    medians = median_norms([update.norms() for update in updates.values()])
    fair = {key: update.scaled(clip_factors(update.norms(), medians)) for key, update in updates.items()}
    assert torch.allclose(mean_of_sent(sent).cpu(), aggregate(fair, SPEC.numel), atol=1e-7)
