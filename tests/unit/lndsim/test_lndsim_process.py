"""The simulator as a program: it starts, is killed, comes back with everything, grows, and stops when told."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from l402core.errors import Unavailable
from l402core.lnd.grpc import GrpcNode, LndEndpoint, connect
from l402core.lnd.permissions import PEER, bake
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.secret import Secret
from lndsim import Control
from lndsim.serve import Config, channels_of, parse

Start = Callable[..., Awaitable[Process]]
PATIENCE_S = 30
PREIMAGE = bytes(range(32))
HASH = hashlib.sha256(PREIMAGE).digest()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts `python -m lndsim` in a folder and waits until it is ready."""
    processes: list[Process] = []

    async def run(*more: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lndsim", "--dir", str(tmp_path / "net"), "--nodes", "hub,ann,ben", *more, stdout=PIPE
        )
        processes.append(process)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        assert json.loads(line)["event"] == "ready"
        return process

    yield run
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


def nodes(folder: Path) -> dict[str, Any]:
    """What `nodes.json` says."""
    found: dict[str, Any] = json.loads((folder / "net/nodes.json").read_text())
    return found


def node(folder: Path, name: str) -> GrpcNode:
    """Connect as a user would: from `nodes.json`."""
    entry = nodes(folder)[name]
    return connect(LndEndpoint(entry["host"], Path(entry["tls_cert"]), Path(entry["macaroons"]["admin"])))


async def back(client: GrpcNode) -> None:
    """Until the client's channel has found its node again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(Unavailable):
                await client.info()
                return
            await asyncio.sleep(0.05)


async def test_kill_9_loses_nothing_acknowledged(start: Start, tmp_path: Path) -> None:
    """A held payment survives, settles after the restart, and clients find the node at its old place.

    Macaroons are baked before it, and change nothing of what the node does.
    """
    process = await start()
    hub, ann = node(tmp_path, "hub"), node(tmp_path, "ann")
    entry = nodes(tmp_path)["ann"]
    admin = LndEndpoint(entry["host"], Path(entry["tls_cert"]), Path(entry["macaroons"]["admin"]))
    assert await bake(admin, PEER)
    invoice = await ann.add_hold_invoice(HASH, amount_msat=10**6, memo="", expiry_s=900, cltv_expiry=40)
    await hub.pay(invoice.bolt11, timeout_s=10, fee_limit_msat=0, cltv_limit=200)
    places = nodes(tmp_path)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    with pytest.raises(Unavailable):
        await ann.info()
    await start()
    assert nodes(tmp_path) == places
    await back(ann)
    await back(hub)
    held = await ann.lookup_invoice(HASH)
    assert held is not None
    assert held.state is InvoiceState.ACCEPTED
    await ann.settle_invoice(Secret(PREIMAGE))
    paid = await hub.lookup_payment(HASH)
    assert paid is not None
    assert (paid.status, paid.preimage) == (PaymentStatus.SETTLED, Secret(PREIMAGE))
    assert len(await hub.channels()) == 2
    await hub.close()
    await ann.close()


async def test_a_cut_stream_says_so(start: Start, tmp_path: Path) -> None:
    """Whoever watches is told that the node went away, and may come again."""
    process = await start()
    hub = node(tmp_path, "hub")
    blocks = hub.watch_blocks()
    await anext(blocks)
    process.kill()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(anext(blocks), PATIENCE_S)
    await start()
    await back(hub)
    assert await asyncio.wait_for(anext(hub.watch_blocks()), PATIENCE_S) == 400
    await hub.close()


async def test_sigterm_stops_it_cleanly(start: Start) -> None:
    """Exit status 0, and nothing left running."""
    process = await start()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0


async def test_a_running_network_grows(start: Start, tmp_path: Path) -> None:
    """Through its own door: a node, a channel, blocks; the new node can be paid at once."""
    await start()
    async with Control(tmp_path / "net") as control:
        pubkey = await control.add_node("zoe")
        assert await control.add_node("zoe") == pubkey
        await control.open_channel("hub", "zoe", 10**9)
        assert await control.mine(3) == await control.height() == 403
        with pytest.raises(ValueError, match="no node is named 'nobody'"):
            await control.open_channel("hub", "nobody", 10**9)
        with pytest.raises(ValueError, match="not a name"):
            await control.add_node("../zoe")
        hub, zoe = node(tmp_path, "hub"), node(tmp_path, "zoe")
        assert (await zoe.info()).pubkey == pubkey
        invoice = await zoe.add_invoice(amount_msat=10**6, memo="", expiry_s=600, cltv_expiry=40)
        assert (await hub.pay_and_wait(invoice.bolt11, timeout_s=10, fee_limit_msat=0)).status is PaymentStatus.SETTLED
        await control.set_listening("zoe", False)
        with pytest.raises(Unavailable):
            await zoe.info()
        await control.set_listening("zoe", True)
        await back(zoe)
    await hub.close()
    await zoe.close()


async def test_the_door_wants_its_token(start: Start, tmp_path: Path) -> None:
    """Being on the same machine is not enough; the file is for its owner only."""
    await start()
    file = tmp_path / "net/control.json"
    address = json.loads(file.read_text())
    assert os.stat(file).st_mode & 0o077 == 0  # noqa: PTH116  # the mode alone is of interest
    reader, writer = await asyncio.open_connection("127.0.0.1", address["port"])
    writer.write(b'{"token": "wrong", "command": "mine"}\nnonsense\n')
    assert b"token" in await reader.readline()
    assert b"error" in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_blocks_come_by_themselves_when_asked(start: Start, tmp_path: Path) -> None:
    """`--block-seconds`."""
    await start("--block-seconds", "0.05")
    hub = node(tmp_path, "hub")
    heights = hub.watch_blocks()
    first = await asyncio.wait_for(anext(heights), PATIENCE_S)
    assert await asyncio.wait_for(anext(heights), PATIENCE_S) == first + 1
    await hub.close()


def test_topologies(tmp_path: Path) -> None:
    """Star, line, full and none."""
    pairs = {
        "star": [("b", "a"), ("b", "c")],
        "line": [("a", "b"), ("b", "c")],
        "full": [("a", "b"), ("a", "c"), ("b", "c")],
        "none": [],
    }
    for topology, expected in pairs.items():
        options = parse(["--dir", str(tmp_path), "--nodes", "a,b,c", "--topology", topology, "--hub", "b"])
        assert channels_of(options) == expected
    with pytest.raises(ValueError, match="not one of the nodes"):
        channels_of(Config(dir=tmp_path, nodes=("a",), hub="z"))


def test_a_config_file_says_the_same(tmp_path: Path) -> None:
    """`--config FILE` is the options as JSON; what it does not know it refuses."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"dir": str(tmp_path / "net"), "nodes": ["a", "b"], "capacity_sat": 5}))
    assert parse(["--config", str(file)]) == Config(dir=tmp_path / "net", nodes=("a", "b"), capacity_sat=5)
    file.write_text('{"dir": "x", "noodles": 1}')
    with pytest.raises(SystemExit):
        parse(["--config", str(file)])
