"""The Lightning network of the containers: coins, channels, and a macaroon for whoever has a node. It starts no node.

Safe to run again: what is funded stays as it is.
"""

import asyncio
import http.client
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from l402core.lnd import permissions
from l402core.lnd.stubs import lnrpc

from l402train import credentials
from l402train.containers import coins
from l402train.containers.shelves import Shelves
from l402train.exits import Exit, Stop
from l402train.lightning import funding
from l402train.lightning.btcd import FIRST_BLOCKS, Btcd
from l402train.lightning.node import LndNode
from l402train.lightning.plan import Plan
from l402train.parts import CAPACITY_SAT, COORDINATOR, OBSERVER, SPONSOR

Note = Callable[[str], None]
BTCD_S = 120.0
RPC_PORT, LISTEN_PORT = 10009, 9735


def hostname(node: str) -> str:
    """Of a node's container."""
    return f"lnd-{node}"


async def prepare(shelves: Shelves, secrets: Path, nodes_at: Path, note: Note) -> None:
    """Until every node routes and every service has its macaroon. Raises Stop, L402Error."""
    btcd = chain_of(secrets)
    await asyncio.to_thread(_chain, btcd, note)
    names = (COORDINATOR, *shelves.peers, SPONSOR, OBSERVER)
    nodes = {
        name: LndNode(
            name, nodes_at / name, rpc=f"{hostname(name)}:{RPC_PORT}", listen=f"{hostname(name)}:{LISTEN_PORT}"
        )
        for name in names
    }
    try:
        await asyncio.gather(*(node.answering() for node in nodes.values()))
        note(f"btcd and {len(nodes)} lnds answer")
        await _fund(names, nodes, btcd, note)
        await _bake(shelves, nodes)
        note("every service that has a node has a macaroon of its own")
    finally:
        await asyncio.gather(*(node.hang_up() for node in nodes.values()))


def chain_of(secrets: Path) -> Btcd:
    """How to reach the chain. Raises Stop."""
    path = secrets / "btcd" / "btcd.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Btcd, dec_hook=lambda kind, value: kind(value))
    except (OSError, msgspec.DecodeError) as error:
        raise Stop(Exit.NOT_FOUND, f"{path} is missing or not readable: {error}") from error


def _chain(btcd: Btcd, note: Note) -> None:
    ends_at = time.monotonic() + BTCD_S
    while not btcd.answers():
        if time.monotonic() > ends_at:
            raise Stop(Exit.PART_FAILED, f"btcd does not answer at {btcd.rpc}")
        time.sleep(0.5)
    try:
        if coins.mine_first(btcd):
            note(f"{FIRST_BLOCKS} blocks are mined")
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise Stop(Exit.PART_FAILED, f"btcd does not mine: {error}") from error


async def _fund(names: tuple[str, ...], nodes: dict[str, LndNode], btcd: Btcd, note: Note) -> None:
    hub = nodes[COORDINATOR]
    ends = [name for name in names if name not in (COORDINATOR, OBSERVER)]
    channels = (await hub.call("ListChannels", lnrpc.ListChannelsRequest())).channels
    if len(channels) >= len(ends):
        note(f"{len(channels)} channels are there already")
        return
    if channels:
        raise Stop(Exit.PART_FAILED, f"{len(channels)} of {len(ends)} channels are there: begin with new volumes")
    # P2SH outside (BIP 49): btcd's createrawtransaction knows no bech32
    address = (await hub.call("NewAddress", lnrpc.NewAddressRequest(type=1))).address
    try:
        await asyncio.to_thread(coins.give, btcd, address)
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise Stop(Exit.PART_FAILED, f"btcd does not hand on its first coins: {error}") from error
    plan = Plan(
        dir=Path("/"),
        nodes=names,
        channels=tuple((COORDINATOR, name) for name in ends),
        capacity_sat=CAPACITY_SAT,
        push_sat=CAPACITY_SAT // 2,
    )
    await funding.fund(plan, nodes, btcd)
    note(f"{len(ends)} channels are open, and payments find their way")


async def _bake(shelves: Shelves, nodes: dict[str, LndNode]) -> None:
    """Certificate and macaroon on the shelf of each service that has a node."""
    wanted = [("invoicer", COORDINATOR), ("settler", COORDINATOR), ("attestor", OBSERVER), (SPONSOR, SPONSOR)]
    for role, node in (*wanted, *((name, name) for name in shelves.peers)):
        allowed = credentials.ALLOWED["peer" if role in shelves.peers else role]
        macaroon = await permissions.bake(nodes[node].endpoint(), allowed)
        shelves.put(role, "node.macaroon", macaroon)
        shelves.put(role, "tls.cert", nodes[node].certificate.read_bytes())
