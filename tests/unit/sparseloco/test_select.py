"""Selection: the k largest of every block, ties to the lower position, whatever the shape."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparseloco import codec
from sparseloco.codec import compress
from sparseloco.select import top_positions, top_positions_there
from sparseloco.spec import ModelSpec
from torch import Tensor


def by_a_plain_sort(matrix: Tensor, rows: int, columns: int, k: int) -> list[list[int]]:
    """The canonical order, as Python's own sort of pairs, block after block."""
    found = []
    for top in range(0, matrix.shape[0], rows):
        for left in range(0, matrix.shape[1], columns):
            block = matrix[top : top + rows, left : left + columns].abs().reshape(-1).tolist()
            ordered = sorted((-magnitude, position) for position, magnitude in enumerate(block))
            found.append(sorted(position for _, position in ordered[:k]))
    return found


def test_ties_go_to_the_lower_position() -> None:
    """With all magnitudes equal the first k positions are kept, whatever their signs."""
    block = torch.ones(64, 64)
    block[::2, 1::3] = -1
    assert top_positions(block, 64, 64, 64).tolist() == [list(range(64))]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([(64, 64), (8, 16), (12, 10), (7, 11), (1, 40), (40, 1)]),
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 200), st.integers(0, 2**31), st.sampled_from([1, 3, 1000]),
)  # fmt: skip
def test_every_shape_and_k_equals_a_plain_sort(
    sides: tuple[int, int], down: int, across: int, k: int, seed: int, levels: int
) -> None:
    """With few levels nearly everything ties, also the maxima of the groups; what a GPU does is done here as well."""
    rows, columns = sides
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randint(-levels, levels + 1, (rows * down, columns * across), generator=generator).float()
    expected = by_a_plain_sort(matrix, rows, columns, k)
    assert top_positions(matrix, rows, columns, k).tolist() == expected
    assert top_positions_there(matrix, rows, columns, k).tolist() == expected


def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of blocks at a time, some, all: the same entries, and the same feedback."""
    spec = ModelSpec("bands", (("matrix", (256, 320)), ("run", (20_000,)), ("odd", (70, 9))))
    delta = torch.randn(spec.numel, generator=torch.Generator().manual_seed(1))
    whole, rest = compress(delta, torch.zeros(spec.numel), spec)
    for elements in (1, 3 * 64 * 320, 1 << 30):
        monkeypatch.setitem(codec.BAND_ELEMENTS, "cpu", elements)
        banded, left = compress(delta, torch.zeros(spec.numel), spec)
        assert np.array_equal(banded.positions, whole.positions)
        assert np.array_equal(banded.tables, whole.tables)
        assert torch.equal(left, rest)


@pytest.mark.parametrize("bad", [float("nan"), -float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("rows", [64, 7])
def test_what_is_not_finite_is_always_kept(bad: float, rows: int) -> None:
    """So whoever looks at the kept values sees it."""
    matrix = torch.randn(rows, 64, generator=torch.Generator().manual_seed(2))
    matrix[5, 17] = bad
    assert 5 * 64 + 17 in top_positions(matrix, rows, 64, 3)[0].tolist()
    assert 5 * 64 + 17 in top_positions_there(matrix, rows, 64, 3)[0].tolist()
