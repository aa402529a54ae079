"""What the search for copies costs the attestor: honest works of full size, beside those of four earlier rounds.

Every work holds 256 chunks of 64 entries drawn at random, so that pairs share as much as chance has them share. Memory
is that of the whole process, with everything it imports. `python benchmarks/copies.py --peers 70 300`.
"""

import argparse
import os
import resource
import time

import numpy as np
from l402_oracle.copies import ROUNDS_BACK, Work, find_copies
from l402_oracle.similarity import MAX_CHUNKS, Sketch
from sparseloco.defaults import TOP_K
from sparseloco.layout import MAX_CHUNK


def a_sketch(rng: np.random.Generator) -> Sketch:
    """Of somebody's own work."""
    keys = [chunk * MAX_CHUNK + np.sort(rng.choice(MAX_CHUNK, TOP_K, replace=False)) for chunk in range(MAX_CHUNKS)]
    values = rng.standard_normal(MAX_CHUNKS * TOP_K).astype(np.float16)
    return Sketch(MAX_CHUNKS, np.concatenate(keys).astype(np.uint32), values)


def main() -> None:
    """One row for each number of peers, in a first round and in a later one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, nargs="+", default=[70, 300])
    asked = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| peers | earlier works | processor s | copies found | process at most, MB |\n|---|---|---|---|---|")
    rng = np.random.default_rng(1)
    for peers in asked.peers:
        for earlier in (0, ROUNDS_BACK * peers):
            works = [Work(f"{number}", f"peer {number}", a_sketch(rng)) for number in range(peers)]
            old = [Work(f"old {number}", f"peer {number % peers}", a_sketch(rng)) for number in range(earlier)]
            began = time.process_time()
            found = find_copies(works, old)
            seconds = time.process_time() - began
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000
            print(f"| {peers:,} | {earlier:,} | {seconds:.1f} | {len(found)} | {most:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
