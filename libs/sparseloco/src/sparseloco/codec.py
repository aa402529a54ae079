"""The SparseLoCo codec: chunked top-k, two-bit values, error feedback. It knows nothing of bytes, peers or rounds.

Per peer and round (https://arxiv.org/abs/2508.15706): a = β·e + Δ, Δ̂ = Q(TopK(a)), e ← a - Δ̂. Ties are canonical:
|x| descending, then index ascending, because torch leaves the order of equal values undefined.
"""

import numpy as np
import torch
from torch import Tensor

from sparseloco.defaults import FEEDBACK_DECAY, TOP_K
from sparseloco.layout import MAX_CHUNK, Grid, grids_of
from sparseloco.quantise import quantise
from sparseloco.select import top_positions
from sparseloco.sparse import Quantiser, Sparse, expand
from sparseloco.spec import ModelSpec

_PIECE = 1 << 18
"""Elements of the dense vectors that are worked on while they lie in the cache."""


def compress(
    delta: Tensor,  # (numel,), float32: θ_start - θ_H
    feedback: Tensor,  # (numel,), float32: what earlier rounds did not send
    spec: ModelSpec,
    *,
    k: int = TOP_K,
    beta: float = FEEDBACK_DECAY,
    quantiser: Quantiser = Quantiser.SIGN_TWO,
    into: Tensor | None = None,  # (numel,), float32: overwritten with the feedback to keep; `feedback` itself is fine
) -> tuple[Sparse, Tensor]:
    """The compressed update, and the feedback (numel,) to keep if it is accepted (zero it if not).

    Every device gives the same bits. One dense vector is made, the feedback, or none with `into`; what else is held is
    of the size of the kept entries. Raises ValueError for another length, a k outside 1..4096, or a value that is not finite.
    """
    if not 1 <= k <= MAX_CHUNK:
        raise ValueError(f"k is {k}, outside 1..{MAX_CHUNK}")
    if delta.shape != (spec.numel,) or feedback.shape != (spec.numel,):
        raise ValueError(f"delta {tuple(delta.shape)} and feedback {tuple(feedback.shape)} are not ({spec.numel},)")
    wanted = blended(delta, feedback, beta, into)
    positions = select(wanted, spec, k)
    counts = kept_per_tensor(spec, k)
    flat = flat_indices(positions, spec)
    values = wanted[flat]
    if not bool(torch.isfinite(values).all()):  # what is not finite is always among the largest
        raise ValueError("the update has a value that is not finite")
    codes, tables = quantise(values, counts, quantiser)
    wanted[flat] = values - decode(codes, tables, counts)
    found = torch.cat([part.view(-1) for part in positions]).cpu().numpy().view(np.uint16)
    return Sparse(k, quantiser, found, codes.cpu().numpy(), tables.cpu().numpy()), wanted


def decompress(sparse: Sparse, spec: ModelSpec) -> Tensor:
    """The update as a dense vector, (numel,), float32."""
    update = expand(sparse, spec)
    dense = torch.zeros(spec.numel)
    dense[torch.from_numpy(update.indices)] = torch.from_numpy(update.values)
    return dense


def blended(delta: Tensor, feedback: Tensor, beta: float, into: Tensor | None = None) -> Tensor:  # (numel,) each
    """β·e + Δ; multiplied, then added, so that no device fuses the two roundings into one."""
    wanted = torch.empty_like(delta, dtype=torch.float32) if into is None else into
    piece = _PIECE if delta.device.type == "cpu" else delta.numel()
    for out, add, old in zip(*(torch.split(each, piece) for each in (wanted, delta, feedback)), strict=True):
        torch.mul(old, beta, out=out)
        out.add_(add)
    return wanted


def select(wanted: Tensor, spec: ModelSpec, k: int) -> list[Tensor]:
    """Per grid of the model the kept positions, (chunks, kept) int16, of the dense vector (numel,)."""
    return [
        top_positions(wanted[g.offset : g.offset + g.numel].view(g.height, g.width), g.rows, g.columns, k)
        for g in grids_of(spec)
    ]


def flat_indices(positions: list[Tensor], spec: ModelSpec) -> Tensor:  # (entries,) int64
    """Where all kept positions lie in the flat vector."""
    return torch.cat([flat_index(grid, part) for grid, part in zip(grids_of(spec), positions, strict=True)])


def flat_index(grid: Grid, positions: Tensor) -> Tensor:  # (chunks, kept) → (chunks · kept,) int64
    """Where positions inside the blocks of `grid` lie in the flat vector."""
    inside = positions.to(torch.int32)
    chunk = torch.arange(grid.chunks, device=positions.device)
    corner = chunk // grid.across * (grid.rows * grid.width) + chunk % grid.across * grid.columns + grid.offset
    return (corner[:, None] + (inside // grid.columns * grid.width + inside % grid.columns)).view(-1)


def decode(codes: Tensor, tables: Tensor, counts: tuple[int, ...]) -> Tensor:
    """Values (entries,) float32 of codes (entries,), by each tensor's table."""
    return tables.reshape(-1)[tensor_and_code(codes, counts)]


def tensor_and_code(codes: Tensor, counts: tuple[int, ...]) -> Tensor:
    """4 · tensor + code of each entry, (entries,) int32: one number for the tables of all tensors."""
    tensors = torch.arange(0, 4 * len(counts), 4, dtype=torch.int32, device=codes.device)
    spread = torch.repeat_interleave(tensors, torch.tensor(counts, device=codes.device), output_size=len(codes))
    return spread.add_(codes)


def kept_per_tensor(spec: ModelSpec, k: int) -> tuple[int, ...]:
    """Entries kept of each tensor, (tensors,)."""
    counts = [0] * len(spec.tensors)
    for grid in grids_of(spec):
        counts[grid.tensor] += grid.chunks * min(k, grid.size)
    return tuple(counts)
