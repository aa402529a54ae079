"""The small model: one flat vector, repeatable start, canonical checkpoints."""

import math

import pytest
import torch
from sparseloco.model import (
    ByteGPT,
    CheckpointError,
    GPTShape,
    checkpoint_bytes,
    init_parameters,
    load_checkpoint,
    sequence_losses,
    sha256_of,
)
from sparseloco.spec import ModelSpec

TINY = GPTShape(width=16, layers=1, heads=2, context=8)


def test_the_same_seed_gives_the_same_model() -> None:
    """Deterministic start; another seed is another model."""
    assert torch.equal(init_parameters(1, TINY), init_parameters(1, TINY))
    assert not torch.equal(init_parameters(1, TINY), init_parameters(2, TINY))


def test_an_untrained_model_knows_nothing() -> None:
    """Its loss is near that of a uniform guess among 256 bytes."""
    windows = torch.randint(0, 256, (4, 9), generator=torch.Generator().manual_seed(0))
    losses = sequence_losses(ByteGPT(init_parameters(1, TINY), TINY), windows)
    assert losses.shape == (4,)
    assert losses.mean().item() == pytest.approx(math.log(256), abs=0.2)


def test_a_position_never_sees_what_comes_after_it() -> None:
    """Changing the last byte changes only the last logits."""
    model = ByteGPT(init_parameters(1, TINY), TINY)
    tokens = torch.arange(8).reshape(1, 8)
    changed = tokens.clone()
    changed[0, -1] = 200
    assert torch.equal(model(tokens)[0, :-1], model(changed)[0, :-1])
    assert not torch.equal(model(tokens)[0, -1], model(changed)[0, -1])


def test_editing_the_flat_vector_moves_the_model() -> None:
    """Parameters are views, so an update can be applied in place."""
    model = ByteGPT(init_parameters(1, TINY), TINY)
    tokens = torch.arange(8).reshape(1, 8)
    before = model(tokens).detach().clone()
    model.flat.data[0] += 1
    assert not torch.equal(model(tokens), before)


def test_a_vector_of_another_length_is_refused() -> None:
    """A model has as many parameters as its spec says."""
    with pytest.raises(ValueError, match="expected"):
        ByteGPT(torch.zeros(3), TINY)


def test_the_model_id_names_shapes_and_heads() -> None:
    """Equal shapes with other heads are another model."""
    ids = {GPTShape(heads=heads).spec().model_id for heads in (2, 4, 4)}
    assert len(ids) == 2
    assert all(len(each) == 32 for each in ids)


@pytest.mark.parametrize(
    "tensors",
    [(), (("a", (2, 2, 2)),), (("a", (0,)),), (("a", (2,)), ("a", (3,)))],
    ids=["none", "3-D", "empty", "twice"],
)
def test_a_spec_that_the_codec_cannot_hold_is_refused(tensors: tuple[tuple[str, tuple[int, ...]], ...]) -> None:
    """Only distinct 1-D and 2-D tensors with elements."""
    with pytest.raises(ValueError, match="tensor"):
        ModelSpec("test", tensors)


def test_a_checkpoint_comes_back_to_the_bit() -> None:
    """Same bytes, same hash, same parameters, same number."""
    theta, spec = init_parameters(3, TINY), TINY.spec()
    data = checkpoint_bytes(theta, spec, 5)
    number, loaded = load_checkpoint(data, spec)
    assert (number, torch.equal(loaded, theta)) == (5, True)
    assert sha256_of(checkpoint_bytes(loaded, spec, 5)) == sha256_of(data)


def test_a_damaged_or_foreign_checkpoint_is_refused() -> None:
    """Length, header, model and finiteness are checked."""
    theta, spec = init_parameters(3, TINY), TINY.spec()
    data = checkpoint_bytes(theta, spec, 5)
    foreign = GPTShape(width=16, layers=1, heads=4, context=8).spec()
    nan = data[:-4] + b"\x00\x00\xc0\x7f"
    for bad, for_spec in ((data[:-1], spec), (b"X" + data[1:], spec), (data, foreign), (nan, spec)):
        with pytest.raises(CheckpointError):
            load_checkpoint(bad, for_spec)
    theta[0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        checkpoint_bytes(theta, spec, 5)
