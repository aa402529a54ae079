"""What Prometheus sees of a running system, asked from inside its network: its targets, and what a query says."""

import json
from typing import Any
from urllib.parse import quote

from tests.containers.system import System, docker

PORT = 9090


def start(system: System) -> None:
    """Prometheus beside the system."""
    system.run("--profile", "seeing", "up", "--detach", "--no-recreate", "prometheus")


def targets(system: System) -> dict[str, list[str]]:
    """Health of every container that it reads, by service."""
    found: dict[str, list[str]] = {}
    for one in _asked(system, "targets?state=active")["activeTargets"]:
        found.setdefault(one["labels"]["component"], []).append(one["health"])
    return found


def series(system: System, query: str) -> int:
    """How many series the query says now."""
    return len(_asked(system, f"query?query={quote(query)}")["result"])


def _asked(system: System, what: str) -> Any:
    program = "import sys; from urllib.request import urlopen; print(urlopen(sys.argv[1], timeout=10).read().decode())"
    url = f"http://prometheus:{PORT}/api/v1/{what}"
    told = json.loads(docker("exec", system.container("miner"), "python3.11", "-c", program, url))
    assert told["status"] == "success", told
    return told["data"]
