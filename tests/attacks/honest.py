"""Honest peers who differ: how many are refused wrongly, and whether pay follows what each is worth to the others.

`python -m tests.attacks.honest`. Data, steps, learning rates and the precision of the sent update vary from peer to peer.
An update counts as good where it was paid, or where its drop on eight times the tokens is above zero by three standard
errors; refusing a good one is a false rejection. Only what was refused is measured again, because that takes the time. An
update's value to the others is how much worse the aggregate is without it, in every `--value-every`th round.
"""

import argparse
import asyncio
import logging
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import structlog
import torch
from l402_oracle.adapters import decisions as books
from l402_oracle.attestor.judgement import question_of
from l402_oracle.attestor.own_data import Question, Tried, tried
from l402_oracle.measure import Measurer, Stopping, clipped
from l402_oracle.scoring import Interval, interval
from l402_peer_agent.training import Trainer, assigned_batches, binding
from l402core.documents import Receipt, Terms
from l402core.events import RoundAssessed
from l402core.outbox import Transaction
from sparseloco.data import Corpus, load_corpus
from sparseloco.defaults import INNER_LR, INNER_STEPS
from sparseloco.model import load_checkpoint
from sparseloco.outer import aggregate
from sparseloco.sparse import Update, expand
from sparseloco.train import AdamState, InnerResult, inner_steps
from sparseloco.wire import unpack
from torch import Tensor

from tests.attacks.court import RECIPE, SPEC, Court, Player, one_thread, warmed_up
from tests.attacks.runs import key_of

STEPS, RATES = (10, 15, 20, 30), (1e-3, 2e-3, 3e-3)
TOKENS_FACTOR = 8
UNTIL_CLEAR = Stopping(relative_error=math.inf)
"""Ends at the first look that shows a gain: so what is good is counted rather too often than too rarely."""
PEERS = 8
"""Of one network."""
Asked = tuple[Question | None, dict[str, Tried]]


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


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One honest submission: what it was, its verdict and pay, its drop on many tokens, its value to the others."""

    name: str
    steps: int
    rate: float
    rounded: bool
    code: str
    units: int
    drop: float
    """As it was measured, over the round's reference."""
    round: int
    warm_steps: int
    excess: float | None = None
    """What its own data shows and below what it would have been refused, in standard errors; None: it was not asked."""
    least: float = 0.0
    large: Interval | None = None
    """On eight times the tokens, where it was refused."""
    value: Interval | None = None
    half_values: tuple[float, float] = (0.0, 0.0)

    @property
    def is_good(self) -> bool:
        """Paid; or its drop on eight times the tokens is clearly positive."""
        return self.units > 0 or (self.large is not None and self.large.lo > 0)


def everything(corpus: Corpus) -> Corpus:
    """The whole text as one hidden pool: enough for eight times the tokens."""
    return Corpus(b"", corpus.hidden + corpus.held_out + corpus.train, b"", b"")


async def play(
    folder: Path,
    theta: Tensor,
    *,
    rounds: int,
    peers: int,
    eval_tokens: int,
    seed: int,
    value_every: int,
    warm: int,
    keep: Callable[[list[Seen]], None],
) -> None:
    """Rounds of varied honest peers, all of them so far kept after each; `warm`: the steps that `theta` had."""
    court = Court(folder / "oracle", theta, eval_tokens=eval_tokens)
    players = [_varied(folder, number, seed) for number in range(peers)]
    seen: list[Seen] = []
    try:
        await court.begin()
        for number in range(rounds):
            terms = await court.open()
            for player in players:
                await court.submit(player, ())
            base = load_checkpoint(await court.checkpoint(), SPEC)[1]
            outcome = await court.close()
            asked = await _asked(court)
            looked = [_looked_at(one, outcome.receipts[one.name], asked, warm) for one in players]
            refused = [one.name for one in looked if not one.units]
            valued = number % value_every == 0
            if refused or valued:
                looked = _measured(looked, base, _updates(court, terms), TOKENS_FACTOR * eval_tokens, valued=valued)
            seen += looked
            keep(seen)
    finally:
        court.end()


