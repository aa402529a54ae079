"""Four real lnds on one btcd, funded and connected as the contract asks. It tests nothing."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from l402core.lnd.stubs import lnrpc
from l402core.lnd.wire import LndEndpoint
from lndgrpc.compiled import lightning_pb2_grpc

from tests.contract.lightning.backends import CAPACITY_MSAT
from tests.support.lnd import (
    Btcd,
    _answers,
    _channel,
    _free_ports,
    _info,
    _nobodys_simnet_address,
    _program,
    _wait_until,
    tools_bin,
)

NAMES = ("alice", "bob", "carol", "dave")
SEGWIT_BLOCKS = 310
"""Three BIP 9 windows of simnet, and enough for the first coins to be mature."""
PREMIUM_SAT = 1_000_000
"""For fees and anchors, above the channel."""


@dataclass
class RealNode:
    """One lnd, with the blocking stub that sets it up."""

    rpc: str
    listen: str
    folder: Path
    pubkey: str
    lightning: Any


@dataclass
class RealBackend:
    """See `Backend`."""

    btcd: Btcd
    nodes: dict[str, RealNode] = field(default_factory=dict)

    def endpoint(self, name: str, macaroon: str = "admin") -> LndEndpoint:
        node = self.nodes[name]
        return LndEndpoint(node.rpc, node.folder / "tls.cert", macaroon_dir(node.folder) / f"{macaroon}.macaroon")

    async def mine(self, blocks: int) -> None:
        await asyncio.to_thread(self.btcd.mine, blocks)


def macaroon_dir(folder: Path) -> Path:
    return folder / "data/chain/bitcoin/simnet"


@contextmanager
def running_network(folder: Path) -> Iterator[RealBackend]:
    """Everything below `folder`; all programs are stopped at the end. Raises StartError."""
    peer_port, rpc_port = _free_ports(2)
    btcd = Btcd(f"127.0.0.1:{rpc_port}", folder / "btcd/rpc.cert", "test", "test")
    network = RealBackend(btcd)
    # btcd takes its mining address only when it starts, and only a wallet can name one
    with _btcd(folder / "btcd", btcd, peer_port, _nobodys_simnet_address()), ExitStack() as first:
        btcd.mine(1)
        _await_rpc(first, network, "alice", first.enter_context(_lnd(folder / "alice", network, "alice")))
        miner = network.nodes["alice"].lightning.NewAddress(lnrpc.NewAddressRequest(type=0)).address
    with _btcd(folder / "btcd", btcd, peer_port, miner), ExitStack() as programs:
        btcd.mine(SEGWIT_BLOCKS)
        checks = {name: programs.enter_context(_lnd(folder / name, network, name)) for name in NAMES}
        for name, check in checks.items():
            _await_rpc(programs, network, name, check)
        _fund(network, checks["alice"])
        yield network


@contextmanager
def _btcd(folder: Path, btcd: Btcd, peer_port: int, miner: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        str(tools_bin() / "btcd"), "--simnet", "--nodnsseed", f"--miningaddr={miner}", "--txindex",
        f"--configfile={folder / 'none.conf'}", f"--datadir={folder / 'data'}", f"--logdir={folder / 'logs'}",
        f"--listen=127.0.0.1:{peer_port}", f"--rpclisten={btcd.rpc}", f"--rpcuser={btcd.user}",
        f"--rpcpass={btcd.password}", f"--rpccert={btcd.cert}", f"--rpckey={folder / 'rpc.key'}",
    ]  # fmt: skip
    (folder / "none.conf").touch()
    with _program(command, folder) as check:
        _wait_until(lambda: _answers(btcd), check)
        yield


@contextmanager
def _lnd(folder: Path, network: RealBackend, name: str) -> Iterator[Callable[[], None]]:
    folder.mkdir(parents=True, exist_ok=True)
    peer_port, rpc_port = _free_ports(2)
    btcd = network.btcd
    rpc, listen = f"127.0.0.1:{rpc_port}", f"127.0.0.1:{peer_port}"
    command = [
        str(tools_bin() / "lnd"), f"--lnddir={folder}", "--noseedbackup", "--nobootstrap", "--norest",
        f"--alias={name}", "--bitcoin.simnet", "--bitcoin.node=btcd", f"--btcd.rpchost={btcd.rpc}",
        f"--btcd.rpcuser={btcd.user}", f"--btcd.rpcpass={btcd.password}", f"--btcd.rpccert={btcd.cert}",
        f"--listen={listen}", f"--rpclisten={rpc}", "--tlsdisableautofill", "--bitcoin.defaultchanconfs=1",
        "--trickledelay=50",
    ]  # fmt: skip
    network.nodes[name] = RealNode(rpc, listen, folder, "", None)
    with _program(command, folder) as check:
        yield check


def _await_rpc(programs: ExitStack, network: RealBackend, name: str, check: Callable[[], None]) -> None:
    """Until the node answers GetInfo; fills in its key and stub."""
    node = network.nodes[name]
    macaroon = macaroon_dir(node.folder) / "admin.macaroon"
    _wait_until(lambda: macaroon.is_file() and (node.folder / "tls.cert").is_file(), check)
    channel = programs.enter_context(_channel(node.rpc, (node.folder / "tls.cert").read_bytes(), macaroon.read_bytes()))
    node.lightning = lightning_pb2_grpc.LightningStub(channel)
    node.pubkey = _wait_until(lambda: _info(node.lightning), check).identity_pubkey


def _fund(network: RealBackend, check: Callable[[], None]) -> None:
    """Coins to alice and bob, and the channels alice → bob → carol, known to all."""
    alice, bob, carol = (network.nodes[name] for name in ("alice", "bob", "carol"))
    sat = CAPACITY_MSAT // 1_000
    for node in network.nodes.values():
        _wait_until(partial(_synced, node), check)
    _wait_until(lambda: _balance(alice) > 3 * sat, check)
    address = bob.lightning.NewAddress(lnrpc.NewAddressRequest(type=0)).address
    alice.lightning.SendCoins(lnrpc.SendCoinsRequest(addr=address, amount=sat + PREMIUM_SAT, sat_per_vbyte=10))
    network.btcd.mine(6)
    _wait_until(lambda: _balance(bob) >= sat, check)
    for opener, peer in ((alice, bob), (bob, carol)):
        _wait_until(partial(_synced, opener), check)
        address = lnrpc.LightningAddress(pubkey=peer.pubkey, host=peer.listen)
        opener.lightning.ConnectPeer(lnrpc.ConnectPeerRequest(addr=address, timeout=10))
        request = lnrpc.OpenChannelRequest(
            node_pubkey=bytes.fromhex(peer.pubkey), local_funding_amount=sat, sat_per_vbyte=10
        )
        _wait_until(partial(_opened, opener, request), check)
        network.btcd.mine(6)
    for node in (alice, bob, carol):
        _wait_until(partial(_knows_the_way, node), check)


def _opened(node: RealNode, request: Any) -> bool:
    try:
        node.lightning.OpenChannelSync(request)
    except grpc.RpcError:  # the peer is not in sync with the chain yet
        return False
    return True


def _synced(node: RealNode) -> bool:
    info = _info(node.lightning)
    return bool(info and info.synced_to_chain)


def _balance(node: RealNode) -> int:
    return int(node.lightning.WalletBalance(lnrpc.WalletBalanceRequest()).confirmed_balance)


def _knows_the_way(node: RealNode) -> bool:
    """Both channels are active where they are ours, and known with both sides' policies."""
    edges = node.lightning.DescribeGraph(lnrpc.ChannelGraphRequest()).edges
    ours = node.lightning.ListChannels(lnrpc.ListChannelsRequest()).channels
    whole = [edge for edge in edges if edge.HasField("node1_policy") and edge.HasField("node2_policy")]
    return len(whole) == 2 and bool(ours) and all(channel.active for channel in ours)
