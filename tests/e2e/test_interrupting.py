"""However a network ends, nothing of it goes on running, and the command says how it ended."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.demos import COMMAND, environment, printed

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(300)]
START_S = 120
END_S = 60


@pytest.fixture
def network(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`l402-train up --json`, running."""
    command = [*COMMAND, "up", "--dir", str(tmp_path / "net"), "--peers", "1", "--overhear", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        yield process
        if process.poll() is None:
            process.kill()
        printed(tmp_path, *process.communicate())


def described(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What `up` says once everything runs."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    told: dict[str, Any] = json.loads(line)
    return told


def of_folder(folder: Path) -> list[str]:
    """Processes whose environment or command names the folder, zombies apart."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            seen = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if str(folder).encode() in seen and state != "Z":
            found.append(f"{entry.name} {(entry / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()}")
    return found


def wait_until_gone(folder: Path) -> None:
    """Fails with the names of what is still there."""
    ends_at = time.monotonic() + END_S
    while (left := of_folder(folder)) and time.monotonic() < ends_at:
        time.sleep(0.1)
    assert left == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_survives(network: subprocess.Popen[str], tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM clean up and end with 130; even after SIGKILL no part is left behind."""
    told = described(network)
    assert len(of_folder(tmp_path / "net")) >= len(told["pids"])
    network.send_signal(number)
    assert network.wait(END_S) == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    wait_until_gone(tmp_path / "net")


def test_ctrl_c_while_everything_starts_leaves_nothing(network: subprocess.Popen[str], tmp_path: Path) -> None:
    """Half a network is cleaned up like a whole one."""
    ends_at = time.monotonic() + START_S
    while not of_folder(tmp_path / "net" / "nats") and time.monotonic() < ends_at:
        time.sleep(0.02)
    network.send_signal(signal.SIGINT)
    assert network.wait(END_S) == 130
    wait_until_gone(tmp_path / "net")


def test_a_part_that_dies_ends_the_network_and_is_named(network: subprocess.Popen[str], tmp_path: Path) -> None:
    """The error says which part, and everything else is stopped."""
    pid = described(network)["pids"]["settler"]
    os.kill(pid, signal.SIGKILL)
    assert network.wait(END_S) == 6
    assert network.stderr is not None
    assert "settler" in json.loads(printed(tmp_path, network.stderr.read()))["error"]
    wait_until_gone(tmp_path / "net")


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    """The port is named, the code is 3, and nothing was started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "up", "--dir", str(tmp_path / "net"), "--port", port],
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
            env=environment(),
        )
    printed(tmp_path, done.stdout, done.stderr)
    assert done.returncode == 3
    assert done.stderr.strip().count("\n") == 0
    assert port in done.stderr
    wait_until_gone(tmp_path / "net")
