"""A resident checkpoint: what an update does to it, and that it is itself again, on every device there is."""

import pytest
import torch
from l402_oracle.resident import resident
from sparseloco import wire
from sparseloco.codec import compress, decompress
from sparseloco.data import hidden_windows, load_corpus, train_batches, train_shard
from sparseloco.device import unpack_on
from sparseloco.model import GPTShape, init_parameters, sequence_losses
from sparseloco.sparse import Update, expand
from sparseloco.train import AdamState, inner_steps

SHAPE = GPTShape(width=64, layers=2, heads=2)
SPEC = SHAPE.spec()
THETA = init_parameters(1, SHAPE)
BINDING = wire.Binding(0, b"c" * 32, b"p" * 32, 64)
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)]


@pytest.fixture(scope="module")
def payload() -> bytes:
    """Ten real inner steps, packed."""
    batches = train_batches(train_shard(load_corpus(), b"peer"), b"peer", 0, 10)
    delta = inner_steps(THETA, batches, AdamState.fresh(SPEC.numel), shape=SHAPE).delta
    return wire.pack(compress(delta, torch.zeros(SPEC.numel), SPEC)[0], SPEC, BINDING)


@pytest.fixture
def update(payload: bytes) -> Update:
    """The same, expanded on the host."""
    return expand(wire.unpack(payload, SPEC, BINDING).sparse, SPEC)


@pytest.mark.parametrize("device", DEVICES)
def test_it_is_itself_again_whatever_happens(device: str, update: Update) -> None:
    """To the bit: after an update, one that is far too large, and an exception between."""
    model = resident(THETA, SHAPE, device)
    before = model.in_use
    for scale in (1.0, 1e9):
        with model.applied(update.scaled([scale] * len(SPEC.tensors)), alpha=0.7):
            assert not torch.equal(model.in_use, before)
    with pytest.raises(KeyError), model.applied(update):
        raise KeyError
    assert torch.equal(model.in_use, before)
    assert torch.equal(model.theta, THETA)


@pytest.mark.parametrize("device", DEVICES)
def test_an_update_does_what_the_dense_one_would(device: str, payload: bytes) -> None:
    """Also the one unpacked on the device, also where what is computed with is rounded: to that rounding."""
    model, sparse = resident(THETA, SHAPE, device), wire.unpack(payload, SPEC, BINDING).sparse
    wanted = THETA - decompress(sparse, SPEC)
    for update in (expand(sparse, SPEC), unpack_on(device, payload, SPEC, BINDING)):
        with model.applied(update):
            assert torch.equal(model.in_use, wanted.to(model.in_use.dtype))


@pytest.mark.parametrize("device", DEVICES)
def test_losses_follow_the_parameters(device: str, update: Update) -> None:
    """Whether passes are replayed or not; the drop agrees with float32 on the host within a fiftieth."""
    model, windows = resident(THETA, SHAPE, device), hidden_windows(load_corpus(), 0)
    before = model.losses(windows.to(device)).cpu()
    with model.applied(update):
        after = model.losses(windows.to(device)).cpu()
    again = model.losses(windows.to(device)).cpu()
    assert torch.equal(before, again)
    host = resident(THETA, SHAPE)
    expected = host.losses(windows)
    with host.applied(update):
        expected = expected - host.losses(windows)
    assert float((before - after).mean()) == pytest.approx(float(expected.mean()), rel=0.02)
    assert before.dtype == torch.float32


@NEEDS_CUDA
def test_a_replayed_pass_is_the_pass_itself() -> None:
    """The graph's losses equal those of the same kernels launched one by one, alone and in groups."""
    model, shards = resident(THETA, SHAPE, "cuda"), [hidden_windows(load_corpus(), each).cuda() for each in range(19)]
    plain = model._model  # type: ignore[attr-defined]  # only the implementation has it
    with torch.no_grad():
        expected = [sequence_losses(plain, windows) for windows in shards]
        assert torch.equal(expected[3], model.losses(shards[3]))
        assert model.asked(shards)() == torch.cat(expected).tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_answers_come_in_any_order_each_of_its_own_moment(device: str, update: Update) -> None:
    """What was asked for before an update, under it and after it; also batches of several shapes."""
    model, corpus = resident(THETA, SHAPE, device), load_corpus()
    batches = [hidden_windows(corpus, shard).to(device) for shard in range(9)] + [
        hidden_windows(corpus, 9)[:3].to(device)
    ]
    before = model.asked(batches)
    with model.applied(update):
        under = model.asked(batches)
    after = model.asked(batches)
    one_by_one = [loss for batch in batches for loss in model.losses(batch).tolist()]
    assert after() == one_by_one
    assert sum(under()) < sum(before()) == sum(one_by_one)
