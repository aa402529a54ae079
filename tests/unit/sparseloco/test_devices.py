"""One answer on every device: the same positions, codes, scales and feedback, to the bit, and the same refusals."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sparseloco import wire
from sparseloco.codec import compress
from sparseloco.device import DeviceUpdate, unpack_on
from sparseloco.sparse import Quantiser, expand
from sparseloco.spec import ModelSpec
from torch import Tensor

SPEC = ModelSpec(
    "test",
    (("matrix", (128, 100)), ("vector", (5000,)), ("tiny", (3,)), ("wide", (192, 320)), ("odd", (7, 11)),
     ("flat", (3, 4096)), ("tall", (64, 50))),
)  # fmt: skip
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)]
BINDING = wire.Binding(7, b"c" * 32, b"p" * 32, 63)


def updates(spec: ModelSpec = SPEC) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, delta, feedback): smooth, full of ties, mostly zeros, all zeros, of very unequal sizes."""
    generator = torch.Generator().manual_seed(1)
    delta, feedback = (torch.randn(spec.numel, generator=generator) * 1e-2 for _ in range(2))
    nothing = torch.zeros(spec.numel)
    yield "smooth", delta, feedback
    yield "ties", torch.round(delta * 100) / 100, nothing
    yield "sparse", torch.where(delta.abs() > 0.03, delta, nothing), nothing
    yield "zeros", nothing, nothing
    yield "unequal", delta * torch.logspace(-6, 0, spec.numel), feedback * 1e-4


@NEEDS_CUDA
@pytest.mark.parametrize("quantiser", list(Quantiser))
@pytest.mark.parametrize("k", [1, 64, 500, 4096])
def test_a_gpu_compresses_to_the_same_bits(k: int, quantiser: Quantiser) -> None:
    """Positions, codes, scales and what is kept for later: no unit in the last place differs."""
    for name, delta, feedback in updates():
        here, rest = compress(delta, feedback, SPEC, k=k, quantiser=quantiser)
        there, rest_there = compress(delta.cuda(), feedback.cuda(), SPEC, k=k, quantiser=quantiser)
        assert np.array_equal(here.positions, there.positions), name
        assert np.array_equal(here.codes, there.codes), name
        assert here.tables.tobytes() == there.tables.tobytes(), name
        assert torch.equal(rest, rest_there.cpu()), name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("quantiser", list(Quantiser))
def test_what_is_unpacked_on_a_device_is_what_is_unpacked_here(device: str, quantiser: Quantiser) -> None:
    """Indices and values to the bit, scaled or not; norms within a rounding of float64."""
    sparse, _ = compress(*next(updates())[1:], SPEC, k=BINDING.k, quantiser=quantiser)
    data = wire.pack(sparse, SPEC, BINDING)
    here, there = expand(wire.unpack(data, SPEC, BINDING).sparse, SPEC), unpack_on(device, data, SPEC, BINDING)
    assert np.array_equal(here.indices, there.indices.cpu().numpy())
    assert np.array_equal(here.values, there.values.cpu().numpy())
    assert there.norms() == pytest.approx(here.norms(), rel=1e-14)
    factors = [0.3 + 0.1 * number for number in range(len(SPEC.tensors))]
    assert np.array_equal(here.scaled(factors).values, there.scaled(factors).values.cpu().numpy())


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_refuses_what_the_host_refuses_at_the_same_byte(device: str) -> None:
    """One changed byte at a time, all over the payload: the same refusal, or the same update."""
    small = ModelSpec("small", (("matrix", (64, 128)), ("vector", (70,)), ("odd", (3,))))
    binding = wire.Binding(7, b"c" * 32, b"p" * 32, 5)
    delta = torch.randn(small.numel, generator=torch.Generator().manual_seed(3))
    good = wire.pack(compress(delta, torch.zeros(small.numel), small, k=5)[0], small, binding)
    refusals = 0
    for at in range(len(good)):
        for change in (0x01, 0x80):
            data = good[:at] + bytes([good[at] ^ change]) + good[at + 1 :]
            expected, found = _outcome_here(data, small, binding), _outcome_on(device, data, small, binding)
            assert found == expected
            refusals += isinstance(expected, str)
    assert refusals > len(good)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused_everywhere(device: str, bad: float) -> None:
    """Also deep inside a large tensor."""
    delta = torch.zeros(SPEC.numel)
    delta[30_000] = bad
    with pytest.raises(ValueError, match="not finite"):
        compress(delta.to(device), torch.zeros(SPEC.numel, device=device), SPEC)


@pytest.mark.parametrize("device", DEVICES)
def test_the_feedback_can_be_written_where_the_old_one_was(device: str) -> None:
    """A peer needs no second dense vector; the result is the same."""
    _, delta, feedback = next(updates())
    sparse, rest = compress(delta, feedback, SPEC)
    place = feedback.clone().to(device)
    again, same = compress(delta.to(device), place, SPEC, into=place)
    assert same is place
    assert torch.equal(place.cpu(), rest)
    assert np.array_equal(again.codes, sparse.codes)


def _outcome_here(data: bytes, spec: ModelSpec, binding: wire.Binding) -> str | tuple[list[int], list[float]]:
    try:
        update = expand(wire.unpack(data, spec, binding).sparse, spec)
    except wire.PayloadError as error:
        return str(error)
    return update.indices.tolist(), update.values.tolist()


def _outcome_on(
    device: str, data: bytes, spec: ModelSpec, binding: wire.Binding
) -> str | tuple[list[int], list[float]]:
    try:
        update: DeviceUpdate = unpack_on(device, data, spec, binding)
    except wire.PayloadError as error:
        return str(error)
    return update.indices.tolist(), update.values.tolist()
