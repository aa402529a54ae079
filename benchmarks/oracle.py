"""The oracle's speed: the codec's curve, what scoring a peer costs, and how many peers a device scores.

It needs torch, numpy and the two source folders, no installation, so that it runs on a bare GPU machine:

    PYTHONPATH=libs/sparseloco/src:services/oracle/src python3 benchmarks/oracle.py --device cuda --seconds 240
"""

import argparse
import os
import platform
from pathlib import Path

import torch
from _oracle_agreement import agreement
from _oracle_codec import codec
from _oracle_quantisers import quantisers
from _oracle_scoring import scoring
from _oracle_throughput import throughput
from _oracle_tools import Stage

SECTIONS = ("codec", "quantisers", "agreement", "scoring", "throughput")


def main() -> None:
    """Run the sections in turn; each has an equal share of the time that is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--memory-gb", type=float, default=0, help="0: what is free")
    parser.add_argument("--profile", type=Path, help="a file for torch's profile of the scoring")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stage = Stage(arguments.device, arguments.seconds, arguments.json, arguments.markdown, arguments.profile)
    memory = int(arguments.memory_gb * 1e9) or _free_bytes(stage)
    print(f"{_name(stage)}; torch {torch.__version__}, Python {platform.python_version()}; load {os.getloadavg()}")
    for section in arguments.sections:
        match section:
            case "codec":
                codec(stage, memory)
            case "quantisers":
                quantisers(stage)
            case "agreement":
                agreement(stage)
            case "scoring":
                scoring(stage)
            case _:
                throughput(stage, memory)
    print(f"\nload at the end {os.getloadavg()}")


def _name(stage: Stage) -> str:
    return torch.cuda.get_device_name() if stage.is_cuda else f"CPU {platform.machine()}, one thread"


def _free_bytes(stage: Stage) -> int:
    if stage.is_cuda:
        free, _ = torch.cuda.mem_get_info()
        return int(free)
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


if __name__ == "__main__":
    main()
