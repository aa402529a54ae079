"""Many small models trained in lockstep, one row of parameters each. It knows no way to combine them."""

import hashlib
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from sparseloco import defaults
from sparseloco.data import held_out_windows, load_corpus, train_batches, train_shard
from sparseloco.model import ByteGPT, GPTShape, sequence_losses
from sparseloco.train import AdamState, adam_step
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

SPEC = GPTShape().spec()
PEERS = 8


class Fleet:
    """Rows of models on one device, at most `at_once` of them in one pass."""

    def __init__(self, device: torch.device, at_once: int) -> None:
        self.device, self._at_once = device, at_once
        self._model = ByteGPT(torch.zeros(SPEC.numel, device=device))
        self._gradients = vmap(grad(self._loss))
        self._held_out = held_out_windows(load_corpus()).to(device)

    def train(self, theta: Tensor, steps: Iterator[Tensor], state: AdamState) -> Tensor:
        """Rows (models, numel) after an AdamW step on each (models, batch, tokens); `theta` is left untouched."""
        theta = theta.clone()
        for windows in steps:
            parts = zip(torch.split(theta, self._at_once), torch.split(windows, self._at_once), strict=True)
            with sdpa_kernel(SDPBackend.MATH):  # the others know no batch of models
                gradient = torch.cat([self._gradients(rows, tokens.long()) for rows, tokens in parts])
            ramp = min(1.0, (state.steps + 1) / defaults.INNER_WARMUP_STEPS)
            adam_step(theta, gradient, state, defaults.INNER_LR * ramp)
        return theta

    def held_out_loss(self, theta: Tensor) -> list[float]:
        """Nats per token of each row."""
        loss = vmap(lambda row, tokens: sequence_losses(self._as_model(row), tokens), in_dims=(0, None))
        total = torch.zeros(len(theta), dtype=torch.float64, device=self.device)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            for windows in torch.split(self._held_out, 64):
                total += torch.cat([loss(rows, windows).double().sum(1) for rows in torch.split(theta, self._at_once)])
        means: list[float] = (total / len(self._held_out)).tolist()
        return means

    def state(self, models: int) -> AdamState:
        """AdamW's memory before the first step."""
        first, second = (torch.zeros(models, SPEC.numel, device=self.device) for _ in range(2))
        return AdamState(first, second)

    def _loss(self, row: Tensor, windows: Tensor) -> Tensor:
        return sequence_losses(self._as_model(row), windows).mean()

    def _as_model(self, row: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda tokens: functional_call(self._model, {"flat": row}, (tokens,))


@lru_cache(maxsize=512)
def peers_batches(seed: int, round_: int) -> Tensor:  # (PEERS, H, batch, CONTEXT + 1) uint8
    """What the eight peers of a seed train on in a round: as the product draws it, each from a shard of its own."""
    return torch.stack([_one_peer(seed, round_, number) for number in range(PEERS)])


def _one_peer(seed: int, round_: int, number: int) -> Tensor:
    peer = hashlib.sha256(f"peer {seed} {number}".encode()).digest()
    # each round has terms of its own, and they draw each peer a new shard
    key = hashlib.sha256(f"terms {seed} {round_}".encode() + peer).digest()
    shard = train_shard(load_corpus(), key)
    return torch.stack(list(train_batches(shard, key, round_, defaults.INNER_STEPS))).to(torch.uint8)
