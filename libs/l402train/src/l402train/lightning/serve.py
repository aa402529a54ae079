"""`l402-train lightning up`, and the same from a file for programs: run until told to stop, and say how to reach each node."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from l402train.exits import Exit
from l402train.lightning.network import BTCD, NODES, LndNetwork, running
from l402train.lightning.plan import Plan


async def up(plan: Plan, *, as_json: bool) -> Exit:
    """Start, print, serve. Raises Stop."""
    began = time.monotonic()
    async with running(plan, _silent if as_json else _say) as network:
        seconds = time.monotonic() - began
        told = _json(network, seconds) if as_json else _text(network, seconds)
        sys.stdout.write(told + "\n")
        sys.stdout.flush()
        await network.watch()
    return Exit.FINE


def _json(network: LndNetwork, seconds: float) -> str:
    """One line; `event` is what lndsim says when it is ready too."""
    folder = network.plan.dir
    nodes: dict[str, Any] = {name: node.described() for name, node in network.nodes.items()}
    return json.dumps(
        {
            "event": "ready",
            "nodes": str(folder / NODES),
            "btcd": str(folder / BTCD),
            "seconds": round(seconds, 1),
            "reach": nodes,
        },
        separators=(",", ":"),
    )


def _text(network: LndNetwork, seconds: float) -> str:
    lines = [f"{len(network.nodes)} nodes and {len(network.plan.channels)} channels after {seconds:.1f} s", ""]
    for name, node in network.nodes.items():
        lines += [
            f"{name}  {node.pubkey}",
            f"  host      {node.rpc}",
            f"  cert      {node.certificate}",
            f"  macaroon  {node.macaroon('admin')}",
        ]
    return "\n".join([*lines, "", f"All of it: {network.plan.dir / NODES}", "Ctrl-C stops everything."])


def _say(line: str) -> None:
    sys.stdout.write(f"  {line}\n")
    sys.stdout.flush()


def _silent(_: str) -> None:
    pass


def read_plan(path: Path) -> Plan:
    """A plan as JSON. Raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(path.read_bytes(), type=Plan, dec_hook=lambda kind, value: kind(value))


def write_plan(plan: Plan, path: Path) -> None:
    """The same, for `python -m l402train.lightning`."""
    path.write_bytes(msgspec.json.encode(plan, enc_hook=str))
