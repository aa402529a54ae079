"""`l402-train up`: a network that keeps running, and how others join it."""

import json
import sys

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
    join = [f"  l402-train peer --url {network.gateway_url} --lnd {nodes}:{name} --dir {name}" for name in joiners]
    lines = [
        "",
        f"gateway   {network.gateway_url}",
        f"attestor  {network.attestor_url}",
        f"folder    {network.folder.root}",
        "",
        "Join from another terminal:" if join else "No node is left for others to join with; see --join.",
        *join,
        "",
        f"Look:  l402-train status --dir {network.folder.root}",
        "Ctrl-C stops everything.",
        "",
    ]
    return "\n".join(lines)


def _invitation_json(network: Network) -> str:
    description = msgspec.to_builtins(network.folder.describe())
    return (
        json.dumps({**description, "join": list(network.plan.spare_nodes), "folder": str(network.folder.root)}) + "\n"
    )
