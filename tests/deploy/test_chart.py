"""The chart says what it should, whichever values: nothing runs as root, nothing is unbounded, and its words are the code's.

Rendered by the real helm; what a template does not say, no cluster can.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from l402train.docs.metrics import TOLD, told_by
from l402train.knobs import knobs
from l402train.migration import consumers

from tests.deploy.chart import CHART, DEVELOPMENT, HOUSE, PRODUCTION, helm, of, pods, rendered

REACH_LND = {"invoicer", "settler", "attestor"}
PREFIXES = {
    "gateway": "GATEWAY",
    "invoicer": "INVOICER",
    "settler": "SETTLER",
    "attestor": "ATTESTOR",
    "worker": "WORKER",
}

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    """With the production values alone."""
    return rendered()


@pytest.fixture(scope="module", params=[PRODUCTION, DEVELOPMENT], ids=lambda path: path.stem)
def either(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """With the values for production, and with those for one node."""
    return rendered(values=request.param)


@pytest.mark.parametrize("values", [PRODUCTION, DEVELOPMENT], ids=lambda path: path.stem)
def test_helm_finds_nothing_wrong(values: Path) -> None:
    """Strict: a warning is an error."""
    helm("lint", "--strict", str(CHART), "-f", str(values))


def test_every_service_runs(either: list[dict[str, Any]]) -> None:
    """All five, the oracle in its two roles, and the migration before them."""
    assert {name for name, _ in pods(either)} == {*PREFIXES, "migrate"}


def test_no_pod_may_do_what_it_need_not(either: list[dict[str, Any]]) -> None:
    """Not root, no privilege, no capability, no writable root, no token of the cluster's, no other service's address."""
    for name, template in pods(either):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_everything_has_a_limit_and_a_version(either: list[dict[str, Any]]) -> None:
    """Memory, temporary space, and an image that tomorrow is the same."""
    for name, template in pods(either):
        for container in template["spec"]["containers"]:
            assert "memory" in container["resources"]["limits"], name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert container["image"].rpartition(":")[2] not in {"", "latest"}, name
        for volume in template["spec"]["volumes"]:
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"], name


def test_probes_tell_alive_from_ready(either: list[dict[str, Any]]) -> None:
    """A part that is away takes a pod out of service; only a stuck loop has it restarted."""
    for name, template in pods(either):
        if name == "migrate":
            continue
        container = template["spec"]["containers"][0]
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez", name
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz", name
        assert template["spec"]["terminationGracePeriodSeconds"] >= 60, name


def test_a_drain_takes_one_pod_at_a_time_and_is_never_held_up(either: list[dict[str, Any]]) -> None:
    """A budget for each service, of its own pods alone, that lets one go however few there are, and any that is not ready."""
    budgets = of(either, "PodDisruptionBudget")
    assert set(budgets) == set(PREFIXES)
    for name, budget in budgets.items():
        spec = budget["spec"]
        assert selected(either, spec["selector"]) == {name}
        assert spec["maxUnavailable"] == 1, name
        assert "minAvailable" not in spec, name
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow", name


def test_pods_of_a_service_spread_over_nodes_and_run_where_there_is_only_one(either: list[dict[str, Any]]) -> None:
    """Each counts its own kind alone: a node full of workers is no reason against a settler there."""
    for name, template in pods(either):
        if name == "migrate":
            continue
        (spread,) = template["spec"]["topologySpreadConstraints"]
        assert selected(either, spread["labelSelector"]) == {name}
        assert (spread["topologyKey"], spread["maxSkew"]) == ("kubernetes.io/hostname", 1), name
        assert spread["whenUnsatisfiable"] == "ScheduleAnyway", name


def selected(objects: list[dict[str, Any]], selector: dict[str, Any]) -> set[str]:
    """Whose pods a selector of labels means; of another release, none."""
    assert set(selector) == {"matchLabels"}
    assert selector["matchLabels"]["app.kubernetes.io/instance"] == "here"
    return {
        name
        for name, template in pods(objects)
        if selector["matchLabels"].items() <= template["metadata"]["labels"].items()
    }


def test_the_attestor_is_reached_when_it_is_not_ready(either: list[dict[str, Any]]) -> None:
    """What it has decided is a peer's to fetch, whatever becomes of its node; nobody else is asked while it is unready."""
    found = {name for name, one in of(either, "Service").items() if one["spec"].get("publishNotReadyAddresses")}
    assert found == {"attestor"}


def test_only_who_moves_money_or_reads_heights_reaches_a_node(either: list[dict[str, Any]]) -> None:
    """By network policy, and by who has a macaroon; each has its own."""
    policies = of(either, "NetworkPolicy")
    macaroons = []
    for name, template in pods(either):
        ports = [port["port"] for rule in policies[name]["spec"]["egress"] for port in rule["ports"]]
        assert (10009 in ports) is (name in REACH_LND), name
        mounted = [volume for volume in template["spec"]["volumes"] if volume["name"] == "lnd"]
        assert bool(mounted) is (name in REACH_LND), name
        macaroons += [(volume["secret"]["secretName"], volume["secret"]["items"][1]["key"]) for volume in mounted]
    assert len(set(macaroons)) == len(REACH_LND)


