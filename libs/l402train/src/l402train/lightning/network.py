"""Starts btcd and the lnds of a plan, funds them, and stops them. It knows the order, and no policy of a channel."""

import asyncio
import contextlib
import http.client
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from l402train import parts, services
from l402train.exits import Exit, Stop, stop_for
from l402train.folder import Folder
from l402train.lightning import funding, programs
from l402train.lightning.btcd import FIRST_BLOCKS, Btcd, nobodys_address
from l402train.lightning.node import LndNode
from l402train.lightning.plan import Plan
from l402train.process import Process

BTCD_S = 30.0
END_S = 20.0
STARTING_MAX = 4
"""Making its wallet costs an lnd 300 MB and seconds of a core; later it lives on a third of that."""
ATTEMPTS = 3
"""A free port may be taken between our look and the program's: then everything starts again on other ports."""
NODES, BTCD = "nodes.json", "btcd.json"
Note = Callable[[str], None]


class LndNetwork:
    """A running network. Made by `running`."""

    def __init__(self, plan: Plan, found: programs.Programs, note: Note) -> None:
        self.plan = plan
        self.nodes: dict[str, LndNode] = {}
        self._found = found
        self._note = note
        self._began = time.monotonic()
        self._environment = services.base_environment()
        self._processes: list[Process] = []
        folder = plan.dir / "btcd"
        self.btcd = Btcd(
            rpc=f"127.0.0.1:{parts.free_port()}",
            listen=f"127.0.0.1:{parts.free_port()}",
            cert=folder / "rpc.cert",
            user="l402",
            password=secrets.token_hex(16),
        )

    async def start(self) -> None:
        """Everything, in order; `nodes.json` is there at the end. Raises Stop, L402Error, OSError."""
        plan = self.plan
        for folder in (plan.dir, plan.dir / "logs", plan.dir / "btcd"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (plan.dir / "btcd" / "none.conf").touch()
        self.nodes = {name: LndNode(name, plan.dir / name) for name in plan.nodes}
        miner = await self._miner() if plan.channels else nobodys_address()
        await self._start_btcd(miner, FIRST_BLOCKS if plan.channels else 1)
        gate = asyncio.Semaphore(STARTING_MAX)
        await asyncio.gather(*(self._bring_up(node, gate) for node in self.nodes.values()))
        self._say(f"btcd and {len(self.nodes)} lnd answer")
        await funding.fund(plan, self.nodes, self.btcd)
        if plan.channels:
            self._say(f"{len(plan.channels)} channels are open, and payments find their way")
        described = {name: node.described() for name, node in self.nodes.items()}
        Folder.write_private(plan.dir / BTCD, msgspec.json.encode(self.btcd, enc_hook=str))
        Folder.write_private(plan.dir / NODES, msgspec.json.format(msgspec.json.encode(described)))

    async def _miner(self) -> str:
        """An address of the first node: btcd takes it only when it starts, and only a wallet can name one."""
        from l402core.lnd.stubs import lnrpc  # noqa: PLC0415

        node = self.nodes[self.plan.nodes[0]]
        # Simnet's first block is years old, and lnd waits for a chain that looks current.
        btcd = await self._start_btcd(nobodys_address(), 1)
        process = self._start_lnd(node)
        await node.answering()
        address: str = (await node.call("NewAddress", lnrpc.NewAddressRequest(type=0))).address
        await node.hang_up()
        await self._end([process])
        await self._end([btcd])
        return address

    async def _bring_up(self, node: LndNode, gate: asyncio.Semaphore) -> None:
        async with gate:
            self._start_lnd(node)
            await node.answering()

    async def _start_btcd(self, miner: str, blocks: int) -> Process:
        folder = self.plan.dir / "btcd"
        command = self.btcd.command(self._found.btcd, folder, miner)
        process = self._keep(Process("btcd", command, self._log("btcd"), self._environment))
        await process.until(self.btcd.answers, deadline_s=BTCD_S)
        await self.mine(blocks)
        return process

    def _start_lnd(self, node: LndNode) -> Process:
        return self._keep(node.start(self._found.lnd, self.btcd, self._log(node.name), self._environment))

    async def mine(self, blocks: int) -> None:
        """Mine blocks now. Raises Stop when btcd does not answer."""
        try:
            await asyncio.to_thread(self.btcd.mine, blocks)
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            raise Stop(Exit.PART_FAILED, f"btcd does not mine: {error}") from error

    async def watch(self) -> None:
        """Runs for ever, mining now and then; raises Stop when a program ends by itself."""
        every_s = self.plan.block_seconds
        mined_at = time.monotonic()
        while True:
            for process in self._processes:
                if process.returncode is not None:
                    raise process.failure(f"{process.name} ended with {process.returncode}")
            if every_s and time.monotonic() - mined_at >= every_s:
                mined_at = time.monotonic()
                await self.mine(1)
            await asyncio.sleep(0.3)

    async def stop(self) -> None:
        """End everything, btcd last: an lnd that loses its chain takes longer to end."""
        await asyncio.gather(*(node.hang_up() for node in self.nodes.values()))
        await self._end([process for process in self._processes if process.name != "btcd"])
        await self._end(list(self._processes))

    async def _end(self, processes: list[Process]) -> None:
        for process in processes:
            process.ask_to_end()
        await asyncio.gather(*(process.ended(within_s=END_S) for process in processes))
        self._processes = [process for process in self._processes if process not in processes]

    def _keep(self, process: Process) -> Process:
        self._processes.append(process)
        return process

    def _log(self, name: str) -> Path:
        return self.plan.dir / "logs" / f"{name}.log"

    def _say(self, what: str) -> None:
        self._note(f"{what} after {time.monotonic() - self._began:.1f} s")


@contextlib.asynccontextmanager
async def running(plan: Plan, note: Note = lambda _: None) -> AsyncIterator[LndNetwork]:
    """The network inside the block; whatever happens, nothing of it is left running after. Raises Stop, L402Error."""
    found = programs.find(plan.checked().lnd_dir)
    if plan.dir.exists() and any(plan.dir.iterdir()):
        raise Stop(Exit.FOLDER, f"{plan.dir} is not empty; name another folder, or remove it")
    for attempt in range(1, ATTEMPTS + 1):
        network = LndNetwork(plan, found, note)
        try:
            await network.start()
        except BaseException as error:
            await _to_the_end(network.stop())
            if isinstance(error, Stop) and error.code is Exit.PORT_IN_USE and attempt < ATTEMPTS:
                shutil.rmtree(plan.dir)
                continue
            if isinstance(error, OSError):
                raise stop_for(error, error.filename or plan.dir) from error
            raise
        try:
            yield network
        finally:
            await _to_the_end(network.stop())
        return


async def _to_the_end(stopping: Coroutine[Any, Any, None]) -> None:
    """Nothing interrupts it: a second signal would leave programs behind."""
    task = asyncio.ensure_future(stopping)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
