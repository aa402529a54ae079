"""The codec beside a plain one that sorts whole chunks and counts with Python's integers: equal to the bit, whatever comes."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sparseloco import strips
from sparseloco.codec import compress
from sparseloco.layout import kept_per_tensor, layout_of
from sparseloco.quantise import FRACTION_BITS, LLOYD_ROUNDS, SMALLEST_SCALE
from sparseloco.spec import ModelSpec

SPEC = ModelSpec(
    "plain",
    (("matrix", (128, 192)), ("run", (3 * 4096 + 77,)), ("narrow", (130, 10)), ("primes", (67, 71)), ("one", (1,)),
     ("wide", (64, 8192))),
)  # fmt: skip
"""Squares, a run whose last chunk is partial, small blocks, chunks of one entry, and a strip that falls into pieces."""
BETA = 0.95


def floats(numbers: NDArray[np.floating]) -> NDArray[np.float32]:
    """As they go on the wire and lie in a model."""
    return numbers.astype(np.float32)


def inputs() -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """(name, delta, feedback), each with something that a quick selection may get wrong."""
    draw = np.random.default_rng(1)
    numel = SPEC.numel
    smooth, before = floats(draw.normal(0, 1e-2, numel)), floats(draw.normal(0, 1e-2, numel))
    nothing = np.zeros(numel, dtype=np.float32)
    signs = draw.choice(np.array([-1, 1], dtype=np.float32), numel)
    yield "ordinary", smooth, before
    yield "all equal", nothing + np.float32(3e-3), nothing
    yield "all equal but for the sign", signs * np.float32(3e-3), nothing
    yield "zeros of both signs", signs * np.float32(0), signs * np.float32(-0.0)
    yield "denormal numbers", floats(draw.integers(-5, 6, numel) * 1.5e-45), nothing
    yield "few levels", np.round(smooth * 100) / np.float32(100), nothing
    yield "one level on both sides of every chunk's edge", np.where(np.arange(numel) // 50 % 2, smooth, signs), nothing
    yield "mostly zeros", np.where(draw.random(numel) < 0.004, smooth, nothing), nothing
    yield "chunks of zeros beside full ones", np.where(np.arange(numel) // 4096 % 2, smooth, nothing), before * 0
    yield "the largest and the smallest", floats(10.0 ** draw.uniform(-44, 38, numel)), nothing


def plain(
    delta: NDArray[np.float32], feedback: NDArray[np.float32], k: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """(positions, codes, tables, feedback), each chunk sorted whole and each tensor's means taken one by one."""
    wanted = feedback * np.float32(BETA) + delta
    layout, positions, indices = layout_of(SPEC), [], []
    for chunk, size in enumerate(layout.size.tolist()):
        inside = np.arange(size, dtype=np.uint16)
        flat = layout.flat_index(np.full(size, chunk), inside)
        first = np.sort(np.lexsort((inside, -np.abs(wanted[flat])))[:k])
        positions.append(inside[first])
        indices.append(flat[first])
    kept = np.concatenate(indices)
    codes, tables, start = [], [], 0
    for count in kept_per_tensor(SPEC, k):
        here = kept[start : start + count]
        code, table = plain_codes(wanted[here].tolist())
        wanted[here] -= table[code]
        codes.append(code)
        tables.append(table)
        start += count
    return np.concatenate(positions), np.concatenate(codes), np.stack(tables), wanted


def plain_codes(values: list[float]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One tensor's codes and table (4,)."""
    unit = 2.0 ** (math.frexp(max(abs(value) for value in values))[1] - FRACTION_BITS)
    sizes = [round(abs(value) / unit) for value in values]
    low = high = threshold = sum(sizes) // len(sizes)
    for _ in range(LLOYD_ROUNDS):
        above = [size for size in sizes if size > threshold]
        below = [size for size in sizes if size <= threshold]
        low = sum(below) // len(below) if below else low
        high = sum(above) // len(above) if above else high
        threshold = (low + high) // 2
    codes = [(size > threshold) + 2 * (math.copysign(1, value) < 0) for size, value in zip(sizes, values, strict=True)]
    small, big = (max(mean * unit, SMALLEST_SCALE) for mean in (low, high))
    return np.array(codes, dtype=np.uint8), np.array([small, big, -small, -big], dtype=np.float32)


@pytest.mark.parametrize("k", [1, 64, 300])
def test_the_codec_equals_a_plain_one_to_the_bit(k: int) -> None:
    """Positions, codes, scales and what is kept for later, for each of the inputs."""
    for name, delta, feedback in inputs():
        positions, codes, tables, rest = plain(delta, feedback, k)
        sparse, left = compress(torch.from_numpy(delta), torch.from_numpy(feedback.copy()), SPEC, k=k, beta=BETA)
        assert np.array_equal(sparse.positions, positions), name
        assert np.array_equal(sparse.codes, codes), name
        assert sparse.tables.tobytes() == tables.tobytes(), name
        assert left.numpy().tobytes() == rest.tobytes(), name


def test_how_much_is_worked_on_together_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of one strip or of many, in pieces that end inside a row; many ties counted or ordered."""
    expected = {name: plain(delta, feedback, 64) for name, delta, feedback in inputs()}
    for tile, piece, crowd in ((1, 1000, 1), (1 << 14, 1 << 12, 2), (1 << 30, 1 << 30, 1 << 30)):
        monkeypatch.setattr(strips, "TILE_ELEMENTS", tile)
        monkeypatch.setattr(strips, "PIECE_ELEMENTS", piece)
        monkeypatch.setattr(strips, "CROWD", crowd)
        for name, delta, feedback in inputs():
            place = torch.from_numpy(feedback.copy())
            sparse, left = compress(torch.from_numpy(delta), place, SPEC, k=64, beta=BETA, into=place)
            assert np.array_equal(sparse.positions, expected[name][0]), name
            assert left.numpy().tobytes() == expected[name][3].tobytes(), name


@pytest.mark.parametrize("bad", [float("nan"), -float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("at", ["the first entry", "among zeros", "the last chunk, a partial one"])
def test_one_value_that_is_not_finite_is_refused_wherever_it_is(bad: float, at: str) -> None:
    """Also where all else is the largest float, or zero."""
    where = {"the first entry": 0, "among zeros": 20_000, "the last chunk, a partial one": 128 * 192 + 3 * 4096 + 76}
    for rest in (0.0, float(np.finfo(np.float32).max)):
        delta = torch.full((SPEC.numel,), rest)
        delta[where[at]] = bad
        with pytest.raises(ValueError, match="not finite"):
            compress(delta, torch.zeros(SPEC.numel), SPEC)


def test_a_place_for_the_feedback_that_is_not_contiguous_is_refused() -> None:
    """Nothing is written into it."""
    apart = torch.zeros(SPEC.numel, 2)[:, 0]
    with pytest.raises(ValueError, match="not contiguous"):
        compress(torch.ones(SPEC.numel), torch.zeros(SPEC.numel), SPEC, into=apart)
    assert not apart.any()
