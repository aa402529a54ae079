"""Real lnds as the Lightning part of a local network: one process that starts and ends all of them. It knows no service."""

import sys
from pathlib import Path

from l402train import parts
from l402train.folder import Folder
from l402train.lightning import programs
from l402train.lightning.plan import Plan, Topology, joined
from l402train.lightning.serve import write_plan
from l402train.parts import CAPACITY_SAT, COORDINATOR, OBSERVER
from l402train.process import Process

START_S = 240.0
"""Eight lnds on two busy cores."""
PROGRAM = "l402train.lightning"
"""The module that runs them."""


def start(
    folder: Folder,
    peers: tuple[str, ...],
    *,
    topology: Topology,
    block_seconds: float,
    lnd_dir: Path | None,
    environment: dict[str, str],
) -> Process:
    """The coordinator's node, one per peer, and the observer without a channel. Raises Stop where lnd is not built."""
    programs.find(lnd_dir)
    plan = Plan(
        dir=folder.lnd,
        nodes=(COORDINATOR, *peers, OBSERVER),
        channels=joined((COORDINATOR, *peers), topology),
        capacity_sat=CAPACITY_SAT,
        push_sat=CAPACITY_SAT // 2,
        block_seconds=block_seconds,
        lnd_dir=lnd_dir.absolute() if lnd_dir else None,
    )
    file = folder.run / "lightning-plan.json"
    write_plan(plan, file)
    command = [sys.executable, "-m", PROGRAM, str(file)]
    return Process("lightning", command, folder.log("lightning"), environment)


def described(lnd_dir: Path | None) -> str:
    """Which programs, for the report."""
    found = programs.find(lnd_dir)
    return f"lnd {found.version} on btcd {parts.version_of(found.btcd)} (simnet)"
