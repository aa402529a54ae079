"""What is seen of a running system, asked from inside its network: Prometheus's targets, a query's answer, spans."""

import json
from typing import Any
from urllib.parse import quote

from tests.containers.system import System, docker
from tests.support.otlp import TWO_SPANS, printed

PORT = 9090


def start(system: System, service: str) -> None:
    """Prometheus or the collector beside the system."""
    system.run("--profile", "seeing", "up", "--detach", "--no-recreate", service)


def targets(system: System) -> dict[str, list[str]]:
    """Health of every container that it reads, by service."""
    found: dict[str, list[str]] = {}
    for one in _asked(system, "targets?state=active")["activeTargets"]:
        found.setdefault(one["labels"]["component"], []).append(one["health"])
    return found


def series(system: System, query: str) -> int:
    """How many series the query says now."""
    return len(_asked(system, f"query?query={quote(query)}")["result"])


def spans_sent(system: System, service: str) -> str:
    """Two spans from a container of that service to the collector, by its name; their trace's id."""
    return system.inside(service, TWO_SPANS, "http://collector:4318").strip()


def spans_printed(system: System, trace_id: str) -> set[str]:
    """Those that the collector has printed since, by name."""
    return printed(system.log_of("collector"), trace_id)


def _asked(system: System, what: str) -> Any:
    program = "import sys; from urllib.request import urlopen; print(urlopen(sys.argv[1], timeout=10).read().decode())"
    url = f"http://prometheus:{PORT}/api/v1/{what}"
    told = json.loads(docker("exec", system.container("miner"), "python3.11", "-c", program, url))
    assert told["status"] == "success", told
    return told["data"]
