"""A peer's inner steps: AdamW as torch's own, a delta that points downhill, a state that survives a restart."""

import pytest
import torch
from sparseloco.data import load_corpus, train_batches, train_shard
from sparseloco.model import GPTShape, init_parameters
from sparseloco.train import AdamState, adam_step, inner_steps

SHAPE = GPTShape(width=32, layers=1, heads=2)


def test_our_adam_is_torchs_adamw() -> None:
    """Twenty steps with clipped and unclipped gradients agree to float32 rounding."""
    ours = torch.linspace(-1, 1, 50)
    theirs = torch.nn.Parameter(ours.clone())
    optimizer = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1, eps=1e-8)
    state = AdamState.fresh(50)
    for step in range(20):
        gradient = torch.randn(50, generator=torch.Generator().manual_seed(step)) * (0.01 if step % 2 else 10)
        theirs.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        optimizer.step()
        adam_step(ours, gradient, state, 1e-2)
    assert torch.allclose(ours, theirs.detach(), atol=1e-5)


def test_inner_steps_lower_the_loss_and_leave_the_checkpoint_alone() -> None:
    """Delta is start minus end: the losses fall, and theta is what it was."""
    theta = init_parameters(1, SHAPE)
    before = theta.clone()
    shard = train_shard(load_corpus(), b"peer")
    result = inner_steps(theta, train_batches(shard, b"peer", 0, 20), AdamState.fresh(theta.numel()), shape=SHAPE)
    assert torch.equal(theta, before)
    assert len(result.losses) == 20
    assert result.losses[-1] < result.losses[0] - 0.5
    assert float(result.delta.norm()) > 0


def test_the_same_steps_give_the_same_bits() -> None:
    """Repeatable on one machine, also through a state saved and loaded between two rounds."""
    theta = init_parameters(1, SHAPE)
    shard = train_shard(load_corpus(), b"peer")
    state, other = AdamState.fresh(theta.numel()), AdamState.fresh(theta.numel())
    for number in range(2):
        mine = inner_steps(theta, train_batches(shard, b"peer", number, 3), state, shape=SHAPE)
        theirs = inner_steps(theta, train_batches(shard, b"peer", number, 3), other, shape=SHAPE)
        assert torch.equal(mine.delta, theirs.delta)
        other = AdamState.from_bytes(other.to_bytes())
    assert state.steps == other.steps == 6


def test_warm_up_makes_the_first_steps_small() -> None:
    """With a ramp over 100 steps, the first step is a hundredth."""
    theta = init_parameters(1, SHAPE)
    shard = train_shard(load_corpus(), b"peer")
    norms = [
        float(
            inner_steps(
                theta, train_batches(shard, b"p", 0, 1), AdamState.fresh(theta.numel()), warmup_steps=steps, shape=SHAPE
            ).delta.norm()
        )
        for steps in (0, 100)
    ]
    assert norms[1] == pytest.approx(norms[0] / 100, rel=0.01)
