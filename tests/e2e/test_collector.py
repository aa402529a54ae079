"""Spans of a whole network by way of a real OpenTelemetry collector, which is told what compose.yaml tells it."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from l402train.folder import Folder
from l402train.stack import Plan, running

from tests.e2e.test_traces import JUDGED, MEASURED, OPENS, PAID, missing
from tests.support.nats import free_port
from tests.support.networks import UNHURRIED
from tests.support.otlp import HOUSE, HOW, PROGRAM, TWO_SPANS, printed, receiver, running_collector
from tests.support.real import require_real
from tests.support.trees import trees
from tests.support.watching import NETWORK_S, count, until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def collector_is_built() -> None:
    require_real(PROGRAM.exists(), HOW)


async def test_a_paid_submission_comes_out_of_the_collector_as_one_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five services and a peer send their spans to it, it hands them on, and nothing is cut off on the way. What came out lies
    beside the network's folder, where secrets are looked for."""
    for name, value in UNHURRIED.items():
        monkeypatch.setenv(name, value)
    port = free_port()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    folder = Folder(tmp_path / "network")
    folder.create()
    plan = Plan(peers=1, rounds=1, workers=1, seed=10, overheard=True).checked()
    with receiver() as backend:
        chosen = {"COLLECTOR_EXPORTER": "otlphttp", "COLLECTOR_FORWARD": backend.url}
        with running_collector(tmp_path / "collector.log", port, chosen):
            async with running(folder, plan, print):
                await until(lambda: count(folder, "submissions", "state = 'ended'") == 1, patience_s=NETWORK_S)
                earned = count(folder, "rungs", "state = 'settled'")
        (tmp_path / "came-out").write_bytes(backend.body)
    assert {path for path, _ in backend.received} == {"/v1/traces"}
    assert not list(folder.traces.glob("*")), "nobody kept a file beside it"
    (tree,) = [one for one in trees(backend.spans()).values() if "peer-agent submission" in one.counts]
    assert tree.roots == ["peer-agent submission"]
    assert earned > 0
    assert missing(tree, (*JUDGED, *MEASURED, (OPENS, PAID))) == []
    assert tree.counts["peer-agent SettleInvoice"] == earned


def test_without_a_backend_it_prints_a_line_for_each_span(tmp_path: Path) -> None:
    """What `docker compose logs collector` shows where nothing else was chosen."""
    port, log = free_port(), tmp_path / "collector.log"
    with running_collector(log, port, {}):
        command = [sys.executable, "-c", TWO_SPANS, f"http://127.0.0.1:{port}"]
        trace_id = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    assert trace_id
    assert printed(log.read_text(), trace_id) == {"outer", "inner"}


def test_the_built_one_has_the_version_of_the_image() -> None:
    """compose.yaml takes either by one name, so they must be told the same things."""
    service = yaml.safe_load((HOUSE / "compose.yaml").read_text())["services"]["collector"]
    wanted = service["image"].rstrip("}").rpartition(":")[2]
    told = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split()[-1] == wanted
