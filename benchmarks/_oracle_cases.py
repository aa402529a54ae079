"""What is scored in the oracle's benchmark: a model, its payloads and its tokens, all made up. It times nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from _oracle_codec import BINDING
from numpy.typing import NDArray
from sparseloco import wire
from sparseloco.defaults import TOP_K
from sparseloco.layout import layout_of
from sparseloco.model import GPTShape
from sparseloco.sparse import Quantiser, Sparse
from sparseloco.spec import ModelSpec
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """A model and the tokens that each peer is scored on."""

    shape: GPTShape
    batch: int
    batches: int
    peers: int = 4
    """Scored in a row, so that there is something to hide the next one's unpacking behind."""

    @property
    def tokens(self) -> int:
        """Tokens predicted per peer."""
        return self.batch * self.shape.context * self.batches


def a_checkpoint(spec: ModelSpec, device: str) -> Tensor:
    """Random parameters of an ordinary size, (numel,) float32."""
    torch.manual_seed(2)
    theta = torch.randn(spec.numel, device=device).mul_(0.02)
    for part, (_, dims) in zip(torch.split(theta, list(spec.sizes)), spec.tensors, strict=True):
        if len(dims) == 1:
            part.fill_(1.0)
    return theta


def a_payload(spec: ModelSpec, seed: int) -> bytes:
    """k entries of every chunk, evenly spread, with random codes: the bytes that a peer of this model would send."""
    rng, layout = np.random.default_rng(seed), layout_of(spec)
    kept = layout.kept(TOP_K)
    positions = np.concatenate(list(_positions(rng, layout.size, kept)))
    tables = np.tile(np.array([1e-4, 3e-4, -1e-4, -3e-4], dtype=np.float32), (len(spec.tensors), 1))
    codes = rng.integers(0, 4, len(positions), dtype=np.uint8)
    return wire.pack(Sparse(TOP_K, Quantiser.SIGN_TWO, positions, codes, tables), spec, BINDING)


def _positions(
    rng: np.random.Generator,
    sizes: NDArray[np.int64],
    kept: NDArray[np.int64],
) -> Iterator[NDArray[np.uint16]]:
    edges = np.flatnonzero(np.diff(sizes, prepend=-1, append=-1))
    for start, end in pairwise(edges):
        count, step = int(kept[start]), int(sizes[start]) // int(kept[start])
        drawn = rng.integers(0, step, (end - start, count), dtype=np.uint16)
        yield (drawn + np.arange(count, dtype=np.uint16) * np.uint16(step)).reshape(-1)


def some_windows(case: Case, device: str) -> list[Tensor]:  # of (batch, context + 1) int64
    """Random bytes: what a forward pass costs does not depend on them."""
    generator = torch.Generator().manual_seed(3)
    shape = (case.batch, case.shape.context + 1)
    return [torch.randint(0, 256, shape, generator=generator).to(device) for _ in range(case.batches)]