async def _asked(court: Court) -> Asked:
    """The round's question of assigned data, and what each submission had to say to it."""
    assessed = next(e for e in court.stage.ears.all(RoundAssessed) if e.round == court.number)

    def read(tx: Transaction) -> Asked:
        submissions = books.read_submissions(tx, assessed.measured)
        own = books.read_measured(tx, assessed.yardstick) if assessed.yardstick else None
        found = {s.commitment: one for s in submissions if s.measured and (one := tried(s.measured))}
        return question_of(assessed, submissions, own), found

    return await court.stage.database.read(read)


def _looked_at(player: Player, receipt: Receipt, asked: Asked, warm: int) -> Seen:
    trainer, (question, found) = player.trainer, asked
    assert isinstance(trainer, Varied)
    one = found.get(receipt.commitment)
    return Seen(
        name=player.name, steps=trainer.steps, rate=trainer.rate, rounded=trainer.rounded, round=receipt.round,
        warm_steps=warm, code=receipt.checks[-1].code, units=receipt.units,
        drop=receipt.drop_mean / max(1, receipt.reference), excess=one.excess if one else None,
        least=question.least if question else 0.0,
    )  # fmt: skip


def _updates(court: Court, terms: Terms) -> dict[str, Update]:
    """Everybody's, clipped as the round clipped them."""
    norms = next(e for e in court.stage.ears.all(RoundAssessed) if e.round == terms.round).clip_norms
    return {
        entry.player.name: clipped(
            expand(unpack(entry.packed, SPEC, binding(terms, bytes.fromhex(entry.player.key.public))).sparse, SPEC),
            norms,
        )
        for entry in court.entries
    }


