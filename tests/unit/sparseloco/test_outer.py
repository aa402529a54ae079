"""The outer step: median-norm clip and an average that no order of arrival changes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sparseloco.outer import aggregate, clip_factors, median_norms, outer_step
from sparseloco.sparse import Update


def update(entries: dict[int, float], bounds: tuple[int, ...] | None = None) -> Update:
    """An update from index → value."""
    indices = np.array(list(entries), dtype=np.int64)
    values = np.array(list(entries.values()), dtype=np.float32)
    return Update(indices, values, bounds or (0, len(entries)))


def test_an_index_is_averaged_over_those_who_sent_it() -> None:
    """Index 1 was sent by two, index 0 and 3 by one each, index 2 by none."""
    mean = aggregate({b"a": update({0: 1.0, 1: 2.0}), b"b": update({1: 4.0, 3: -1.0})}, 4)
    assert mean.tolist() == [1.0, 3.0, 0.0, -1.0]


def test_the_papers_average_divides_by_all_peers() -> None:
    """The other mode, which needs another alpha."""
    mean = aggregate({b"a": update({0: 1.0, 1: 2.0}), b"b": update({1: 4.0})}, 2, mode="all")
    assert mean.tolist() == [0.5, 3.0]


def test_no_updates_leave_the_model_as_it_is() -> None:
    """An empty round repeats its checkpoint."""
    theta = torch.tensor([1.0, 2.0])
    assert torch.equal(outer_step(theta, aggregate({}, 2)), theta)


def test_the_order_of_arrival_changes_no_bit() -> None:
    """All orders of four peers give one checkpoint, even where the sum depends on the order."""
    peers = {bytes([i]): update({0: value, 1: 0.1 * i}) for i, value in enumerate((1e30, 1.0, -1e30, 1.0))}
    results = [
        aggregate({key: peers[key] for key in order}, 2).numpy().tobytes() for order in itertools.permutations(peers)
    ]
    assert len(set(results)) == 1


def test_the_outer_step_subtracts() -> None:
    """Delta is start minus end, so the step goes against it."""
    assert outer_step(torch.tensor([1.0]), torch.tensor([0.5]), alpha=0.4).tolist() == pytest.approx([0.8])


def test_a_huge_update_is_clipped_to_the_median_and_a_small_one_left_alone() -> None:
    """Factors per tensor: only down, never up; a zero norm has factor one."""
    medians = median_norms([(1.0, 2.0), (1.5, 0.0), (100.0, 3.0)])
    assert medians == (1.5, 2.0)
    assert clip_factors((100.0, 3.0), medians) == pytest.approx((0.015, 2 / 3))
    assert clip_factors((1.0, 0.0), medians) == (1.0, 1.0)


def test_the_lower_of_two_middle_norms_counts() -> None:
    """Two giants beside two honest peers do not pull the median up."""
    assert median_norms([(1.0,), (1.1,), (1e6,), (1e6,)]) == (1.1,)


def test_a_median_of_nobody_is_an_error() -> None:
    """There is no norm to clip to."""
    with pytest.raises(ValueError, match="at least one"):
        median_norms([])


@given(st.lists(st.floats(0.5, 2.0), min_size=3, max_size=9), st.integers(0, 4))
def test_giants_below_half_never_raise_the_median_above_the_honest(honest: list[float], giants: int) -> None:
    """With fewer giants than honest peers, the clip stays within the honest range."""
    giants = min(giants, len(honest) - 1)
    (median,) = median_norms([(norm,) for norm in honest + [1e9] * giants])
    assert min(honest) <= median <= max(honest)


def test_norms_and_scaling_go_tensor_by_tensor() -> None:
    """A two-tensor update: 3-4-5 in the first, one entry in the second."""
    both = update({0: 3.0, 1: 4.0, 2: -2.0}, bounds=(0, 2, 3))
    assert both.norms() == (5.0, 2.0)
    assert both.scaled((0.5, 2.0)).values.tolist() == [1.5, 2.0, -4.0]


entries = st.dictionaries(st.integers(0, 11), st.floats(-100, 100, width=32), min_size=1, max_size=6)


@given(st.lists(entries, min_size=2, max_size=6), st.floats(0.25, 4.0))
def test_one_peers_influence_is_bounded(everybody: list[dict[int, float]], median: float) -> None:
    """With it or without, the aggregate differs by its clipped norm and half of what it displaces, at most.

    Whatever it sends: its own part is at most the median's norm, and where others sent the same index, half is theirs.
    """
    clipped = [one.scaled(clip_factors(one.norms(), (median,))) for one in map(update, everybody)]
    named = {bytes([n]): one for n, one in enumerate(clipped)}
    last = clipped[-1]
    without = aggregate({key: one for key, one in named.items() if one is not last}, 12).double()
    moved = aggregate(named, 12).double() - without
    displaced = without[torch.from_numpy(last.indices)].norm()
    assert last.norms()[0] <= median * (1 + 1e-5)
    assert float(moved.norm()) <= (last.norms()[0] + float(displaced) / 2) * (1 + 1e-4) + 1e-6


def test_a_majority_of_small_updates_is_the_median() -> None:
    """The known limit: who sends most of a round's updates says how large all of them may be (docs/oracle.md)."""
    assert median_norms([(1.0,)] * 4 + [(0.1,)] * 10) == (0.1,)
    assert median_norms([(1.0,)] * 4 + [(0.1,)] * 3) == (1.0,)
