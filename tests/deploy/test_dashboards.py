"""The dashboards: Prometheus's own parser takes every query, and every number in one is told by some service."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from l402train.docs.metrics import TOLD, told_by

from tests.deploy.chart import CHART, HOUSE, rendered
from tests.support.real import require_real

DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((CHART / "dashboards").glob("*.json"))}
KNOWN = {one.name: one for service in TOLD for one in told_by(service)}
PARTS = {"histogram": ("_bucket", "_sum", "_count")}


def queries(dashboard: dict[str, Any]) -> list[str]:
    """Every query, as Prometheus gets it."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [query.replace("$__rate_interval", "5m") for query in found]


def test_there_is_one_for_money_rounds_oracle_node_and_bus() -> None:
    """And each is named once."""
    assert set(DASHBOARDS) == {"money", "rounds", "oracle", "node-and-bus"}
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_number_in_it_is_told_by_a_service(name: str) -> None:
    """Which the test of a running network finds on the service's page."""
    for query in queries(DASHBOARDS[name]):
        for metric in re.findall(r"l402_[a-z_]+", query):
            whole = next((metric.removesuffix(end) for end in PARTS["histogram"] if metric.endswith(end)), metric)
            assert metric in KNOWN or (whole in KNOWN and KNOWN[whole].kind == "histogram"), (query, metric)


@pytest.mark.real
@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_parses(name: str, tmp_path: Path) -> None:
    """promtool reads them as the rules of a group."""
    require_real(shutil.which("promtool") is not None, "promtool (Debian: apt-get install prometheus)")
    rules = [{"record": f"q:{number}", "expr": query} for number, query in enumerate(queries(DASHBOARDS[name]))]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": name, "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yaml")], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_two_panels_lie_upon_each_other(name: str) -> None:
    """Each has a place of its own in the grid of 24."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        mine = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not mine & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= mine


def test_they_are_what_their_table_makes() -> None:
    """Nobody edits them by hand and loses it."""
    program = [sys.executable, str(HOUSE / "tools" / "dashboards.py"), "--check"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.real
def test_the_chart_installs_them_behind_its_switch() -> None:
    """One ConfigMap each, with the label that Grafana's sidecar looks for; its JSON unharmed."""
    objects = rendered("--set", "monitoring.dashboards.enabled=true")
    maps = {one["metadata"]["name"]: one for one in objects if one["kind"] == "ConfigMap"}
    found = {name.partition("dashboard-")[2]: one for name, one in maps.items() if "dashboard-" in name}
    assert set(found) == set(DASHBOARDS)
    for name, one in found.items():
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(one["data"][f"{name}.json"]) == DASHBOARDS[name]
