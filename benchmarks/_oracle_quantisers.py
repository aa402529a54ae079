"""Our two bits beside the published ones, on the updates of a model that is really trained."""

import numpy as np
import torch
from _oracle_tools import Row, Stage
from l402_oracle.measure import Measurer, Stopping
from sparseloco.codec import compress
from sparseloco.data import hidden_shards, load_corpus, train_batches, train_shard
from sparseloco.defaults import INNER_STEPS, TOP_K
from sparseloco.layout import kept_per_tensor
from sparseloco.model import GPTShape, init_parameters
from sparseloco.sparse import Quantiser, Update, expand
from sparseloco.train import AdamState, inner_steps
from torch import Tensor

ROUNDS = 6
SHOWN = (0, 2, 5)
"""Rounds that are shown: the first, and later ones, whose updates are of another kind."""
NAMES = {Quantiser.SIGN_TWO: "sign and two magnitudes", Quantiser.PUBLISHED: "as published"}


def quantisers(stage: Stage) -> None:
    """One peer's rounds; what each quantiser would have sent of the same update, and what it is worth."""
    corpus, spec, theta = load_corpus(), GPTShape().spec(), init_parameters(1)
    state, feedback = AdamState.fresh(spec.numel), torch.zeros(spec.numel)
    shards = hidden_shards(corpus, b"quantisers", 16)
    for number in range(ROUNDS):
        batches = train_batches(train_shard(corpus, b"peer"), b"peer", number, INNER_STEPS)
        delta = inner_steps(theta, batches, state).delta
        if number in SHOWN:
            measurer = Measurer(theta, corpus)
            wanted = 0.95 * feedback + delta
            for name, update, bits in _ways(delta, feedback, wanted):
                seen = measurer.measure(update, shards, Stopping(len(shards))).interval
                kept = wanted.numpy()[update.indices]
                row: Row = {
                    "round": number, "sent": name, "bits of entropy a code": bits,
                    "error of the kept entries, %": _error(update, kept),
                    "loss drop, nats per token": seen.mean, "± SE": seen.se,
                }  # fmt: skip
                stage.add("Two bits a value: ours beside the published ones", row)
        sparse, feedback = compress(delta, feedback, spec)
        update = expand(sparse, spec)
        theta = theta.index_add(0, torch.from_numpy(update.indices), torch.from_numpy(update.values), alpha=-1.0)


def _ways(delta: Tensor, feedback: Tensor, wanted: Tensor) -> list[tuple[str, Update, float | str]]:
    spec = GPTShape().spec()
    ways: list[tuple[str, Update, float | str]] = []
    for quantiser, name in NAMES.items():
        sparse, _ = compress(delta, feedback, spec, quantiser=quantiser)
        ways.append((name, expand(sparse, spec), _entropy(sparse.codes)))
    indices = ways[0][1].indices
    bounds = (0, *np.cumsum(kept_per_tensor(spec, TOP_K)).tolist())
    everything = (0, *np.cumsum(spec.sizes).tolist())
    ways.append(("the same entries, not rounded", Update(indices, wanted.numpy()[indices], bounds), ""))
    ways.append(("all entries", Update(np.arange(spec.numel), wanted.numpy(), everything), ""))
    return ways


def _error(update: Update, exact: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    return float(100 * np.square(update.values - exact).sum() / np.square(exact).sum())


def _entropy(codes: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> float:
    share = np.bincount(codes, minlength=4) / len(codes)
    used = share[share > 0]
    return float(-(used * np.log2(used)).sum())
