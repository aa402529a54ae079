"""Rounds of three honest peers, a copy, a flip and noise, with the real codec, scoring and pay, but no network or LND.

It answers one question: with the defaults, does the held-out loss fall every round, does every honest peer earn more
than its fees, and do the cheats earn nothing? `python benchmarks/convergence.py --seeds 1 2 3 4`.
"""

import argparse
import hashlib
import json
import time
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from l402_oracle.measure import Measurer, Stopping, clipped, mean_loss, screen
from l402_oracle.scoring import Decision, Interval, PayRules, Reason, decide, interval, is_improvement, reference
from l402_oracle.similarity import duplicates, likeness, sketch
from sparseloco import defaults, wire
from sparseloco.codec import compress
from sparseloco.data import Corpus, held_out_windows, hidden_shards, load_corpus, train_batches, train_shard
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
    shard: bytes
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
    corpus = load_corpus()
    peers = [_peer(corpus, seed, number, kind, settings) for number, kind in enumerate(KINDS)]
    theta, held_out = init_parameters(seed), held_out_windows(corpus)
    losses, previous, misses = [mean_loss(theta, held_out)], None, 0
    for number in range(rounds):
        theta, previous, missed = _round(corpus, peers, theta, previous, seed, number, settings)
        misses += missed
        losses.append(mean_loss(theta, held_out))
        print(f"  seed {seed} round {number}: held-out {losses[-2]:.3f} -> {losses[-1]:.3f}", flush=True)
    net = {peer.name: peer.earned_sat - rounds * FEE_SAT for peer in peers}
    return {
        "seed": seed,
        "held_out": [round(loss, 3) for loss in losses],
        "falls_every_round": all(after < before for before, after in pairwise(losses)),
        "net_sat": net,
        "rejected_or_unpaid_honest": misses,
        "honest_gain": all(net[peer.name] > 0 for peer in peers if peer.kind == "honest"),
        "cheats_paid_nothing": all(peer.earned_sat == 0 for peer in peers if peer.kind != "honest"),
    }


def _peer(corpus: Corpus, seed: int, number: int, kind: str, settings: Settings) -> Peer:
    key = hashlib.sha256(f"peer {seed} {number}".encode()).digest()
    return Peer(f"{kind}{number}", kind, key, train_shard(corpus, key, settings.blocks))


def _round(
    corpus: Corpus, peers: list[Peer], theta: Tensor, previous: float | None, seed: int, number: int, settings: Settings
) -> tuple[Tensor, float | None, int]:
    started = time.perf_counter()
    checkpoint = sha256_of(checkpoint_bytes(theta, SPEC, number))
    payloads: dict[str, bytes] = {}
    for peer in peers:
        sparse = _work(peer, peers, theta, seed, number, settings, payloads, checkpoint)
        payloads[peer.name] = wire.pack(sparse, SPEC, _binding(peer, number, checkpoint))
    trained = time.perf_counter()
    sparse_of = {
        peer.name: wire.unpack(payloads[peer.name], SPEC, _binding(peer, number, checkpoint)).sparse for peer in peers
    }
    updates = {name: expand(sparse, SPEC) for name, sparse in sparse_of.items()}
    sketches = [(name, sketch(sparse, SPEC)) for name, sparse in sparse_of.items()]
    copies = duplicates(sketches)
    medians = median_norms([update.norms() for name, update in updates.items() if name not in copies])
    fair = {name: clipped(update, medians) for name, update in updates.items()}
    shard_seed = hashlib.sha256(f"shards {seed} {number}".encode()).digest()
    measured = _measure(corpus, theta, fair, set(copies), hidden_shards(corpus, shard_seed, settings.shards), settings)
    accepted = {name: seen for name, seen in measured.items() if is_improvement(seen)}
    rules = PayRules(defaults.PHI_PPM)
    now = reference([seen.mean for seen in accepted.values()], rules.phi_ppm, previous)
    misses, paid = 0, []
    for peer in peers:
        faults = [Reason("duplicate", "It repeats an earlier update.")] if peer.name in copies else []
        faults += screen(updates[peer.name].norms())
        decision = decide(measured.get(peer.name), faults, now, rules)
        _remember(peer, decision)
        paid += [peer] if decision.verdict == "accepted" else []
        misses += peer.kind == "honest" and decision.units * UNIT_SAT < FEE_SAT
        _show(peer, measured.get(peer.name), decision, updates[peer.name])
    closest = [
        (likeness(a, b), n, m)
        for i, (n, a) in enumerate(sketches)
        for m, b in sketches[:i]
        if n.startswith("honest") and m.startswith("honest")
    ]
    print(
        f"    reference {now}; honest overlap ≤ {max(c[0].overlap for c in closest):.2f},"
        f" cosine ≤ {max(c[0].cosine for c in closest):.2f}"
    )
    if paid:
        mean = aggregate({peer.key: fair[peer.name] for peer in paid}, SPEC.numel)
        theta = outer_step(theta, mean, settings.alpha)
    print(f"    train {trained - started:.1f} s, judge {time.perf_counter() - trained:.1f} s (one thread)")
    return theta, now, misses


def _work(
    peer: Peer, peers: list[Peer], theta: Tensor, seed: int, number: int, settings: Settings,
    payloads: dict[str, bytes], checkpoint: bytes,
) -> Sparse:  # fmt: skip
    if peer.kind == "copy":
        return wire.unpack(payloads[peers[0].name], SPEC, _binding(peers[0], number, checkpoint)).sparse
    if peer.kind == "noise":
        generator = torch.Generator().manual_seed(seed * 1000 + number)
        delta = torch.randn(SPEC.numel, generator=generator) * 0.01
        return compress(delta, torch.zeros(SPEC.numel), SPEC)[0]
    batches = train_batches(peer.shard, peer.key, number, settings.steps)
    delta = inner_steps(theta, batches, peer.state, lr=settings.lr, warmup_steps=settings.warmup).delta
    if peer.kind == "flip":
        return compress(-delta, torch.zeros(SPEC.numel), SPEC)[0]
    sparse, peer.kept = compress(delta, peer.feedback, SPEC, beta=settings.beta)
    return sparse


def _measure(
    corpus: Corpus,
    theta: Tensor,
    fair: dict[str, Update],
    copies: set[str],
    shards: tuple[int, ...],
    settings: Settings,
) -> dict[str, Interval]:
    measurer = Measurer(theta, corpus)
    seen = {
        name: measurer.measure(update, shards, Stopping(), settings.alpha)
        for name, update in fair.items()
        if name not in copies
    }
    return {name: interval(measured.drops) for name, measured in seen.items()}


def _binding(peer: Peer, number: int, checkpoint: bytes) -> wire.Binding:
    return wire.Binding(number, checkpoint, peer.key, defaults.TOP_K)


def _remember(peer: Peer, decision: Decision) -> None:
    peer.earned_sat += decision.units * UNIT_SAT
    peer.feedback = peer.kept if decision.verdict == "accepted" else torch.zeros(SPEC.numel)


def _show(peer: Peer, seen: Interval | None, decision: Decision, update: Update) -> None:
    drop = f"{seen.mean:+.4f} ± {3 * seen.se:.4f} (z {seen.mean / seen.se:5.1f}, n {seen.n})" if seen else ""
    norm = sum(n * n for n in update.norms()) ** 0.5
    print(f"    {peer.name:8} {drop:40} norm {norm:6.2f} {decision.units:3d} units  {decision.reasons[0].code}")


if __name__ == "__main__":
    main()
