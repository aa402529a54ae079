"""The attacks from the command line: `python -m tests.attacks`. Exit code 1 where a promise did not hold."""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import structlog
from torch import Tensor

from tests.attacks import table
from tests.attacks.court import one_thread, warmed_up
from tests.attacks.runs import RUNS, Ran, play


def main() -> int:
    """Play runs and print the tables."""
    parser = argparse.ArgumentParser(prog="make attacks")
    parser.add_argument("names", nargs="*", help=f"runs or single attacks; all runs by default: {', '.join(RUNS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-steps", type=int, default=150, help="AdamW steps of the base before the first round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eval-tokens", type=int, default=32_768, help="hidden tokens that a gradient is measured on")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="keep what was found there, run by run, and do not repeat it")
    asked = parser.parse_args()
    one_thread()
    found = _all(asked.names or list(RUNS), asked)
    broken = table.broken(found)
    held = [f"NOT AS PROMISED: {one}" for one in broken] or ["Every promise held."]
    _say("\n".join([*table.lines(found), "", f"{table.covered(found)}.", *held]))
    return 1 if broken else 0


def _all(names: Sequence[str], asked: argparse.Namespace) -> list[Ran]:
    """Every run; what is kept from an earlier time is not played again."""
    kept: dict[str, Ran] = {}
    if asked.json and asked.json.exists():
        kept = msgspec.json.decode(asked.json.read_bytes(), type=dict[str, Ran])
    missing = [name for name in names if name not in kept]
    theta = warmed_up(asked.seed, asked.warm_steps) if missing else None
    with ProcessPoolExecutor(asked.jobs, initializer=one_thread) as pool:
        played = pool.map(_played, missing, *([each] * len(missing) for each in (theta, asked)))
        for name, ran in zip(missing, played, strict=True):
            kept[name] = ran
            if asked.json:
                asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
    return [kept[name] for name in names]


def _played(name: str, theta: Tensor, asked: argparse.Namespace) -> Ran:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        playing = play(
            name,
            RUNS.get(name, (name,)),
            theta,
            Path(folder),
            asked.rounds,
            seed=asked.seed,
            eval_tokens=asked.eval_tokens,
        )
        ran = asyncio.run(playing)
    _say(f"{name}: {time.monotonic() - started:.0f} s")
    return ran


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
