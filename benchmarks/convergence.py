"""Eight peers, the same tokens: one AdamW worker, data-parallel AdamW, dense averaging, DiLoCo, and SparseLoCo.

Held-out loss by round of the demo's model and text, over several seeds; variants of SparseLoCo and of DiLoCo are tried
on seeds of their own, and the best of each is then run on the seeds that are reported. It needs torch, numpy and
libs/sparseloco/src, so that it runs on a bare GPU machine; `--plot FILE` draws a result where matplotlib is.

    PYTHONPATH=libs/sparseloco/src python3 benchmarks/convergence.py --device cuda --seconds 240 --json out.json
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import mean

import torch
from _convergence_arms import CORE, DILOCO, DILOCOS, PUBLISHED, SAME_BYTES, VARIANTS, Arm
from _convergence_fleet import PEERS, SPEC, Fleet, peers_batches
from _convergence_outer import Outer, check
from sparseloco import defaults
from sparseloco.corpus import load_corpus
from sparseloco.model import init_parameters
from torch import Tensor

SINGLE, PARALLEL = "one AdamW worker, 8 times the steps", "data-parallel AdamW, 8 times the batch"
TUNING_SEEDS = (101, 102, 103)
"""Variants are chosen on these, so that the winner's curve on the others is not the luck of the draw."""


def main() -> None:
    """The core curves, the search, and the winners; what is found is written after each."""
    arguments = _arguments()
    if arguments.plot:
        from _convergence_plot import plot  # noqa: PLC0415  # matplotlib is only where pictures are drawn

        plot(arguments.plot)
        return
    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU; a CPU knows no difference
    lab = Lab(arguments)
    check(lab.device)
    lab.compare(CORE, arguments.seeds)
    lab.baselines(arguments.seeds)
    if arguments.tune:
        winners = lab.search([PUBLISHED, *VARIANTS, DILOCO, *DILOCOS], TUNING_SEEDS)
        lab.compare(winners, arguments.seeds)
    lab.write()
    print(f"load at the end {os.getloadavg()}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=defaults.INNER_STEPS, help="fewer only to try the program")
    parser.add_argument("--at-once", type=int, default=0, help="models in one pass; 0: 256 on a GPU, 4 on a CPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tune", action="store_true", help="also search for better variants")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="draw this result; writes .svg, .png and .md beside it")
    return parser.parse_args()


