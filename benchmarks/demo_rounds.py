"""Rounds of three honest peers, a copy, a flip and noise, with the real codec, scoring and pay, but no network or LND.

It answers one question: with the defaults, does the held-out loss fall every round, does every honest peer earn more
than its fees, and do the cheats earn nothing? `python benchmarks/demo_rounds.py --seeds 1 2 3 4`.
"""

import argparse
import hashlib
import json
import time
from dataclasses import dataclass, field
from itertools import combinations, pairwise

import torch
from l402_oracle.copies import Work, find_copies
from l402_oracle.measure import Measurer, clipped, mean_loss, screen
from l402_oracle.scoring import Decision, Interval, PayRules, Reason, decide, is_improvement, reference
from l402_oracle.similarity import Sketch, likeness, sketch
from sparseloco import defaults, wire
from sparseloco.codec import compress
from sparseloco.data import held_out_windows, hidden_shards, load_corpus, train_batches, train_shard
from sparseloco.model import GPTShape, checkpoint_bytes, init_parameters, sha256_of
from sparseloco.outer import aggregate, median_norms, outer_step
from sparseloco.sparse import Sparse, Update, expand
from sparseloco.train import AdamState, inner_steps
from torch import Tensor

SPEC = GPTShape().spec()
FEE_SAT, UNIT_SAT = 500, 100
KINDS = ("honest", "honest", "honest", "flip", "noise", "copy")


@dataclass
class Peer:
    """One peer's identity and memory."""

    name: str
    kind: str
    key: bytes
    state: AdamState = field(default_factory=lambda: AdamState.fresh(SPEC.numel))
    feedback: Tensor = field(default_factory=lambda: torch.zeros(SPEC.numel))
    kept: Tensor = field(default_factory=lambda: torch.zeros(SPEC.numel))
    earned_sat: int = 0


@dataclass(frozen=True)
class Settings:
    """What is tuned."""

    steps: int = defaults.INNER_STEPS
    lr: float = defaults.INNER_LR
    warmup: int = defaults.INNER_WARMUP_STEPS
    beta: float = defaults.FEEDBACK_DECAY
    alpha: float = defaults.OUTER_LR
    shards: int = defaults.SCORE_SHARDS
    blocks: int = defaults.TRAIN_SHARD_BLOCKS


def main() -> None:
    """Run the seeds and print a table and the verdict of each."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--rounds", type=int, default=6)
    for name, default in vars(Settings()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    seeds, rounds = arguments.pop("seeds"), arguments.pop("rounds")
    settings = Settings(**arguments)
    print(settings)
    for seed in seeds:
        print(json.dumps(run_seed(seed, rounds, settings)))


def run_seed(seed: int, rounds: int, settings: Settings) -> dict[str, object]:
    """One run's summary."""
    network = Network(seed, settings)
    losses = [network.held_out_loss()]
    for number in range(rounds):
        network.play(number)
        losses.append(network.held_out_loss())
        print(f"  seed {seed} round {number}: held-out {losses[-2]:.3f} -> {losses[-1]:.3f}", flush=True)
    net = {peer.name: peer.earned_sat - rounds * FEE_SAT for peer in network.peers}
    honest = {peer.name for peer in network.peers if peer.kind == "honest"}
    return {
        "seed": seed,
        "held_out": [round(loss, 3) for loss in losses],
        "falls_every_round": all(after < before for before, after in pairwise(losses)),
        "net_sat": net,
        "honest_rounds_below_the_fee": network.misses,
        "honest_gain": all(net[name] > 0 for name in honest),
        "cheats_paid_nothing": all(peer.earned_sat == 0 for peer in network.peers if peer.name not in honest),
    }


