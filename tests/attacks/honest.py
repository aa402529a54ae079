"""Honest peers who differ: how many are refused wrongly, and whether pay follows what each is worth to the others.

`python -m tests.attacks.honest`. Data, steps, learning rates and the precision of the sent update vary from peer to peer.
An update counts as good where its drop on eight times the tokens is above zero by three standard errors; refusing a
good one is a false rejection. An update's value to the others is how much worse the aggregate is without it.
"""

import argparse
import asyncio
import logging
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from l402_oracle.measure import Measurer, clipped
from l402_oracle.scoring import Interval, interval
from l402_peer_agent.training import Trainer, assigned_batches, binding
from l402core.documents import Terms
from l402core.events import RoundAssessed
from sparseloco.data import Corpus, load_corpus
from sparseloco.model import load_checkpoint
from sparseloco.outer import aggregate
from sparseloco.sparse import Update, expand
from sparseloco.train import AdamState, InnerResult, inner_steps
from sparseloco.wire import unpack
from torch import Tensor

from tests.attacks.court import SPEC, Court, Player, one_thread, warmed_up
from tests.attacks.runs import key_of

STEPS, RATES = (10, 15, 20, 30), (1e-3, 2e-3, 3e-3)
TOKENS_FACTOR = 8


class Varied(Trainer):
    """Honest, with steps, rate and precision of its own."""

    steps, rate, rounded = 20, 2e-3, False

    def worked(self, theta: Tensor, terms: Terms, state: AdamState) -> InnerResult:
        """At its own rate."""
        return inner_steps(theta, self.batches(terms), state, lr=self.rate)

    def batches(self, terms: Terms) -> Iterator[Tensor]:
        """As many as it makes; what goes beyond the assigned ones is of its shard as well."""
        return assigned_batches(terms, self._peer, self.steps)

    def altered(self, delta: Tensor, terms: Terms) -> Tensor:
        """In bfloat16 where it computes so."""
        del terms
        return delta.bfloat16().float() if self.rounded else delta


@dataclass(frozen=True)
class Seen:
    """One honest submission: what it was, its verdict and pay, its drop on many tokens, its value to the others."""

    name: str
    code: str
    units: int
    large: Interval
    value: Interval
    half_values: tuple[float, float]

    @property
    def is_good(self) -> bool:
        """Its drop on eight times the tokens is clearly positive."""
        return self.large.lo > 0


def everything(corpus: Corpus) -> Corpus:
    """The whole text as one hidden pool: enough for eight times the tokens."""
    return Corpus(b"", corpus.hidden + corpus.held_out + corpus.train, b"", b"")


async def play(folder: Path, theta: Tensor, *, rounds: int, peers: int, eval_tokens: int, seed: int) -> list[Seen]:
    """Rounds of varied honest peers."""
    court = Court(folder / "oracle", theta, eval_tokens=eval_tokens)
    players = [_varied(folder, number, seed) for number in range(peers)]
    seen: list[Seen] = []
    try:
        await court.begin()
        for _ in range(rounds):
            terms = await court.open()
            for player in players:
                await court.submit(player, ())
            base = load_checkpoint(await court.checkpoint(), SPEC)[1]
            outcome = await court.close()
            medians = next(e for e in court.stage.ears.all(RoundAssessed) if e.round == terms.round).clip_norms
            updates = {
                entry.player.name: clipped(
                    expand(
                        unpack(entry.packed, SPEC, binding(terms, bytes.fromhex(entry.player.key.public))).sparse, SPEC
                    ),
                    medians,
                )
                for entry in court.entries
            }
            measurer = Measurer(base, everything(load_corpus()))
            for name, receipt in outcome.receipts.items():
                large = _large(measurer, updates[name], TOKENS_FACTOR * eval_tokens)
                value = _value(measurer, updates, name)
                halves = (float(np.mean(value[::2])), float(np.mean(value[1::2])))
                code = receipt.checks[-1].code
                seen.append(Seen(name, code, receipt.units, large, interval(value), halves))
    finally:
        court.end()
    return seen


def _large(measurer: Measurer, update: Update, tokens: int) -> Interval:
    count = min(tokens // 2048, everything(load_corpus()).hidden_shard_count)
    return measurer.measure(update, tuple(range(count))).interval


def _value(measurer: Measurer, updates: dict[str, Update], name: str) -> list[float]:
    """Per sequence: the loss of the others' aggregate, less that of everybody's."""
    shards = tuple(range(0, 160, 5))
    theta = measurer.theta
    losses = []
    for kept in ({n: u for n, u in updates.items() if n != name}, updates):
        mean = aggregate({n.encode(): u for n, u in kept.items()}, SPEC.numel)
        losses.append(Measurer(theta - mean, everything(load_corpus())).baseline(shards))
    return [without - with_all for without, with_all in zip(*losses, strict=True)]


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation."""
    ranks = [np.argsort(np.argsort(np.asarray(one))) for one in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def report(seen: Sequence[Seen]) -> list[str]:
    """Lines for people."""
    good = [one for one in seen if one.is_good]
    refused = [one for one in good if one.units == 0]
    wrong = [one for one in refused if one.code != "below_floor"]
    among, halves = _ranked(seen)
    return [
        f"{len(seen)} honest submissions, {len(good)} of them clearly positive on {TOKENS_FACTOR} times the tokens",
        f"refused although clearly positive: {len(wrong)} ({len(wrong) / max(1, len(good)):.1%})",
        f"shown to improve, and below the floor of pay: {len(refused) - len(wrong)}",
        f"rank correlation of pay with value to the others: {among:+.2f}; of two halves of that value: {halves:+.2f}",
        *(f"  {one.name}: {one.code}" for one in wrong),
    ]


def _ranked(seen: Sequence[Seen]) -> tuple[float, float]:
    if len(seen) < 3:
        return math.nan, math.nan
    pay = [float(one.units) for one in seen]
    first, second = ([one.half_values[half] for one in seen] for half in (0, 1))
    return spearman(pay, [one.value.mean for one in seen]), spearman(first, second)


def _varied(folder: Path, number: int, seed: int) -> Player:
    name, key = f"varied-{number}", key_of(f"varied-{number}", seed)
    trainer = Varied(folder / name, key.public)
    trainer.steps, trainer.rate = STEPS[number % len(STEPS)], RATES[number % len(RATES)]
    trainer.rounded = number % 2 == 1
    return Player(name, "honest", trainer, key)


def main() -> int:
    """Play and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.honest")
    parser.add_argument("--submissions", type=int, default=500)
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument(
        "--rounds", type=int, default=5, help="of each network; networks begin anew until there are enough"
    )
    parser.add_argument("--eval-tokens", type=int, default=32_768)
    parser.add_argument("--warm-steps", type=int, default=150)
    asked = parser.parse_args()
    one_thread()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    theta, seen, seed = warmed_up(0, asked.warm_steps), list[Seen](), 0
    while len(seen) < asked.submissions:
        with tempfile.TemporaryDirectory() as folder:
            left = -(-(asked.submissions - len(seen)) // asked.peers)
            seen += asyncio.run(
                play(
                    Path(folder), theta, rounds=min(asked.rounds, left), peers=asked.peers,
                    eval_tokens=asked.eval_tokens, seed=seed,
                )
            )  # fmt: skip
        seed += 1
    sys.stdout.write("\n".join(report(seen)) + "\n")
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
