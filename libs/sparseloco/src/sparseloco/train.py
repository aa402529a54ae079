"""A peer's inner steps: AdamW from a checkpoint, Δ = θ_start - θ_H. It knows no compression, peers or money."""

import io
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseloco.defaults import ADAM_BETAS, GRADIENT_CLIP, INNER_LR, INNER_WARMUP_STEPS, WEIGHT_DECAY
from sparseloco.model import ByteGPT, GPTShape, sequence_losses

_EPSILON = 1e-8


@dataclass
class AdamState:
    """AdamW's memory, kept across rounds: first and second moments, (numel,) each, and the steps taken."""

    first: Tensor
    second: Tensor
    steps: int = 0

    @classmethod
    def fresh(cls, numel: int) -> "AdamState":
        """Before the first step."""
        return cls(torch.zeros(numel), torch.zeros(numel))

    def to_bytes(self) -> bytes:
        """For the peer's own disk."""
        buffer = io.BytesIO()
        torch.save({"first": self.first, "second": self.second, "steps": self.steps}, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "AdamState":
        """The inverse of `to_bytes`; loads tensors only, never code."""
        saved = torch.load(io.BytesIO(data), weights_only=True)
        return cls(saved["first"], saved["second"], int(saved["steps"]))


@dataclass(frozen=True, eq=False)
class InnerResult:
    """What a round of inner steps left."""

    delta: Tensor  # (numel,), float32: θ_start - θ_H
    losses: tuple[float, ...]  # nats per token, one per step, before that step


def inner_steps(
    theta: Tensor,  # (numel,), float32, left untouched
    batches: Iterable[Tensor],  # H of (batch, context + 1) int64
    state: AdamState,  # moved on in place
    *,
    lr: float = INNER_LR,
    warmup_steps: int = INNER_WARMUP_STEPS,
    shape: GPTShape | None = None,
) -> InnerResult:
    """One AdamW step per batch: gradient clip 1.0, decoupled weight decay 0.1, moments 0.9 and 0.95."""
    model = ByteGPT(theta.clone(), shape)
    losses = []
    for batch in batches:
        loss = sequence_losses(model, batch).mean()
        (gradient,) = torch.autograd.grad(loss, [model.flat])
        ramp = min(1.0, (state.steps + 1) / warmup_steps) if warmup_steps else 1.0
        adam_step(model.flat.data, gradient, state, lr * ramp)
        losses.append(loss.detach())
    return InnerResult(theta - model.flat.data, tuple(torch.stack(losses).tolist()) if losses else ())


def adam_step(theta: Tensor, gradient: Tensor, state: AdamState, lr: float) -> None:
    """AdamW on one flat vector, or on each row of many, in place; equal to torch.optim.AdamW, without its compiler."""
    beta1, beta2 = ADAM_BETAS
    norm = gradient.norm(dim=-1, keepdim=True)
    clipped = gradient * (GRADIENT_CLIP / norm.clamp(min=GRADIENT_CLIP))
    state.steps += 1
    state.first.lerp_(clipped, 1 - beta1)
    state.second.mul_(beta2).addcmul_(clipped, clipped, value=1 - beta2)
    spread = (state.second / (1 - beta2**state.steps)).sqrt_().add_(_EPSILON)
    theta.mul_(1 - lr * WEIGHT_DECAY).addcdiv_(state.first, spread, value=-lr / (1 - beta1**state.steps))
