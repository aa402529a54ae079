"""The SparseLoCo codec: chunked top-k, two-bit values, error feedback. It knows nothing of bytes, peers or rounds.

Per peer and round (https://arxiv.org/abs/2508.15706): a = β·e + Δ, Δ̂ = Q(TopK(a)), e ← a - Δ̂. Ties are canonical:
|x| descending, then index ascending, because torch leaves the order of equal values undefined.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sparseloco import strips
from sparseloco.defaults import FEEDBACK_DECAY, TOP_K
from sparseloco.layout import MAX_CHUNK, Grid, grids_of, kept_per_tensor
from sparseloco.quantise import Segments, quantise
from sparseloco.select import top_positions
from sparseloco.sparse import Quantiser, Sparse, expand
from sparseloco.spec import ModelSpec

BAND_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Elements whose candidates are ordered together: few enough to stay near a core, enough to outweigh calls and fill a GPU."""


@dataclass(frozen=True, eq=False)
class Kept:
    """The entries that will be sent, of all chunks, before they are rounded."""

    positions: Tensor  # (entries,) int16, inside the chunk
    indices: Tensor  # (entries,) int64, in the flat vector
    values: Tensor  # (entries,) float32


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
    of the size of the kept entries. Raises ValueError for another length, a k outside 1..4096, an `into` that is not
    contiguous, or a value that is not finite.
    """
    if not 1 <= k <= MAX_CHUNK:
        raise ValueError(f"k is {k}, outside 1..{MAX_CHUNK}")
    if delta.shape != (spec.numel,) or feedback.shape != (spec.numel,):
        raise ValueError(f"delta {tuple(delta.shape)} and feedback {tuple(feedback.shape)} are not ({spec.numel},)")
    wanted = torch.empty_like(delta, dtype=torch.float32) if into is None else into
    if not wanted.is_contiguous():
        raise ValueError("the feedback is to be kept in a tensor that is not contiguous")
    kept = select(delta, feedback, beta, spec, k, into=wanted)
    if not bool(torch.isfinite(kept.values).all()):  # what is not finite is always among the largest
        raise ValueError("the update has a value that is not finite")
    counts = kept_per_tensor(spec, k)
    codes, tables = quantise(kept.values, counts, quantiser)
    put(wanted, kept.indices, kept.values - decode(codes, tables, counts))
    positions = kept.positions.cpu().numpy().view(np.uint16)
    return Sparse(k, quantiser, positions, codes.cpu().numpy(), tables.cpu().numpy()), wanted


def decompress(sparse: Sparse, spec: ModelSpec) -> Tensor:
    """The update as a dense vector, (numel,), float32."""
    update = expand(sparse, spec)
    dense = torch.zeros(spec.numel)
    dense[torch.from_numpy(update.indices)] = torch.from_numpy(update.values)
    return dense


def select(
    delta: Tensor,  # (numel,)
    feedback: Tensor,  # (numel,)
    beta: float,
    spec: ModelSpec,
    k: int,
    *,
    into: Tensor,  # (numel,) float32: becomes β·e + Δ
) -> Kept:
    """The k largest entries of each chunk of β·e + Δ, band by band, so that each band is read once from memory.

    Multiplied, then added, so that no device fuses the two roundings into one.
    """
    choose = partial(_choose_here, strips.Scratch()) if delta.device.type == "cpu" else _choose_there
    parts = []
    for grid in grids_of(spec):
        for band in grid.bands(BAND_ELEMENTS[delta.device.type]):
            here = slice(band.offset, band.offset + band.numel)
            positions, indices = choose(delta[here], feedback[here], beta, band, k, into[here])
            parts.append((positions, indices, take(into, indices)))
    return Kept(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _choose_there(
    delta: Tensor, feedback: Tensor, beta: float, band: Grid, k: int, into: Tensor
) -> tuple[Tensor, Tensor]:
    torch.mul(feedback, beta, out=into).add_(delta)
    positions = top_positions(into.view(band.height, band.width), band.rows, band.columns, k)
    return positions.view(-1), flat_index(band, positions)


def _choose_here(
    scratch: strips.Scratch, delta: Tensor, feedback: Tensor, beta: float, band: Grid, k: int, into: Tensor
) -> tuple[Tensor, Tensor]:
    """The same with numpy, whose calls are short enough to work on what fits a core's cache."""
    change, before, sums, decay = delta.numpy(), feedback.numpy(), into.numpy(), np.float32(beta)

    def add(piece: slice) -> None:
        np.multiply(before[piece], decay, out=sums[piece])
        np.add(sums[piece], change[piece], out=sums[piece])

    matrix = sums.reshape(band.height, band.width)
    positions = strips.top_positions(matrix, band.rows, band.columns, k, add, scratch)
    inside = np.arange(band.size)
    inside += inside // band.columns * (band.width - band.columns)
    indices = inside.take(positions)
    indices += band.corners()[:, None]
    return torch.from_numpy(positions.astype(np.int16).reshape(-1)), torch.from_numpy(indices.reshape(-1))


def flat_index(grid: Grid, positions: Tensor) -> Tensor:  # (chunks, kept) → (chunks · kept,) int64
    """Where positions inside the blocks of `grid` lie in the flat vector."""
    inside = positions.to(torch.int32)
    chunk = torch.arange(grid.chunks, device=positions.device)
    corner = chunk // grid.across * (grid.rows * grid.width) + chunk % grid.across * grid.columns + grid.offset
    return (corner[:, None] + (inside // grid.columns * grid.width + inside % grid.columns)).view(-1)


def decode(codes: Tensor, tables: Tensor, counts: tuple[int, ...]) -> Tensor:
    """Values (entries,) float32 of codes (entries,), by each tensor's table."""
    return take(tables.reshape(-1), tensor_and_code(codes, counts))


def take(source: Tensor, indices: Tensor) -> Tensor:
    """source[indices]; numpy does it in little more than half of torch's time on a CPU, and so in `put`."""
    if source.device.type != "cpu":
        return source[indices]
    return torch.from_numpy(source.numpy().take(indices.numpy()))


def put(target: Tensor, indices: Tensor, values: Tensor) -> None:
    """target[indices] = values."""
    if target.device.type != "cpu":
        target[indices] = values
    else:
        target.numpy()[indices.numpy()] = values.numpy()


def tensor_and_code(codes: Tensor, counts: tuple[int, ...]) -> Tensor:
    """4 · tensor + code of each entry, (entries,) int32: one number for the tables of all tensors."""
    tensors = torch.arange(0, 4 * len(counts), 4, dtype=torch.int32, device=codes.device)
    return Segments(counts, codes.device).spread(tensors).add_(codes)
