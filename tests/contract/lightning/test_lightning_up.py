"""`l402-train lightning up` on real lnd: balanced channels, ways that work, one format with lndsim, and a clean end."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.port import PaymentStatus
from l402train.credentials import endpoint_of
from lndsim import Simulation

from tests.support.demos import COMMAND, environment
from tests.support.lnd import lnd_is_there
from tests.support.real import require_real

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("lnd-network"), pytest.mark.timeout(280)]
END_S = 60
AMOUNT_MSAT = 1_000_000


class Up:
    """The command, running, and what it said."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, told: dict[str, Any]) -> None:
        self.process, self.folder, self.told = process, folder, told

    def node(self, name: str) -> GrpcNode:
        """One of its nodes, by what `nodes.json` says."""
        return connect(endpoint_of(json.loads((self.folder / "nodes.json").read_text())[name]))

    def left(self) -> list[str]:
        """Processes that name the folder, zombies apart."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in command:
                found.append(command.replace(b"\0", b" ").decode())
        return found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Three nodes in a line: the ends have no channel with each other."""
    require_real(lnd_is_there(), "lnd and btcd (run `make tools`)")
    folder = tmp_path_factory.mktemp("up") / "network"
    command = [*COMMAND, "lightning", "up", "--nodes", "3", "--topology", "line", "--dir", str(folder), "--json"]
    tools = {"L402_TOOLS_DIR": os.environ["L402_TOOLS_DIR"]} if "L402_TOOLS_DIR" in os.environ else {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**environment(), **tools}
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Up(process, folder, json.loads(line))
        process.terminate()
        process.wait(END_S)


async def test_every_channel_is_active_and_balanced(up: Up) -> None:
    """Both ends can pay from the first second."""
    for name, count in (("node-1", 1), ("node-2", 2), ("node-3", 1)):
        node = up.node(name)
        channels = await node.channels()
        await node.close()
        assert len(channels) == count
        for channel in channels:
            assert channel.active
            assert min(channel.local_msat, channel.remote_msat) >= channel.capacity_msat * 0.49


async def test_the_ends_of_the_line_pay_each_other_at_once(up: Up) -> None:
    """Both ways over the node in the middle, which keeps its fee."""
    first, last = up.node("node-1"), up.node("node-3")
    for payer, payee in ((first, last), (last, first)):
        invoice = await payee.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=80)
        payment = await payer.pay_and_wait(invoice.bolt11, timeout_s=20, fee_limit_msat=10_000)
        assert payment.status is PaymentStatus.SETTLED
        assert payment.fee_msat == 1_000 + AMOUNT_MSAT // 1_000_000
    await first.close()
    await last.close()


async def test_the_list_of_nodes_reads_as_the_simulators(up: Up, tmp_path: Path) -> None:
    """Same keys, same kinds: the rest of the stack cannot tell."""
    real = json.loads((up.folder / "nodes.json").read_text())
    async with await Simulation.start(tmp_path) as simulation:
        await simulation.add_node("node-1")
        simulated = json.loads((tmp_path / "nodes.json").read_text())
    assert set(real) == {"node-1", "node-2", "node-3"}
    assert {key: type(value) for key, value in real["node-1"].items()} == {
        key: type(value) for key, value in simulated["node-1"].items()
    }
    assert set(simulated["node-1"]["macaroons"]) <= set(real["node-1"]["macaroons"])
    assert up.told["reach"] == real


def test_it_ends_with_everything_it_started(up: Up) -> None:
    """One signal, exit code 130, and no program is left. The last test of the module."""
    assert len(up.left()) >= 5
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(END_S) == 130
    ends_at = time.monotonic() + END_S
    while up.left() and time.monotonic() < ends_at:
        time.sleep(0.1)
    assert up.left() == []
