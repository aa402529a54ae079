"""Two networks of the same shape whose nodes can be killed: lndsim as a process, and real lnds. It tests nothing."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from l402core.errors import L402Error
from l402core.lnd.grpc import GrpcNode
from l402core.lnd.stubs import lnrpc, routerrpc
from l402core.lnd.wire import LndEndpoint, Wire
from l402train import services
from l402train.lightning import programs
from l402train.lightning.network import LndNetwork, running
from l402train.lightning.plan import Plan
from lndsim import Control

NAMES = ("alice", "bob", "carol")
CHANNELS = (("alice", "bob"), ("bob", "carol"))
CAPACITY_SAT = 10_000_000
"""Of each channel; half of it is with either side."""
PATIENCE_S = 60.0
POLL_S = 0.05
LIST_CHANNELS = "/lnrpc.Lightning/ListChannels"


class Killable(Protocol):
    """alice - bob - carol. Wires and nodes find their node again after a restart by themselves."""

    kind: str
    wires: dict[str, Wire]
    nodes: dict[str, GrpcNode]

    async def kill(self, name: str) -> None:
        """SIGKILL, at once."""
        ...

    async def revive(self, name: str) -> None:
        """Start it again on the same files and ports, and wait until its channels are usable."""
        ...

    async def usable(self) -> None:
        """Wait until every node answers and every channel is active."""
        ...

    async def mine(self, blocks: int) -> None: ...

    async def forget_failures(self) -> None:
        """What was learnt of routes that failed is forgotten."""
        ...


class _Connected:
    """The clients, and what both kinds wait for."""

    def __init__(self) -> None:
        self.wires: dict[str, Wire] = {}
        self.nodes: dict[str, GrpcNode] = {}

    def connect(self, endpoint_of: Callable[[str], LndEndpoint]) -> None:
        for name in NAMES:
            self.wires[name] = Wire(endpoint_of(name))
            self.nodes[name] = GrpcNode(self.wires[name])

    async def hang_up(self) -> None:
        for wire in self.wires.values():
            await wire.close()

    async def usable(self) -> None:
        """Until every node answers and every channel is active. Raises TimeoutError."""
        await waited(self._usable)

    async def _usable(self) -> bool:
        for wire in self.wires.values():
            try:
                channels = (await wire.call(LIST_CHANNELS, lnrpc.ListChannelsRequest())).channels
            except L402Error:
                return False
            if not channels or not all(channel.active for channel in channels):
                return False
        return True


class SimProcess(_Connected):
    """`python -m lndsim`; one process is all nodes, so that killing one kills all."""

    kind = "lndsim"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._process: Process | None = None

    async def start(self) -> None:
        """Until it is ready. Raises TimeoutError, AssertionError."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lndsim", "--dir", str(self._folder), "--nodes", ",".join(NAMES),
            "--topology", "line", "--capacity-sat", str(CAPACITY_SAT), stdout=PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
        assert json.loads(line)["event"] == "ready"

    def endpoint(self, name: str) -> LndEndpoint:
        """As `nodes.json` says."""
        entry = json.loads((self._folder / "nodes.json").read_text())[name]
        return LndEndpoint(entry["host"], Path(entry["tls_cert"]), Path(entry["macaroons"]["admin"]))

    async def kill(self, name: str) -> None:
        assert self._process is not None
        assert name in NAMES
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def revive(self, name: str) -> None:
        assert name in NAMES
        await self.start()
        await self.usable()

    async def mine(self, blocks: int) -> None:
        async with Control(self._folder) as control:
            await control.mine(blocks)

    async def set_stranding(self, name: str, stranding: bool) -> None:
        """Real lnds come to this only by being killed."""
        async with Control(self._folder) as control:
            await control.set_stranding(name, stranding)

    async def forget_failures(self) -> None:
        """It knows all balances, so it has nothing to learn."""


class RealNodes(_Connected):
    """Real lnds on one btcd; each can be killed alone."""

    kind = "lnd"

    def __init__(self, network: LndNetwork) -> None:
        super().__init__()
        self._network = network
        self._lnd = programs.find().lnd
        self._logs = network.plan.dir / "logs"

    def endpoint(self, name: str) -> LndEndpoint:
        """With the admin macaroon."""
        return self._network.nodes[name].endpoint()

    async def kill(self, name: str) -> None:
        process = self._network.nodes[name].process
        assert process is not None
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
        await process.ended(within_s=10)

    async def revive(self, name: str) -> None:
        node = self._network.nodes[name]
        await node.hang_up()
        node.start(self._lnd, self._network.btcd, self._logs / f"{name}.log", services.base_environment())
        await node.answering()
        await waited(lambda: self._joined(name))

    async def _joined(self, name: str) -> bool:
        """All channels are active; we dial, because whoever dialed before waits longer each time."""
        for one, other in CHANNELS:
            if name in {one, other}:
                await self._dial(name, other if one == name else one)
        return await self._usable()

    async def _dial(self, name: str, peer: str) -> None:
        to = self._network.nodes[peer]
        address = lnrpc.LightningAddress(pubkey=to.pubkey, host=to.listen)
        try:
            await self.wires[name].call(
                "/lnrpc.Lightning/ConnectPeer", lnrpc.ConnectPeerRequest(addr=address, timeout=2)
            )
        except L402Error as error:
            if "already connected" not in error.detail:
                await asyncio.sleep(0.1)  # still starting

    async def end(self) -> None:
        """Those that were started again: the network knows only the first ones."""
        for node in self._network.nodes.values():
            await node.hang_up()
            if node.process is not None:
                node.process.ask_to_end()
        for node in self._network.nodes.values():
            if node.process is not None:
                await node.process.ended(within_s=20)

    async def mine(self, blocks: int) -> None:
        await self._network.mine(blocks)

    async def forget_failures(self) -> None:
        uri = "/routerrpc.Router/ResetMissionControl"
        for wire in self.wires.values():
            await wire.call(uri, routerrpc.ResetMissionControlRequest())


@asynccontextmanager
async def killable_sim(folder: Path) -> AsyncIterator[SimProcess]:
    """lndsim inside the block, dead after it."""
    network = SimProcess(folder)
    await network.start()
    network.connect(network.endpoint)
    try:
        await network.usable()
        yield network
    finally:
        await network.hang_up()
        await network.kill(NAMES[0])


@asynccontextmanager
async def killable_lnd(folder: Path) -> AsyncIterator[RealNodes]:
    """Three lnds and btcd inside the block, all ended after it. Raises Stop."""
    plan = Plan(
        dir=folder / "network",
        nodes=NAMES,
        channels=CHANNELS,
        capacity_sat=CAPACITY_SAT,
        push_sat=CAPACITY_SAT // 2,
    )
    async with running(plan) as started:
        network = RealNodes(started)
        network.connect(network.endpoint)
        try:
            yield network
        finally:
            await network.hang_up()
            await network.end()


async def waited(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it holds. Raises TimeoutError after PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 - the world outside sends no event
            await asyncio.sleep(POLL_S)


async def channels_of(network: Killable, name: str) -> list[Any]:
    """`lnrpc.Channel`s, with what the port leaves out."""
    return list((await network.wires[name].call(LIST_CHANNELS, lnrpc.ListChannelsRequest())).channels)
