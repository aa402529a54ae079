"""The SparseLoCo codec: chunked top-k, two-bit values, error feedback. It knows nothing of bytes, peers or rounds.

Per peer and round (https://arxiv.org/abs/2508.15706): a = β·e + Δ, Δ̂ = Q(TopK(a)), e ← a - Δ̂. Ties are canonical:
|x| descending, then index ascending, because torch leaves the order of equal values undefined.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseloco.defaults import FEEDBACK_DECAY, TOP_K
from sparseloco.layout import MAX_CHUNK, MAX_SIDE, largest_divisor, layout_of
from sparseloco.sparse import Quantiser, Sparse, expand
from sparseloco.spec import ModelSpec

SMALLEST_SCALE = 2.0**-40
"""A tensor that did not move still needs a positive magnitude on the wire; this one changes nothing in float32."""
LLOYD_ROUNDS = 8


def compress(
    delta: Tensor,  # (numel,), float32: θ_start - θ_H
    feedback: Tensor,  # (numel,), float32: what earlier rounds did not send
    spec: ModelSpec,
    *,
    k: int = TOP_K,
    beta: float = FEEDBACK_DECAY,
    quantiser: Quantiser = Quantiser.SIGN_TWO,
) -> tuple[Sparse, Tensor]:
    """The compressed update, and the feedback (numel,) to keep if it is accepted (zero it if not).

    Raises ValueError for another length, a k outside 1..4096, or a value that is not finite.
    """
    if not 1 <= k <= MAX_CHUNK:
        raise ValueError(f"k is {k}, outside 1..{MAX_CHUNK}")
    if delta.shape != (spec.numel,) or feedback.shape != (spec.numel,):
        raise ValueError(f"delta {tuple(delta.shape)} and feedback {tuple(feedback.shape)} are not ({spec.numel},)")
    wanted = feedback.float() * beta + delta.float()
    if not bool(torch.isfinite(wanted).all()):
        raise ValueError("the update has a value that is not finite")
    sparse = _sparse_of(wanted, spec, k, quantiser)
    return sparse, wanted - decompress(sparse, spec)


def decompress(sparse: Sparse, spec: ModelSpec) -> Tensor:
    """The update as a dense vector, (numel,), float32."""
    update = expand(sparse, spec)
    dense = torch.zeros(spec.numel)
    dense[torch.from_numpy(update.indices)] = torch.from_numpy(update.values)
    return dense


def _sparse_of(wanted: Tensor, spec: ModelSpec, k: int, quantiser: Quantiser) -> Sparse:
    positions = np.concatenate(
        [
            top_positions(chunks, k)
            for part, (_, shape) in zip(torch.split(wanted, list(spec.sizes)), spec.tensors, strict=True)
            for chunks in _chunks_of(part, shape)
        ]
    )
    layout = layout_of(spec)
    flat = layout.flat_index(layout.chunk_of_entry(k), positions)
    values = wanted.numpy()[flat]
    quantise = _sign_two if quantiser is Quantiser.SIGN_TWO else _published
    ends = np.cumsum(layout.kept_per_tensor(k))
    coded = [quantise(part) for part in np.split(values, ends[:-1])]
    codes = np.concatenate([code for code, _ in coded])
    return Sparse(k, quantiser, positions, codes, np.stack([table for _, table in coded]))


def _chunks_of(part: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
    """One tensor as matrices (chunks, chunk size), in the layout's order; a shorter last run is a matrix of its own."""
    if len(shape) == 1:
        whole = shape[0] // MAX_CHUNK * MAX_CHUNK
        return [run.view(-1, width) for run, width in _split_runs(part, whole)]
    rows, columns = (largest_divisor(side, MAX_SIDE) for side in shape)
    blocks = part.view(shape[0] // rows, rows, shape[1] // columns, columns).permute(0, 2, 1, 3)
    return [blocks.reshape(-1, rows * columns)]


def _split_runs(part: Tensor, whole: int) -> list[tuple[Tensor, int]]:
    rest = part.numel() - whole
    return [(run, width) for run, width in ((part[:whole], MAX_CHUNK), (part[whole:], rest)) if run.numel()]


def top_positions(chunks: Tensor, k: int) -> NDArray[np.uint16]:
    """The k largest of each row of (chunks, size), ties to the lower position; ascending, flattened."""
    order = torch.sort(chunks.abs(), dim=1, descending=True, stable=True).indices[:, :k]
    kept: NDArray[np.uint16] = order.sort(dim=1).values.reshape(-1).numpy().astype(np.uint16)
    return kept


def _sign_two(values: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Codes (entries,) and table (4,): the magnitudes are the means on either side of their midpoint (Lloyd)."""
    sizes = np.abs(values.astype(np.float64))
    low = high = float(sizes.mean())
    threshold = low
    for _ in range(LLOYD_ROUNDS):
        large = sizes > threshold
        low = float(sizes[~large].mean()) if not large.all() else low
        high = float(sizes[large].mean()) if large.any() else low
        threshold = (low + high) / 2
    large = sizes > threshold
    low, high = max(low, SMALLEST_SCALE), max(high, SMALLEST_SCALE)
    codes = (large + 2 * np.signbit(values)).astype(np.uint8)
    return codes, np.array([low, high, -low, -high], dtype=np.float32)


def _published(values: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """As published: shift = mean, bin = clamp(round(x / (6 sigma/4) + 2), 0, 3), decoded by bin means."""
    exact = values.astype(np.float64)
    shift, width = exact.mean(), max(6 * float(exact.std()) / 4, SMALLEST_SCALE)
    codes = np.clip(np.round((exact - shift) / width + 2), 0, 3).astype(np.uint8)
    table = [exact[codes == c].mean() if (codes == c).any() else shift + (c - 2) * width for c in range(4)]
    return codes, np.array(table, dtype=np.float32)
