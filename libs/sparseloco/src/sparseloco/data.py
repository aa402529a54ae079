"""The text that the small model learns, as windows of tokens: Python's own documentation topics, split for good.

What is drawn and how lies in `sparseloco.corpus`; here it becomes tensors. It knows no peers and no money.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseloco.corpus import BLOCK, Corpus, draw, hidden_shards, load_corpus, numbers, split_corpus, train_shard
from sparseloco.defaults import CONTEXT, INNER_BATCH, SHARD_WINDOWS

__all__ = ["BLOCK", "Corpus", "assigned_windows", "draw", "held_out_windows", "hidden_shards", "hidden_windows", "load_corpus",
           "split_corpus", "train_batches", "train_shard"]  # fmt: skip


def train_batches(
    shard: bytes, key: bytes, round_number: int, steps: int, batch: int = INNER_BATCH
) -> Iterator[Tensor]:  # of (batch, CONTEXT + 1) int64
    """The windows of one round's inner steps, drawn by peer key, round and step."""
    starts = len(shard) - CONTEXT
    for step in range(steps):
        stream = numbers(b"batch\n" + key + round_number.to_bytes(4, "big") + step.to_bytes(4, "big"))
        yield _windows(shard, [next(stream) % starts for _ in range(batch)])


def assigned_windows(
    corpus: Corpus, key: bytes, round_number: int, batch: int, numbers_: Sequence[int]
) -> Tensor:  # (windows, CONTEXT + 1) int64
    """Some of the windows that `train_batches` deals to a peer, by their numbers: step · batch + place."""
    steps = max(numbers_, default=-1) // batch + 1
    dealt = torch.cat(list(train_batches(train_shard(corpus, key), key, round_number, steps, batch)))
    return dealt[list(numbers_)]


def hidden_windows(corpus: Corpus, shard: int) -> Tensor:  # (SHARD_WINDOWS, CONTEXT + 1) int64
    """One shard's windows, from all over the pool, so that the windows of a measurement are nearly independent."""
    if not 0 <= shard < corpus.hidden_shard_count:
        raise ValueError(f"shard {shard} is outside 0..{corpus.hidden_shard_count - 1}")
    step = corpus.hidden_shard_count
    return _windows(corpus.hidden, [(shard + i * step) * CONTEXT for i in range(SHARD_WINDOWS)])


def held_out_windows(corpus: Corpus) -> Tensor:  # (windows, CONTEXT + 1) int64
    """All windows of the held-out split: what the loss curve is drawn from, never trained or paid on."""
    return _windows(corpus.held_out, range(0, len(corpus.held_out) - CONTEXT, CONTEXT))


def _windows(text: bytes, starts: Sequence[int]) -> Tensor:
    array: NDArray[np.uint8] = np.frombuffer(text, dtype=np.uint8)
    rows = np.asarray(starts)[:, None] + np.arange(CONTEXT + 1)
    return torch.from_numpy(array[rows].astype(np.int64))
