"""One honest update, measured on this device and on a CPU in float32: how far apart the two measurements are."""

import torch
from _oracle_tools import Row, Stage
from l402_oracle.measure import Measurer, Stopping
from sparseloco.codec import compress
from sparseloco.data import hidden_shards, load_corpus, train_batches, train_shard
from sparseloco.model import GPTShape, init_parameters
from sparseloco.sparse import expand
from sparseloco.train import AdamState, inner_steps


def agreement(stage: Stage) -> None:
    """An honest update's loss drop, as the worker measures it on this device and on a CPU in float32."""
    corpus, spec, theta = load_corpus(), GPTShape().spec(), init_parameters(1)
    state, nothing, shards = AdamState.fresh(spec.numel), torch.zeros(spec.numel), hidden_shards(load_corpus(), b"s", 8)
    for number in range(2):
        batches = train_batches(train_shard(corpus, b"peer"), b"peer", number, 15)
        sparse, _ = compress(inner_steps(theta, batches, state).delta, nothing, spec)
        update = expand(sparse, spec)
        whole = Stopping(len(shards))
        here, there = (
            Measurer(theta, corpus, device=device).measure(update, shards, whole) for device in ("cpu", stage.device)
        )
        apart = [a - b for a, b in zip(here.drops, there.drops, strict=True)]
        row: Row = {
            "round": number, "CPU, float32: drop": here.interval.mean, "± SE": here.interval.se,
            f"{stage.device}: drop": there.interval.mean, "difference of the means": abs(sum(apart)) / len(apart),
            "largest of one sequence": max(map(abs, apart)),
        }  # fmt: skip
        stage.add("Scoring: the same update on both devices, nats per token", row)
        theta = theta.index_add(0, torch.from_numpy(update.indices), torch.from_numpy(update.values), alpha=-1.0)