def _measured(
    looked: Sequence[Seen], base: Tensor, updates: dict[str, Update], tokens: int, *, valued: bool
) -> list[Seen]:
    measurer, text = Measurer(base, everything(load_corpus())), everything(load_corpus())
    alpha, made = RECIPE.outer_rate_ppm / 1e6, []
    values = _values(measurer, updates, alpha) if valued else {}
    for one in looked:
        count = min(tokens // 2048, text.hidden_shard_count)
        shards = tuple(range(count))
        large = None if one.units else measurer.measure(updates[one.name], shards, UNTIL_CLEAR, alpha=alpha).interval
        value = values.get(one.name)
        halves = (float(np.mean(value[::2])), float(np.mean(value[1::2]))) if value else (0.0, 0.0)
        changed = msgspec.structs.replace(one, large=large, value=interval(value) if value else None)
        made.append(msgspec.structs.replace(changed, half_values=halves))
    return made


def _values(measurer: Measurer, updates: dict[str, Update], alpha: float) -> dict[str, list[float]]:
    """By peer and sequence: the loss of the others' aggregate, less that of everybody's."""
    shards, text = tuple(range(0, 160, 5)), everything(load_corpus())

    def losses(kept: dict[str, Update]) -> list[float]:
        mean = aggregate({name.encode(): update for name, update in kept.items()}, SPEC.numel)
        return Measurer(measurer.theta - alpha * mean, text).baseline(shards)

    whole = losses(updates)
    return {
        name: [a - b for a, b in zip(losses({n: u for n, u in updates.items() if n != name}), whole, strict=True)]
        for name in updates
    }


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation."""
    ranks = [np.argsort(np.argsort(np.asarray(one))) for one in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def report(seen: Sequence[Seen]) -> list[str]:
    """Lines for people."""
    good = [one for one in seen if one.is_good]
    refused = [one for one in good if one.units == 0]
    wrong = [one for one in refused if one.code != "below_floor"]
    valued = [one for one in seen if one.value is not None]
    among, halves = _ranked(valued)
    margins = sorted(one.excess - one.least for one in seen if one.excess is not None)
    nearest = ", ".join(f"{margin:+.1f}" for margin in margins[:5])
    floors = Counter((one.steps, one.rate) for one in refused if one.code == "below_floor")
    ours = sum((one.steps, one.rate) == (INNER_STEPS, INNER_LR) for one in seen)
    return [
        f"{len(seen)} honest submissions, {len(good)} of them paid or clearly positive on {TOKENS_FACTOR} times the tokens",
        f"refused although clearly positive, not for the floor: {len(wrong)} ({len(wrong) / max(1, len(good)):.1%})",
        f"shown to improve, and below the floor of pay: {len(refused) - len(wrong)}; "
        f"by the recipe's steps and rate {floors[INNER_STEPS, INNER_LR]} of {ours}",
        *(f"  {steps} steps at {rate:g}: {count} below the floor" for (steps, rate), count in sorted(floors.items())),
        f"{len(valued)} submissions in {len(valued) // max(1, PEERS)} rounds: rank correlation, within a round, of drop "
        f"with value to the others: {among:+.2f}; of two halves of that value: {halves:+.2f}",
        f"asked about assigned data: {len(margins)}; nearest to a refusal, in standard errors: {nearest}",
        *(f"  {one.name} in round {one.round}: {one.code}, {one.steps} steps at {one.rate:g}" for one in wrong),
    ]


def _ranked(seen: Sequence[Seen]) -> tuple[float, float]:
    """Means over rounds of the correlations among the peers of one round."""
    rounds = [seen[start : start + PEERS] for start in range(0, len(seen) - PEERS + 1, PEERS)]
    if not rounds:
        return math.nan, math.nan
    among = [
        spearman([one.drop for one in each], [one.value.mean if one.value else 0.0 for one in each]) for each in rounds
    ]
    halves = [spearman(*([one.half_values[half] for one in each] for half in (0, 1))) for each in rounds]
    return float(np.mean(among)), float(np.mean(halves))


def _varied(folder: Path, number: int, seed: int) -> Player:
    name, key = f"varied-{number}", key_of(f"varied-{number}", seed)
    trainer = Varied(folder / name, key.public)
    place = seed * PEERS + number  # so that three networks hold every pair of steps and rate twice
    trainer.steps, trainer.rate = STEPS[place % len(STEPS)], RATES[place % len(RATES)]
    trainer.rounded = number % 2 == 1
    return Player(name, "honest", trainer, key)


def main() -> int:
    """Play and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.honest")
    parser.add_argument("--submissions", type=int, default=500)
    parser.add_argument(
        "--rounds", type=int, default=5, help="of each network; networks begin anew until there are enough"
    )
    parser.add_argument("--eval-tokens", type=int, default=32_768)
    parser.add_argument("--warm-steps", type=int, default=150)
    parser.add_argument(
        "--value-every", type=int, default=5, help="rounds from one look at everybody's value to the next"
    )
    parser.add_argument("--json", type=Path, help="keep what was seen there, round by round, and go on from it")
    asked = parser.parse_args()
    one_thread()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    kept: list[list[Seen]] = []
    if asked.json and asked.json.exists():
        kept = msgspec.json.decode(asked.json.read_bytes(), type=list[list[Seen]])
    theta = warmed_up(0, asked.warm_steps)

    def keep(network: list[Seen], number: int) -> None:
        kept[number:] = [network]
        if asked.json:
            asked.json.write_bytes(msgspec.json.encode(kept))

    while sum(map(len, kept)) < asked.submissions:
        with tempfile.TemporaryDirectory() as folder:
            left = -(-(asked.submissions - sum(map(len, kept))) // PEERS)
            number = len(kept)
            playing = play(
                Path(folder), theta, rounds=min(asked.rounds, left), peers=PEERS, eval_tokens=asked.eval_tokens,
                seed=number, value_every=asked.value_every, warm=asked.warm_steps, keep=partial(keep, number=number),
            )  # fmt: skip
            asyncio.run(playing)
    sys.stdout.write("\n".join(report([one for each in kept for one in each])) + "\n")
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