class Network:
    """One seed's peers and model, without anything between them."""

    def __init__(self, seed: int, settings: Settings) -> None:
        self.corpus = load_corpus()
        self.seed, self.settings = seed, settings
        self.peers = [self._peer(number, kind) for number, kind in enumerate(KINDS)]
        self.theta = init_parameters(seed)
        self.reference: float | None = None
        self.misses = 0

    def held_out_loss(self) -> float:
        """Nats per token on the held-out split."""
        return mean_loss(self.theta, held_out_windows(self.corpus))

    def play(self, number: int) -> None:
        """One round: train, pack, unpack, compare, clip, measure, pay, aggregate."""
        started = time.perf_counter()
        sparse_of = self._submitted(number)
        trained = time.perf_counter()
        updates = {name: expand(sparse, SPEC) for name, sparse in sparse_of.items()}
        sketches = [(name, sketch(sparse, SPEC)) for name, sparse in sparse_of.items()]
        copies = find_copies([Work(name, name, each) for name, each in sketches], [])
        medians = median_norms([update.norms() for name, update in updates.items() if name not in copies])
        fair = {name: clipped(update, medians) for name, update in updates.items() if name not in copies}
        seen = self._measured(fair, number)
        rules = PayRules(defaults.PHI_PPM)
        drops = [each.mean for each in seen.values() if is_improvement(each)]
        self.reference = reference(drops, rules.phi_ppm, self.reference)
        paid: dict[bytes, Update] = {}
        for peer in self.peers:
            faults = [Reason("duplicate", "It repeats an earlier update.")] if peer.name in copies else []
            faults += screen(updates[peer.name].norms())
            decision = decide(seen.get(peer.name), faults, self.reference, rules)
            self._book(peer, decision)
            _show(peer, seen.get(peer.name), decision, updates[peer.name])
            if decision.verdict == "accepted":
                paid[peer.key] = fair[peer.name]
        self.theta = outer_step(self.theta, aggregate(paid, SPEC.numel), self.settings.alpha)
        judged = time.perf_counter()
        print(f"    reference {self.reference}; {_closest_honest(sketches)}")
        print(f"    train {trained - started:.1f} s, judge {judged - trained:.1f} s (one thread)")

    def _submitted(self, number: int) -> dict[str, Sparse]:
        """What each peer's bytes say, in the order of commitment."""
        checkpoint = sha256_of(checkpoint_bytes(self.theta, SPEC, number))
        arrived: dict[str, Sparse] = {}
        for peer in self.peers:
            binding = wire.Binding(number, checkpoint, peer.key, defaults.TOP_K)
            payload = wire.pack(self._work(peer, number, arrived), SPEC, binding)
            arrived[peer.name] = wire.unpack(payload, SPEC, binding).sparse
        return arrived

    def _work(self, peer: Peer, number: int, arrived: dict[str, Sparse]) -> Sparse:
        nothing = torch.zeros(SPEC.numel)
        if peer.kind == "copy":
            return arrived[self.peers[0].name]
        if peer.kind == "noise":
            generator = torch.Generator().manual_seed(self.seed * 1000 + number)
            return compress(torch.randn(SPEC.numel, generator=generator) * 0.01, nothing, SPEC)[0]
        # each round has terms of its own, so each round draws each peer a new shard
        shard_key = hashlib.sha256(f"terms {self.seed} {number}".encode() + peer.key).digest()
        shard = train_shard(self.corpus, shard_key, self.settings.blocks)
        batches = train_batches(shard, peer.key, number, self.settings.steps)
        result = inner_steps(
            self.theta, batches, peer.state, lr=self.settings.lr, warmup_steps=self.settings.warmup
        )  # fmt: skip
        if peer.kind == "flip":
            return compress(-result.delta, nothing, SPEC)[0]
        sparse, peer.kept = compress(result.delta, peer.feedback, SPEC, beta=self.settings.beta)
        return sparse

    def _measured(self, fair: dict[str, Update], number: int) -> dict[str, Interval]:
        seed = hashlib.sha256(f"shards {self.seed} {number}".encode()).digest()
        shards = hidden_shards(self.corpus, seed, self.settings.shards)
        measurer = Measurer(self.theta, self.corpus)
        return {
            name: measurer.measure(update, shards, alpha=self.settings.alpha).interval for name, update in fair.items()
        }

    def _book(self, peer: Peer, decision: Decision) -> None:
        peer.earned_sat += decision.units * UNIT_SAT
        peer.feedback = peer.kept if decision.verdict == "accepted" else torch.zeros(SPEC.numel)
        self.misses += peer.kind == "honest" and decision.units * UNIT_SAT < FEE_SAT

    def _peer(self, number: int, kind: str) -> Peer:
        key = hashlib.sha256(f"peer {self.seed} {number}".encode()).digest()
        return Peer(f"{kind}{number}", kind, key)


def _show(peer: Peer, seen: Interval | None, decision: Decision, update: Update) -> None:
    drop = f"{seen.mean:+.4f} ± {3 * seen.se:.4f} (z {seen.mean / seen.se:5.1f}, n {seen.n})" if seen else ""
    norm = sum(n * n for n in update.norms()) ** 0.5
    print(f"    {peer.name:8} {drop:40} norm {norm:6.2f} {decision.units:3d} units  {decision.reasons[0].code}")


def _closest_honest(sketches: list[tuple[str, Sketch]]) -> str:
    honest = [each for name, each in sketches if name.startswith("honest")]
    pairs = [likeness(a, b) for a, b in combinations(honest, 2)]
    overlap, cosine = max(pair.overlap for pair in pairs), max(pair.cosine for pair in pairs)
    return f"honest pairs overlap at most {overlap:.2f}, cosine {cosine:.2f}"


if __name__ == "__main__":
    main()
