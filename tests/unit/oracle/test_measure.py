"""Measuring: paired on the same tokens, undone to the bit, and over when the answer is clear."""

import numpy as np
import pytest
import torch
from l402_oracle.measure import Measured, Measurer, Stopping, clipped, mean_loss, screen
from sparseloco.codec import compress
from sparseloco.data import hidden_shards, hidden_windows, load_corpus, train_batches, train_shard
from sparseloco.model import GPTShape, init_parameters
from sparseloco.outer import median_norms
from sparseloco.sparse import Update, expand
from sparseloco.train import AdamState, inner_steps
from torch import Tensor

SHAPE = GPTShape(width=32, layers=1, heads=2)
SPEC = SHAPE.spec()
THETA = init_parameters(1, SHAPE)
SHARDS = hidden_shards(load_corpus(), b"seed", 8)
EARLY = Stopping(min_shards=2, relative_error=0.5)


def update_of(delta: Tensor) -> Update:
    """A compressed and expanded update."""
    return expand(compress(delta, torch.zeros(SPEC.numel), SPEC)[0], SPEC)


@pytest.fixture(scope="module")
def honest() -> Update:
    """Ten real inner steps."""
    batches = train_batches(train_shard(load_corpus(), b"peer"), b"peer", 0, 10)
    return update_of(inner_steps(THETA, batches, AdamState.fresh(SPEC.numel), shape=SHAPE).delta)


@pytest.fixture
def measurer() -> Measurer:
    """One checkpoint."""
    return Measurer(THETA, load_corpus(), SHAPE)


def test_honest_work_lowers_the_loss_and_its_flip_raises_it(measurer: Measurer, honest: Update) -> None:
    """The whole interval is above zero for one, below for the other."""
    flipped = honest.scaled([-1.0] * len(SPEC.tensors))
    assert measurer.measure(honest, SHARDS).interval.lo > 0
    assert measurer.measure(flipped, SHARDS).interval.hi < 0


def test_the_checkpoint_is_restored_to_the_bit(measurer: Measurer, honest: Update) -> None:
    """After any number of updates, errors included, not one bit differs."""
    measurer.measure(honest, SHARDS[:2])
    measurer.measure(honest.scaled([1e8] * len(SPEC.tensors)), SHARDS[:2])
    with pytest.raises(ValueError, match="outside"):
        measurer.measure(honest, [0, 10_000])
    assert measurer.theta.numpy().tobytes() == THETA.numpy().tobytes()


def test_the_measurement_is_that_of_the_dense_update(measurer: Measurer, honest: Update) -> None:
    """In place equals a model built afresh with the update subtracted, on the same windows."""
    dense = THETA.clone()
    dense[torch.from_numpy(honest.indices)] -= torch.from_numpy(honest.values)
    seen = measurer.measure(honest, SHARDS[:2], Stopping(min_shards=2))
    windows = torch.cat([hidden_windows(load_corpus(), shard) for shard in SHARDS[:2]])
    assert sum(seen.losses_after) / len(seen.losses_after) == pytest.approx(mean_loss(dense, windows, SHAPE), abs=1e-6)
    assert sum(seen.losses_before) / len(seen.drops) == pytest.approx(mean_loss(THETA, windows, SHAPE), abs=1e-6)


def test_measuring_again_gives_the_same_bits(measurer: Measurer, honest: Update) -> None:
    """Order and earlier measurements change nothing: anyone can repeat it."""
    first = measurer.measure(honest, SHARDS)
    assert measurer.measure(honest, SHARDS) == first
    assert Measurer(THETA, load_corpus(), SHAPE).measure(honest, SHARDS) == first


def test_it_stops_when_the_answer_is_clear(measurer: Measurer, honest: Update) -> None:
    """Clear at the first look: 2 shards; never early when told so; noise goes on to the end."""
    assert len(measurer.measure(honest, SHARDS, EARLY).shards) == 2
    full = measurer.measure(honest, SHARDS, Stopping(min_shards=2, relative_error=0.0))
    assert full.shards == SHARDS
    assert full.tokens == 8 * 16 * 128


def test_looks_come_at_doubled_sizes() -> None:
    """Few looks: at 2, 4 and 5 of five shards."""
    assert Stopping(min_shards=2).stages([1, 2, 3, 4, 5]) == [[1, 2], [3, 4], [5]]
    assert Stopping(min_shards=8).stages([1, 2]) == [[1, 2]]


def test_shards_are_measured_once_each(measurer: Measurer, honest: Update) -> None:
    """A repeated shard would make the interval look narrower than it is."""
    for shards in ([], [1, 1]):
        with pytest.raises(ValueError, match="each once"):
            measurer.measure(honest, shards)


def test_a_model_that_blew_up_has_no_interval() -> None:
    """Losses that are not finite are a fault, not a number."""
    broken = Measured((0,), (1.0, 1.0), (1.0, float("nan")))
    assert not broken.is_finite
    with pytest.raises(ValueError, match="finite"):
        _ = broken.interval


@pytest.mark.parametrize(
    ("norms", "code"),
    [([0.0, 0.0], "zero_update"), ([np.nan], "not_finite"), ([np.inf], "not_finite"), ([1e9], "norm_insane")],
)
def test_screening_says_what_is_wrong(norms: list[float], code: str) -> None:
    """At sight of the norms alone."""
    assert [reason.code for reason in screen(norms)] == [code]


def test_screening_passes_honest_work(honest: Update) -> None:
    """Nothing to say."""
    assert screen(honest.norms()) == ()


def test_a_scaled_copy_gains_nothing_by_its_scale(honest: Update) -> None:
    """Clipped to the median norm, three times the update is the update."""
    giant = honest.scaled([3.0] * len(SPEC.tensors))
    medians = median_norms([honest.norms(), honest.norms(), giant.norms()])
    assert np.allclose(clipped(giant, medians).values, honest.values, rtol=1e-5)
    assert np.array_equal(clipped(honest, medians).values, honest.values)
