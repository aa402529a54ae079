"""The codec: canonical top-k, two bits, and a feedback that loses nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparseloco.codec import compress, decompress
from sparseloco.layout import largest_divisor, layout_of
from sparseloco.model import GPTShape
from sparseloco.quantise import Segments, ascending_there
from sparseloco.sparse import Quantiser, expand
from sparseloco.spec import ModelSpec
from torch import Tensor

SMALL = ModelSpec("test", (("matrix", (128, 100)), ("vector", (5000,)), ("tiny", (3,))))


def noise(seed: int, spec: ModelSpec = SMALL) -> Tensor:
    """A random update."""
    return torch.randn(spec.numel, generator=torch.Generator().manual_seed(seed)) * 1e-2


def test_chunk_sides_are_the_largest_divisors_within_the_limit() -> None:
    """The two published examples, and the sides of our own test matrix."""
    assert largest_divisor(100, 16) == 10
    assert largest_divisor(64, 7) == 4
    assert (largest_divisor(128, 64), largest_divisor(100, 64)) == (64, 50)


def test_every_element_lies_in_exactly_one_chunk() -> None:
    """All chunks with all their positions are a permutation of the flat vector."""
    layout = layout_of(SMALL)
    chunk = np.repeat(np.arange(layout.chunks), layout.size)
    positions = np.concatenate([np.arange(size, dtype=np.uint16) for size in layout.size])
    assert sorted(layout.flat_index(chunk, positions).tolist()) == list(range(SMALL.numel))


def test_the_demo_model_has_836736_parameters_in_213_chunks() -> None:
    """The sizes that the reference measured with."""
    spec = GPTShape().spec()
    assert spec.numel == 836_736
    assert layout_of(spec).chunks == 213


def test_a_chunk_is_a_square_block_not_a_run() -> None:
    """Position 64 of the first block of a 128-column matrix is the second row's first element."""
    layout = layout_of(ModelSpec("test", (("m", (128, 128)),)))
    flat = layout.flat_index(np.array([0, 1, 2]), np.array([64, 0, 0], dtype=np.uint16))
    assert flat.tolist() == [128, 64, 64 * 128]


@pytest.mark.parametrize("quantiser", list(Quantiser))
def test_what_is_sent_and_what_is_kept_add_up(quantiser: Quantiser) -> None:
    """Feedback is exactly beta·e + delta minus what was decoded."""
    delta, feedback = noise(1), noise(2)
    sparse, rest = compress(delta, feedback, SMALL, beta=0.5, quantiser=quantiser)
    assert torch.equal(rest, feedback * 0.5 + delta - decompress(sparse, SMALL))


def test_only_k_of_each_chunk_move() -> None:
    """The dense form has k entries per chunk, all of a smaller one, at the largest magnitudes."""
    delta = noise(3)
    sparse, _ = compress(delta, torch.zeros(SMALL.numel), SMALL, k=64)
    update = expand(sparse, SMALL)
    assert len(set(update.indices.tolist())) == len(update.indices) == 64 * (4 + 2) + 3
    assert np.diff(update.bounds).tolist() == [64 * 4, 64 * 2, 3]
    assert (np.sign(update.values) == np.sign(delta.numpy()[update.indices])).all()


def test_sign_and_two_magnitudes_err_less_than_the_published_quantiser() -> None:
    """On a real-shaped update, our two bits keep more of the kept entries than the published two bits."""
    delta = noise(4)
    errors = {}
    for quantiser in Quantiser:
        sparse, _ = compress(delta, torch.zeros(SMALL.numel), SMALL, quantiser=quantiser)
        update = expand(sparse, SMALL)
        errors[quantiser] = float(np.square(update.values - delta.numpy()[update.indices]).sum())
    assert errors[Quantiser.SIGN_TWO] < errors[Quantiser.PUBLISHED] / 2


def test_the_published_quantiser_uses_hardly_two_of_its_four_bins() -> None:
    """Known occupancy of the published bins on top-k values: about 0, 49, 2 and 49 %."""
    spec = ModelSpec("test", (("m", (512, 512)),))
    sparse, _ = compress(noise(5, spec), torch.zeros(spec.numel), spec, quantiser=Quantiser.PUBLISHED)
    share = np.bincount(sparse.codes, minlength=4) / len(sparse.codes)
    assert share[0] < 0.01
    assert share[1] > 0.4
    assert share[3] > 0.4


def test_a_tensor_that_did_not_move_still_compresses() -> None:
    """Zeros become the smallest scale, which changes no weight of ordinary size."""
    sparse, _ = compress(torch.zeros(SMALL.numel), torch.zeros(SMALL.numel), SMALL)
    dense = decompress(sparse, SMALL)
    assert float(dense.abs().max()) <= 2.0**-40


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(bad: float) -> None:
    """A broken update is an error at its maker's, not on the wire."""
    delta = noise(6)
    delta[17] = bad
    with pytest.raises(ValueError, match="not finite"):
        compress(delta, torch.zeros(SMALL.numel), SMALL)


def test_wrong_lengths_and_k_are_refused() -> None:
    """Shapes and k are checked before any work."""
    with pytest.raises(ValueError, match="are not"):
        compress(torch.zeros(5), torch.zeros(SMALL.numel), SMALL)
    with pytest.raises(ValueError, match="outside"):
        compress(noise(1), torch.zeros(SMALL.numel), SMALL, k=4097)


def test_what_a_gpu_orders_with_one_sort_is_what_is_ordered_here() -> None:
    """Each tensor's magnitudes by themselves, from zero and denormal ones to the largest float."""
    counts = (700, 1, 300)
    shuffled = torch.randperm(sum(counts), generator=torch.Generator().manual_seed(7))
    magnitudes = torch.logspace(-44, 38, sum(counts))[shuffled]
    magnitudes[::9] = 0
    tensor = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    assert torch.equal(ascending_there(magnitudes, tensor), Segments(counts, magnitudes.device).ascending(magnitudes))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 200))
def test_feedback_never_loses_energy_to_the_codec(seed: int, k: int) -> None:
    """What is kept for later is smaller than what was wanted: sending always helps."""
    delta = noise(seed)
    _, rest = compress(delta, torch.zeros(SMALL.numel), SMALL, k=k)
    assert float(rest.norm()) < float(delta.norm())
