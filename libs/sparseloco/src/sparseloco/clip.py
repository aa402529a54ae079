"""The median norm of a round and what clipping to it means. Plain numbers: it knows no tensor and no peer."""

from collections.abc import Collection, Sequence


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