class Lab:
    """The device, the time that is left, and the curves so far."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.device = torch.device(arguments.device)
        self._rounds, self._steps, self._json = arguments.rounds, arguments.steps, arguments.json
        self._until: float = time.monotonic() + arguments.seconds
        self._fleet = Fleet(self.device, arguments.at_once or (4 if arguments.device == "cpu" else 256))
        self._tuning: dict[str, dict[int, list[float]]] = {}
        self._reported: dict[str, dict[int, list[float]]] = {}
        self._spent_on_core = 0.0
        on_gpu = self.device.type == "cuda"
        self._about = {
            "device": torch.cuda.get_device_name() if on_gpu else f"CPU {platform.machine()}",
            "torch": torch.__version__, "python": platform.python_version(), "load": os.getloadavg(),
            "date": time.strftime("%Y-%m-%d", time.gmtime()), "peers": PEERS, "parameters": SPEC.numel,
            "inner_steps": self._steps, "batch": defaults.INNER_BATCH, "context": defaults.CONTEXT,
            "learning_rate": defaults.INNER_LR, "corpus": load_corpus().sha256.hex(),
        }  # fmt: skip
        print(json.dumps(self._about), flush=True)

    def compare(self, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
        """Arms on all seeds in one fleet; what is known is not run again."""
        started = time.monotonic()
        unknown = [arm for arm in arms if arm.name not in self._reported]
        if unknown:
            self._keep(self._reported, list(product(unknown, seeds)))
        self._spent_on_core = time.monotonic() - started

    def search(self, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Arm]:
        """The best variant that sends no more bytes, and the best DiLoCo, by the mean last loss; seeds as time permits."""
        spent = 0.0
        for seed in seeds:
            started = time.monotonic()
            if self._left_s() < 1.4 * spent + self._spent_on_core:  # what the winners will need
                break
            self._keep(self._tuning, [(arm, seed) for arm in arms])
            spent = time.monotonic() - started
        if not self._tuning:
            return []
        last = {arm.name: mean(curve[-1] for curve in self._tuning[arm.name].values()) for arm in arms}
        for name in sorted(last, key=last.__getitem__):
            print(f"  {last[name]:.4f}  {name}")
        sparse = min(
            (arm for arm in arms if arm == PUBLISHED or arm.name in SAME_BYTES), key=lambda arm: last[arm.name]
        )
        dense = min((arm for arm in arms if not arm.sparse), key=lambda arm: last[arm.name])
        return [dense, sparse]

    def baselines(self, seeds: Sequence[int]) -> None:
        """AdamW on one model per seed: all peers' batches one after the other, and all of a step as one batch."""
        for name, cut in ((SINGLE, _in_turn), (PARALLEL, _as_one)):
            theta, state = self._start(seeds), self._fleet.state(len(seeds))
            curves = [[loss] for loss in self._fleet.held_out_loss(theta)]
            for round_ in range(self._rounds):
                batches = torch.stack([peers_batches(seed, round_)[:, : self._steps] for seed in seeds])
                theta = self._fleet.train(theta, cut(batches.to(self.device)), state)
                for curve, loss in zip(curves, self._fleet.held_out_loss(theta), strict=True):
                    curve.append(loss)
                if self._left_s() < 0:
                    break
            self._note(self._reported, [(name, seed) for seed in seeds], curves)

    def _keep(self, table: dict[str, dict[int, list[float]]], runs: list[tuple[Arm, int]]) -> None:
        started = time.monotonic()
        theta, state = self._start([seed for _, seed in runs]), self._fleet.state(len(runs) * PEERS)
        outer = Outer([arm for arm, _ in runs], self.device)
        curves = [[loss] for loss in self._fleet.held_out_loss(theta)]
        for round_ in range(self._rounds):
            start = theta.repeat_interleave(PEERS, 0)
            end = self._fleet.train(start, self._peers_steps(runs, round_), state)
            theta = outer.step(theta, (start - end).view(len(runs), PEERS, -1), round_)
            for curve, loss in zip(curves, self._fleet.held_out_loss(theta), strict=True):
                curve.append(loss)
            if self._left_s() < 0:
                break
        print(f"{len(runs)} runs of {len(curves[0]) - 1} rounds in {time.monotonic() - started:.1f} s", flush=True)
        self._note(table, [(arm.name, seed) for arm, seed in runs], curves)

    def _peers_steps(self, runs: list[tuple[Arm, int]], round_: int) -> Iterator[Tensor]:
        """Each inner step's batches of all peers of all runs, (models, batch, tokens)."""
        of_seed = {seed: peers_batches(seed, round_).to(self.device) for _, seed in runs}
        for step in range(self._steps):
            yield torch.cat([of_seed[seed][:, step] for _, seed in runs])

    def _start(self, seeds: Sequence[int]) -> Tensor:
        return torch.stack([init_parameters(seed) for seed in seeds]).to(self.device)

    def _note(
        self, table: dict[str, dict[int, list[float]]], runs: list[tuple[str, int]], curves: list[list[float]]
    ) -> None:
        for (name, seed), curve in zip(runs, curves, strict=True):
            table.setdefault(name, {})[seed] = curve
        for name in dict.fromkeys(name for name, _ in runs):
            lasts = [curve[-1] for curve in table[name].values()]
            print(f"{name}: {mean(lasts):.4f} after {len(next(iter(table[name].values()))) - 1} rounds", flush=True)
        self.write()

    def write(self) -> None:
        """Everything found so far, as JSON."""
        if self._json:
            found = {"about": self._about, "reported": self._reported, "tuning": self._tuning}
            self._json.write_text(json.dumps(found, indent=1))

    def _left_s(self) -> float:
        return self._until - time.monotonic()


def _in_turn(batches: Tensor) -> Iterator[Tensor]:  # (seeds, PEERS, steps, batch, tokens)
    for step, peer in product(range(batches.shape[2]), range(PEERS)):
        yield batches[:, peer, step]


def _as_one(batches: Tensor) -> Iterator[Tensor]:
    for step in range(batches.shape[2]):
        yield batches[:, :, step].flatten(1, 2)


if __name__ == "__main__":
    main()
