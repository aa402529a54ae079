"""The simulator as a program: which nodes and channels to start with, then serve until told to stop."""

import argparse
import asyncio
import gc
import itertools
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from l402core.lifecycle import run

from lndsim.control import ControlServer
from lndsim.network import Network
from lndsim.simulation import Simulation

Topology = Literal["star", "line", "full", "none"]


GARBAGE_AFTER = 100_000
"""Objects; a cycle is still found, later."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `--config` holds as JSON. Nodes and channels are only added: an existing network is left as it is."""

    dir: Path
    """Everything lives here: journal, certificates, macaroons, `nodes.json`, `control.json`."""
    nodes: tuple[str, ...] = ()
    topology: Topology = "star"
    hub: str = ""
    """The middle of a star; by default the first node."""
    capacity_sat: int = 10_000_000
    """Of every channel; half of it is pushed to the other side, so that both can pay."""
    block_seconds: float = 0.0
    """Mine a block that often; 0: only when asked."""


def channels_of(config: Config) -> list[tuple[str, str]]:
    """Which pairs of nodes get a channel. Raises ValueError for a hub that is no node."""
    if config.topology == "line":
        return list(itertools.pairwise(config.nodes))
    if config.topology == "full":
        return list(itertools.combinations(config.nodes, 2))
    if config.topology == "none" or not config.nodes:
        return []
    hub = config.hub or config.nodes[0]
    if hub not in config.nodes:
        raise ValueError(f"the hub {hub!r} is not one of the nodes")
    return [(hub, node) for node in config.nodes if node != hub]


async def build(simulation: Simulation, config: Config) -> None:
    """Add what the configuration names and the network does not have yet."""
    wanted = channels_of(config)
    for name in config.nodes:
        await simulation.add_node(name)
    capacity_msat = config.capacity_sat * 1_000
    for opener, peer in wanted:
        if not _connected(simulation.network, opener, peer):
            simulation.network.open_channel(opener, peer, capacity_msat, capacity_msat // 2)


def _connected(network: Network, one: str, other: str) -> bool:
    pubkey = network.nodes[other].pubkey
    me = network.nodes[one].pubkey
    return any(channel.peer_of(me) == pubkey for channel in network.switch.all_channels_of(me))


async def serve(config: Config) -> None:
    """Start everything, print one line of JSON when all listens, and run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with await Simulation.start(config.dir) as simulation:
        control = ControlServer(simulation)
        try:
            await build(simulation, config)
            await control.start()
            # Payments and invoices live as long as the network and hold no cycles: looking for some after every 700 new
            # objects cost a sixth of a lock.
            gc.freeze()
            gc.set_threshold(GARBAGE_AFTER)
            if config.block_seconds > 0:
                simulation.mine_every(config.block_seconds)
            ready = {"event": "ready", "nodes": str(config.dir / "nodes.json"), "height": simulation.network.height}
            sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
            sys.stdout.flush()
            await stop.wait()
        finally:
            await control.stop()


def parse(arguments: Sequence[str]) -> Config:
    """The command line as a Config; exits with a sentence when it makes none."""
    parser = argparse.ArgumentParser(prog="lndsim", description="A Lightning network that speaks LND's gRPC.")
    parser.add_argument("--config", type=Path, help="a JSON file with these options, instead of them")
    parser.add_argument("--dir", type=Path, help="where all files of the network live")
    parser.add_argument("--nodes", default="", help="names, separated by commas")
    parser.add_argument("--topology", choices=("star", "line", "full", "none"), default="star")
    parser.add_argument("--hub", default="", help="the middle of the star; the first node by default")
    parser.add_argument("--capacity-sat", type=int, default=10_000_000, help="of every channel, half on each side")
    parser.add_argument("--block-seconds", type=float, default=0.0, help="mine a block that often")
    options = parser.parse_args(arguments)
    if (options.config is None) == (options.dir is None):
        parser.error("give either --config FILE or --dir DIR")
    if options.config is not None:
        try:
            return msgspec.json.decode(options.config.read_bytes(), type=Config, dec_hook=_path)
        except (OSError, msgspec.DecodeError) as error:
            parser.error(f"{options.config}: {error}")
    return Config(
        dir=options.dir,
        nodes=tuple(name for name in options.nodes.split(",") if name),
        topology=options.topology,
        hub=options.hub,
        capacity_sat=options.capacity_sat,
        block_seconds=options.block_seconds,
    )


def _path(kind: type, value: object) -> object:
    """msgspec knows no paths."""
    return kind(value)


def main() -> None:
    """`python -m lndsim`."""
    config = parse(sys.argv[1:])
    with suppress(KeyboardInterrupt):
        run(serve(config))
