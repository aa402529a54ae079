"""Writes down all that crosses the bus of a running network, into a file that the search for secrets reads with the others.

Work that is acknowledged, and questions with their answers, are in no stream and on no disk otherwise.
"""

import json
import os
import signal
from pathlib import Path

from l402train.stack import Network

FILE = "wire.log"


def overhear(network: Network) -> None:
    """From now on: nats-server's own trace of its clients' protocol, each message whole."""
    overhear_server(network.folder.nats, network.process("nats").pid)


def overhear_server(nats: Path, pid: int) -> None:
    """The same for a server by its folder and process."""
    config = nats / "nats.conf"
    trace = f"trace: true\nmax_traced_msg_len: 0\nlogfile: {json.dumps(str(wire_of(nats)))}\n"
    config.write_text(config.read_text() + trace)
    os.kill(pid, signal.SIGHUP)


def wire_of(nats: Path) -> Path:
    """Where it is written."""
    return nats / FILE


def said_before(nats: Path, subject: str) -> bytes:
    """All that was overheard until anybody first said this. It was said."""
    before, found, _ = wire_of(nats).read_bytes().partition(b"PUB " + subject.encode())
    assert found, f"nobody said {subject}"
    return before


def heard(nats: Path, *subjects: str) -> bool:
    """Whether messages of all these subjects were overheard, each with what it carried."""
    text = wire_of(nats).read_text(errors="replace")
    return "MSG_PAYLOAD" in text and all(f"MSG {subject}" in text for subject in subjects)