def test_whatever_no_policy_names_is_denied(either: list[dict[str, Any]]) -> None:
    """One policy selects every pod of the release and allows nothing."""
    deny = of(either, "NetworkPolicy")["network"]["spec"]
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in deny
    assert "egress" not in deny
    for _, template in pods(either):
        assert deny["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_every_variable_is_one_that_the_code_reads(either: list[dict[str, Any]]) -> None:
    """And each of the code's is either wired here or may be set in `config`."""
    known = {knob.name for knob in knobs()}
    schema = json.loads((CHART / "values.schema.json").read_text())
    for name, template in pods(either):
        if name == "migrate":
            continue
        said = {variable["name"] for variable in template["spec"]["containers"][0]["env"]}
        ours = {variable for variable in said if variable.startswith("L402_")}
        assert ours <= known, name
        prefix = f"L402_{PREFIXES[name]}_"
        settable = {prefix + key.upper() for key in schema["properties"][name]["properties"]["config"]["properties"]}
        assert {knob for knob in known if knob.startswith(prefix)} == settable | {
            variable for variable in ours if variable not in settable
        }, name


def test_the_schema_is_the_codes() -> None:
    """Made again it is the same."""
    done = subprocess.run(
        [sys.executable, str(HOUSE / "tools" / "chart_schema.py"), "--check"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("settler.config.places=0", "minimum"),
        ("settler.config.plaecs=8", "plaecs"),
        ("settler.config.http_port=1", "http_port"),
        ("network=main", "network"),
        ("gatewaay.replicas=1", "gatewaay"),
    ],
)
def test_values_that_mean_nothing_are_refused(wrong: str, why: str) -> None:
    """Before anything is installed, with the name of what is wrong."""
    said = helm("template", "here", str(CHART), "-f", str(PRODUCTION), "--set", wrong, ok=False)
    assert why in said


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("settler.lnd.host", "settler.lnd.host"),
        ("public.attestor", "public.attestor"),
        ("worker.keys.secret", "worker.keys.secret"),
        ("nats.secret", "NATS_URL needs the name of a secret"),
    ],
)
def test_what_is_needed_and_missing_is_named(missing: str, named: str) -> None:
    """Not an empty variable that fails in the pod."""
    assert named in helm("template", "here", str(CHART), "-f", str(PRODUCTION), "--set", f"{missing}=", ok=False)


def test_whole_numbers_stay_whole() -> None:
    """YAML's large numbers are floats to a template, and 1e+10 is no integer to a service."""
    found = dict(pods(rendered("--set-json", "settler.config.day_cap_msat=10000000000")))
    variables = {entry["name"]: entry.get("value") for entry in found["settler"]["spec"]["containers"][0]["env"]}
    assert variables["L402_SETTLER_DAY_CAP_MSAT"] == "10000000000"
    lists = dict(pods(rendered("--set-json", 'settler.config.expected_peers=["ab"]')))
    variables = {entry["name"]: entry.get("value") for entry in lists["settler"]["spec"]["containers"][0]["env"]}
    assert variables["L402_SETTLER_EXPECTED_PEERS"] == '["ab"]'


def test_keda_watches_consumers_that_exist(objects: list[dict[str, Any]]) -> None:
    """By the names that the migration declares; and it has a number to fall back to."""
    scaled = of(objects, "ScaledObject")["worker"]["spec"]
    declared = {(consumer.event.stream, consumer.durable) for consumer in consumers() if consumer.service == "worker"}
    watched = {(trigger["metadata"]["stream"], trigger["metadata"]["consumer"]) for trigger in scaled["triggers"]}
    assert watched
    assert watched <= declared
    assert scaled["fallback"]["replicas"] >= 1


def test_a_gpu_is_not_asked_for_twice(objects: list[dict[str, Any]]) -> None:
    """A second pod beside the first would wait for the same card."""
    strategy = of(objects, "Deployment")["worker"]["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxUnavailable": 1, "maxSurge": 0}


def test_every_alert_has_its_page(objects: list[dict[str, Any]]) -> None:
    """A runbook that is there, and a metric that the code tells."""
    rules = of(objects, "PrometheusRule")["monitoring"]["spec"]["groups"][0]["rules"]
    assert rules
    known = {one.name for service in TOLD for one in told_by(service)}
    for rule in rules:
        assert (HOUSE / rule["annotations"]["runbook_url"]).is_file(), rule["alert"]
        assert set(re.findall(r"l402_[a-z_]+", rule["expr"])) <= known, rule["alert"]
