"""A small byte-level GPT over one flat parameter vector, and its checkpoints. It knows no data, peers or money."""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from sparseloco.defaults import CONTEXT
from sparseloco.spec import ModelSpec

__all__ = ["ByteGPT", "CheckpointError", "GPTShape", "ModelSpec", "checkpoint_bytes", "init_parameters",
           "load_checkpoint", "sequence_losses", "sha256_of"]  # fmt: skip

VOCABULARY = 256
_CHECKPOINT = struct.Struct("<4sB3xI32sQ")
_CHECKPOINT_MAGIC = b"SLCP"
_CHECKPOINT_VERSION = 1


class CheckpointError(ValueError):
    """The bytes are not a checkpoint of this model."""


@dataclass(frozen=True)
class GPTShape:
    """Sizes of the model; the default has 836,736 parameters."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    context: int = CONTEXT

    def spec(self) -> ModelSpec:
        """The tensors in their flat order. The embedding is tied to the output."""
        d = self.width
        tensors: list[tuple[str, tuple[int, ...]]] = [("embed", (VOCABULARY, d)), ("place", (self.context, d))]
        for i in range(self.layers):
            tensors += [
                (f"{i}.norm1", (d,)),
                (f"{i}.qkv", (3 * d, d)),
                (f"{i}.mix", (d, d)),
                (f"{i}.norm2", (d,)),
                (f"{i}.up", (4 * d, d)),
                (f"{i}.down", (d, 4 * d)),
            ]
        tensors.append(("norm", (d,)))
        return ModelSpec(f"byte-gpt heads={self.heads} tied pre-norm gelu", tuple(tensors))


class ByteGPT(nn.Module):
    """Pre-norm GPT without biases; parameters are views of `flat`, (numel,): edit it in place and the model moves."""

    def __init__(self, flat: Tensor, shape: GPTShape | None = None) -> None:
        super().__init__()
        self.shape = shape or GPTShape()
        self.spec = self.shape.spec()
        if flat.shape != (self.spec.numel,):
            raise ValueError(f"{tuple(flat.shape)} parameters, expected ({self.spec.numel},)")
        self.flat = nn.Parameter(flat)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T) int64 → (B, T, 256)
        """Logits of the next byte at every position."""
        # one split, whose backward is one concatenation; slices would each write a gradient of full length
        parts = torch.split(self.flat, list(self.spec.sizes))
        w = {name: part.view(dims) for (name, dims), part in zip(self.spec.tensors, parts, strict=True)}
        x = fn.embedding(tokens, w["embed"]) + w["place"][: tokens.shape[1]]
        for i in range(self.shape.layers):
            x = x + self._attend(self._normed(x, w[f"{i}.norm1"]), w[f"{i}.qkv"], w[f"{i}.mix"])
            x = x + fn.linear(fn.gelu(fn.linear(self._normed(x, w[f"{i}.norm2"]), w[f"{i}.up"])), w[f"{i}.down"])
        # logits in float32 whatever the parameters are: bfloat16 would round away what a small update changes
        return fn.linear(self._normed(x, w["norm"]).float(), w["embed"].float())

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return fn.layer_norm(x, (self.shape.width,), weight)

    def _attend(self, x: Tensor, qkv: Tensor, mix: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = fn.linear(x, qkv).view(batch, length, 3, self.shape.heads, width // self.shape.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = fn.scaled_dot_product_attention(query, key, value, is_causal=True)
        return fn.linear(mixed.transpose(1, 2).reshape(batch, length, width), mix)


def init_parameters(seed: int, shape: GPTShape | None = None) -> Tensor:
    """Deterministic start, (numel,), float32: normal(0, 0.02), residual outputs smaller by √(2·layers), norms one."""
    shape = shape or GPTShape()
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for name, dims in shape.spec().tensors:
        if len(dims) == 1:
            parts.append(torch.ones(dims))
            continue
        residual = name.endswith((".mix", ".down"))
        deviation = 0.02 / (2 * shape.layers) ** 0.5 if residual else 0.02
        parts.append(torch.randn(dims, generator=generator) * deviation)
    return torch.cat([part.reshape(-1) for part in parts])


def sequence_losses(model: Callable[[Tensor], Tensor], windows: Tensor) -> Tensor:  # (B, T + 1) int64 → (B,)
    """Mean cross-entropy per sequence, in nats per token: position t predicts t + 1."""
    logits, targets = model(windows[:, :-1]), windows[:, 1:]
    # in rows: a GPU's softmax over a strided dimension takes a third of the whole pass
    losses = fn.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view_as(targets).mean(dim=1)


def checkpoint_bytes(theta: Tensor, spec: ModelSpec, number: int) -> bytes:
    """Canonical bytes: header (magic, version, number, model id, elements), then little-endian float32.

    Raises ValueError for another length or a value that is not finite.
    """
    if theta.shape != (spec.numel,) or not bool(torch.isfinite(theta).all()):
        raise ValueError(f"a checkpoint has ({spec.numel},) finite values")
    header = _CHECKPOINT.pack(_CHECKPOINT_MAGIC, _CHECKPOINT_VERSION, number, spec.model_id, spec.numel)
    return header + theta.detach().numpy().astype("<f4").tobytes()


def load_checkpoint(data: bytes, spec: ModelSpec) -> tuple[int, Tensor]:
    """The checkpoint's number and its parameters, (numel,), float32, a fresh copy. Raises CheckpointError."""
    if len(data) != _CHECKPOINT.size + 4 * spec.numel:
        raise CheckpointError(f"{len(data)} bytes, expected {_CHECKPOINT.size + 4 * spec.numel}")
    magic, version, number, model_id, numel = _CHECKPOINT.unpack_from(data)
    if (magic, version, model_id, numel) != (_CHECKPOINT_MAGIC, _CHECKPOINT_VERSION, spec.model_id, spec.numel):
        raise CheckpointError("the header is not that of a version 1 checkpoint of this model")
    theta = torch.from_numpy(np.frombuffer(data, dtype="<f4", offset=_CHECKPOINT.size).astype(np.float32))
    if not bool(torch.isfinite(theta).all()):
        raise CheckpointError("a value is not finite")
    return number, theta


def sha256_of(data: bytes) -> bytes:
    """The checkpoint's name everywhere: SHA-256 of its canonical bytes."""
    return hashlib.sha256(data).digest()
