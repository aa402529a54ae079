"""`python -m tests.support.reviving PLAN.json`: real lnds on btcd as the product starts them, each started again when killed.

The product's own program ends all of them when one has ended. This one tells in `pids.json` who runs now.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from l402core.errors import L402Error
from l402core.lnd.stubs import lnrpc
from l402core.lnd.wire import Wire
from l402train.credentials import endpoint_of
from l402train.exits import Exit
from l402train.folder import Folder
from l402train.lightning.btcd import Btcd
from l402train.lightning.network import BTCD as BTCD_FILE
from l402train.lightning.network import BTCD_S, END_S, NODES, LndNetwork, running
from l402train.lightning.plan import Plan
from l402train.lightning.serve import read_plan
from l402train.running import run

MODULE = "tests.support.reviving"
BTCD = "btcd"
PIDS = "pids.json"
POLL_S = 0.05
PATIENCE_S = 90.0
"""Until a killed lnd has its channels back, on a busy machine."""


async def kill(lnd: Path, name: str) -> None:
    """SIGKILL to btcd or to one lnd below the folder `lnd`; until btcd answers, and every channel of every lnd is usable."""
    was = pids(lnd)[name]
    os.kill(was, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        while pids(lnd)[name] == was or not (await _mines(lnd) and await _usable(lnd)):  # noqa: ASYNC110 - it sends no event
            await asyncio.sleep(POLL_S)


async def mine(lnd: Path, blocks: int) -> None:
    """So many, and until every lnd below the folder knows them: one that lags would let what it holds expire."""
    btcd = btcd_of(lnd)
    await asyncio.to_thread(btcd.mine, blocks)
    async with asyncio.timeout(PATIENCE_S):
        while not await _know(lnd, await asyncio.to_thread(btcd.call, "getblockcount")):  # noqa: ASYNC110 - it sends no event
            await asyncio.sleep(POLL_S)


def btcd_of(lnd: Path) -> Btcd:
    """How to ask btcd."""
    told = json.loads((lnd / BTCD_FILE).read_text())
    return Btcd(**{**told, "cert": Path(told["cert"])})


def pids(lnd: Path) -> dict[str, int]:
    """Who runs now, by name."""
    told: dict[str, int] = json.loads((lnd / PIDS).read_text())
    return told


async def _mines(lnd: Path) -> bool:
    return bool(await asyncio.to_thread(btcd_of(lnd).answers))


async def _usable(lnd: Path) -> bool:
    """Every lnd knows the chain's tip, and every channel that it has is active."""
    infos = await _each(lnd, "GetInfo", lnrpc.GetInfoRequest())
    told = await _each(lnd, "ListChannels", lnrpc.ListChannelsRequest())
    usable = all(channel.active for one in told for channel in one.channels)
    return bool(infos) and bool(told) and usable and all(info.synced_to_chain for info in infos)


async def _know(lnd: Path, height: int) -> bool:
    infos = await _each(lnd, "GetInfo", lnrpc.GetInfoRequest())
    return bool(infos) and all(info.block_height >= height for info in infos)


async def _each(lnd: Path, call: str, request: Any) -> list[Any]:
    """What every lnd answers; nothing where one of them does not."""
    answers = []
    for node in json.loads((lnd / NODES).read_text()).values():
        wire = Wire(endpoint_of(node))
        try:
            answers.append(await wire.call(f"/lnrpc.Lightning/{call}", request))
        except L402Error:
            return []
        finally:
            await wire.close()
    return answers


async def _serve(plan: Plan) -> Exit:
    async with running(plan) as network:
        await _write_down(network)
        sys.stdout.write('{"event":"ready"}\n')
        sys.stdout.flush()
        while True:
            for process in network._processes:
                if process.returncode is not None:
                    process.start_again()
                    _tell(network)
            await asyncio.sleep(POLL_S)


async def _write_down(network: LndNetwork) -> None:
    """End btcd in order, and start it again. It writes what it knows of its blocks every five minutes only, and killed
    before that it would lose them all; there is no other btcd to have them from."""
    (btcd,) = (process for process in network._processes if process.name == BTCD)
    btcd.ask_to_end()
    await btcd.ended(within_s=END_S)
    btcd.start_again()
    await btcd.until(network.btcd.answers, deadline_s=BTCD_S)
    _tell(network)


def _tell(network: LndNetwork) -> None:
    running_now = {process.name: process.pid for process in network._processes}
    Folder.write_private(network.plan.dir / PIDS, json.dumps(running_now).encode())


if __name__ == "__main__":
    sys.exit(run(_serve(read_plan(Path(sys.argv[1]))), as_json=True))
