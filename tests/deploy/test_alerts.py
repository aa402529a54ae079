"""Every alert fires once where it should, and stays silent on a day when nothing is wrong; Prometheus's own promtool judges."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import of, rendered
from tests.support.real import require_real

pytestmark = pytest.mark.real

QUIET = {
    'l402_ready{job="settler", part="bus"}': "1x60",
    'l402_node_fit{job="settler", check="synced"}': "1x60",
    'l402_guardian_blocks_left{job="settler"}': "900x60",
    'l402_guardian_alarms_total{job="settler"}': "0x60",
    'l402_node_htlc_slots_free{job="settler"}': "2898x60",
    'l402_node_channels_active{job="settler"}': "6x60",
    'l402_dead_letters_kept{job="settler", stream="DEAD"}': "2x60",
    'l402_ledger_differences{job="settler", weight="contradiction"}': "0x60",
    'l402_ledger_differences{job="settler", weight="lag"}': "3x60",
    'l402_frozen{job="settler", what="escrow"}': "0x60",
    'l402_round_overdue_seconds{job="settler"}': "0 0 30 0 0x56",
    'l402_plan_peers{job="attestor"}': "8x60",
    'l402_plan_peers_fitting{job="attestor"}': "0x5 12x55",
    'l402_bus_backlog{job="settler", consumer="worker-gradient-measure-v1"}': "8 3 0x58",
    'l402_bus_backlog{job="settler", consumer="settler-offer-made-v1"}': "40x60",
    'l402_peers_held_back{job="attestor"}': "0x60",
    'l402_owed_msat{job="settler"}': "3100000x60",
    'l402_credits_msat{job="settler"}': "500000x30 2000000x30",
}
"""A good hour, a sample a minute."""
TROUBLE = {
    "L402PartMissing": ('l402_ready{job="settler", part="bus"}', "0x60"),
    "L402NodeUnfit": ('l402_node_fit{job="settler", check="synced"}', "0x60"),
    "L402GuardianNear": ('l402_guardian_blocks_left{job="settler"}', "47x60"),
    "L402GuardianAlarm": ('l402_guardian_alarms_total{job="settler"}', "0x50 1x10"),
    "L402SlotsShort": ('l402_node_htlc_slots_free{job="settler"}', "95x60"),
    "L402NoChannels": ('l402_node_channels_active{job="settler"}', "0x60"),
    "L402DeadLetters": ('l402_dead_letters_kept{job="settler", stream="DEAD"}', "2x50 3x10"),
    "L402BooksDisagree": ('l402_ledger_differences{job="settler", weight="contradiction"}', "0x50 1x10"),
    "L402Frozen": ('l402_frozen{job="settler", what="escrow"}', "0x40 1x20"),
    "L402RoundLate": ('l402_round_overdue_seconds{job="settler"}', "0x40 0+60x20"),
    "L402OracleDoesNotFit": ('l402_plan_peers_fitting{job="attestor"}', "12x30 5x30"),
    "L402OracleBehind": ('l402_bus_backlog{job="settler", consumer="worker-gradient-measure-v1"}', "0x10 8x50"),
    "L402PayloadIsolated": ('l402_peers_held_back{job="attestor"}', "0x30 1x30"),
    "L402OwedGrows": ('l402_owed_msat{job="settler"}', "0x5 0+100000x55"),
    "L402CreditsGrow": ('l402_credits_msat{job="settler"}', "0+500000x60"),
    "L402BusLag": ('l402_bus_backlog{job="settler", consumer="settler-offer-made-v1"}', "40x40 101x20"),
}
"""What is different from the good hour where that alert must fire, and no other."""


@pytest.fixture(scope="module")
def groups() -> list[dict[str, Any]]:
    """The rules as the chart installs them."""
    found: list[dict[str, Any]] = of(rendered(), "PrometheusRule")["monitoring"]["spec"]["groups"]
    return found


def verdict(folder: Path, groups: list[dict[str, Any]], series: dict[str, str], firing: str | None) -> tuple[int, str]:
    """promtool's exit code and words on: with these series, after 55 minutes, that alert fires and no other."""
    require_real(shutil.which("promtool") is not None, "promtool (Debian: apt-get install prometheus)")
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    rules = [rule for group in groups for rule in group["rules"]]
    expected = []
    for rule in rules:
        fires = rule["alert"] == firing
        # promtool compares whole alerts; of one that fires only its labels are ours to know, so they are asked of its query
        expected.append({"expr": f'count(ALERTS{{alertname="{rule["alert"]}", alertstate="firing"}}) or vector(0)',
                         "eval_time": "55m", "exp_samples": [{"labels": "{}", "value": 1 if fires else 0}]})  # fmt: skip
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": expected,
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_every_alert_is_tried_here(groups: list[dict[str, Any]]) -> None:
    """A new one without its trouble is noticed."""
    assert {rule["alert"] for group in groups for rule in group["rules"]} == set(TROUBLE)


def test_a_good_hour_is_silent(tmp_path: Path, groups: list[dict[str, Any]]) -> None:
    """No alert at all."""
    code, said = verdict(tmp_path, groups, QUIET, None)
    assert code == 0, said


@pytest.mark.parametrize("alert", TROUBLE)
def test_an_alert_fires_on_its_trouble_alone(tmp_path: Path, groups: list[dict[str, Any]], alert: str) -> None:
    """And no other beside it."""
    name, values = TROUBLE[alert]
    code, said = verdict(tmp_path, groups, {**QUIET, name: values}, alert)
    assert code == 0, said
