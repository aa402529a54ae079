"""`l402-train up`: a network that keeps running, and how others join it."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import msgspec

from l402train import stack
from l402train.exits import Exit
from l402train.folder import Folder
from l402train.stack import Network, Plan


async def up(folder: Folder, plan: Plan, *, as_json: bool) -> Exit:
    """Start, say how to join, and run until a signal or until a part ends by itself."""
    folder.create()
    say = _silent if as_json else _say
    async with stack.running(folder, plan, say) as network:
        sys.stdout.write(_invitation_json(network) if as_json else _invitation(network))
        sys.stdout.flush()
        await network.watch()
    return Exit.FINE


def _say(line: str) -> None:
    sys.stdout.write(f"  {line}\n")
    sys.stdout.flush()


def _silent(_: str) -> None:
    pass


def _invitation(network: Network) -> str:
    joiners = network.plan.spare_nodes
    nodes = network.folder.nodes
    program = shlex.quote(_program())
    join = [
        f"  {program} peer --url {network.gateway_url} --lnd {nodes}:{name} --dir {network.folder.peers / name}"
        for name in joiners
    ]
    lines = [
        "",
        f"gateway   {network.gateway_url}",
        f"attestor  {network.attestor_url}",
        f"folder    {network.folder.root}",
        "",
        "Join from another terminal, each line a peer:"
        if join
        else "No node is left for others to join with; see --join.",
        *join,
        "",
        f"Look:  {program} status --dir {network.folder.root}",
        "Ctrl-C stops everything.",
        "",
    ]
    return "\n".join(lines)


def _program() -> str:
    """What to type for this very program, in any folder."""
    here = Path(sys.argv[0]).absolute()
    return here.name if shutil.which(here.name) else str(here)


def _invitation_json(network: Network) -> str:
    description = msgspec.to_builtins(network.folder.describe())
    return (
        json.dumps({**description, "join": list(network.plan.spare_nodes), "folder": str(network.folder.root)}) + "\n"
    )
