"""The chart on a real Kubernetes, on real lnds: installed, it pays what was earned; scaled, upgraded, rolled back, drained.

One system for all tests, in their order; each ends by asking that every escrow is over and that books and node agree.
"""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.system import CHART, SERVICES, Cluster, running
from tests.support.real import require_real

pytestmark = [pytest.mark.real, pytest.mark.timeout(3_600), pytest.mark.xdist_group("cluster")]

WAITING = {"worker-gradient-uploaded-v1", "worker-gradient-measure-v1"}
"""Consumers whose lag counts what is to be measured."""


@pytest.fixture(scope="module")
def system() -> Iterator[Cluster]:
    with running() as up:
        yield up
        for fault, seconds in up.recoveries:
            print(f"a reward settled {seconds:5.0f} s after: {fault}")  # noqa: T201 - with `pytest -s`, and in CI's log


def test_honest_gradients_are_paid_and_others_return(system: Cluster) -> None:
    """Through the gateway's Service: two honest peers earn, the one that flips its signs gets nothing."""
    paid, unpaid = system.paid_and_unpaid()
    assert paid >= 4, "two honest peers, three rounds; who comes too late for the first has no rungs in it"
    assert unpaid >= 2, "one cheat, three rounds"


def test_the_services_answer_by_their_names(system: Cluster) -> None:
    """Every part of every service is there, by the address that peers use."""
    for service, port in (("train-gateway", 8402), ("train-attestor", 8403)):
        with urllib.request.urlopen(f"http://{system.address(service)}:{port}/readyz", timeout=20) as answer:
            assert all(json.load(answer).values()), service


_TRIED = """
import json, os, pathlib
def writes(folder):
    try:
        pathlib.Path(folder, "tried").write_text("x")
    except OSError as error:
        return error.strerror
    return "written"
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "user": os.getuid(), "root": writes("/app"), "etc": writes("/etc"), "tmp": writes("/tmp"),
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16), "no_new": int(status["NoNewPrivs"]),
    "seccomp": int(status["Seccomp"]), "token": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"),
}))
"""


@pytest.mark.parametrize("component", SERVICES)
def test_a_running_pod_may_do_no_more_than_the_chart_says(system: Cluster, component: str) -> None:
    """Seen from inside: nobody in particular, nothing to write but its own folders, no capability, no token."""
    seen = json.loads(system.kubectl("exec", system.pods(component)[0], "--", "python3.11", "-c", _TRIED))
    assert seen.pop("root") == seen.pop("etc") == "Read-only file system"
    assert seen == {"user": 65532, "tmp": "written", "capabilities": 0, "no_new": 1, "seccomp": 2, "token": False}


def test_the_scaler_asks_for_consumers_that_nats_has(system: Cluster) -> None:
    """KEDA's query, by the names of the rendered chart, on NATS's own monitoring: streams, consumers and their lag."""
    words = ["--set=worker.autoscaling.enabled=true", "--show-only=templates/scaling.yaml"]
    scaled = yaml.safe_load(system.helm("template", "train", str(CHART), *system.values(), *words))
    watched = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]
    assert {one["consumer"] for one in watched} == WAITING
    lags = system.lags()
    for one in watched:
        assert (one["account"], one["stream"], one["consumer"]) in lags


SCALED = {
    "enabled": "true", "min": "1", "max": "3", "lagPerWorker": "1", "pollingSeconds": "5", "cooldownSeconds": "20",
    "monitoringEndpoint": "nats.l402-test.svc.cluster.local:8222",
}  # fmt: skip


def test_keda_brings_workers_for_a_backlog_and_takes_them_away(system: Cluster) -> None:
    """1, 3, 1 by the lag that NATS tells. Held back until a round's gradients wait, and every one of them is decided."""
    require_real(system.has_keda(), "KEDA on the cluster (`make test-cluster` builds it and puts it on its own)")
    system.upgrade("--set=" + ",".join(f"worker.autoscaling.{name}={value}" for name, value in SCALED.items()))
    system.kubectl("wait", "--for=condition=Ready", "scaledobject/train-worker", "--timeout=120s")
    system.hold_workers()
    system.until("no worker runs", lambda: not system.pods("worker"))
    system.until("a round's gradients wait", lambda: system.lag(WAITING) >= 3)
    now = system.round()
    system.release_workers()
    for wanted in (3, 1):
        system.until(f"KEDA has {wanted} workers", lambda wanted=wanted: len(system.pods("worker")) == wanted)  # type: ignore[misc]
    system.after("a backlog", now)
    system.is_whole()
    undecided = f"select count(*) from submissions where round = {now} and upload is not null and scored is null"  # noqa: S608 - ours
    assert system.number(undecided) == 0
    system.upgrade()
    assert len(system.pods("worker")) == 1


def test_workers_come_and_go_and_no_judgement_is_lost(system: Cluster) -> None:
    """1, 3, 1 in mid-round, by hand: every submission of those rounds is decided."""
    for replicas in (3, 1):
        now = system.mid_round()
        system.kubectl("scale", "deployment/train-worker", f"--replicas={replicas}")
        system.until(f"{replicas} workers run", lambda wanted=replicas: len(system.pods("worker")) == wanted)  # type: ignore[misc]
        system.after(f"{replicas} oracle workers", now)
    system.is_whole()
    lost = "select count(*) from submissions where round < (select max(round) from rounds) and state <> 'ended'"
    assert system.number(lost) == 0


def test_an_upgrade_and_its_way_back_in_mid_round(system: Cluster) -> None:
    """Every pod of ours is replaced, twice; the migration runs before each."""
    before = {name: system.pods(name) for name in SERVICES}
    now = system.mid_round()
    marked = ",".join(f"{name}.podAnnotations.version=next" for name in SERVICES)
    system.upgrade(f"--set={marked},settler.replicas=2")
    system.after("an upgrade", now)
    system.is_whole()
    after = {name: system.pods(name) for name in SERVICES}
    assert len(after["settler"]) == 2
    gone = {name: set(before[name]) & set(after[name]) for name in SERVICES if name != "invoicer"}
    assert not any(gone.values()), gone
    now = system.mid_round()
    system.helm("rollback", "train", "--wait", "--timeout=8m")
    system.after("the way back", now)
    system.is_whole()
    assert len(system.pods("settler")) == 1


def test_a_node_is_drained(system: Cluster) -> None:
    """All our pods are asked to leave at once, find no other node, and go on when it may be used again."""
    now = system.mid_round()
    node: dict[str, Any] = system.get("nodes")["items"][0]
    name = node["metadata"]["name"]
    ours = "--pod-selector=app.kubernetes.io/name=l402-train"
    system.kubectl("drain", name, ours, "--delete-emptydir-data", "--timeout=240s")
    system.kubectl("uncordon", name)
    system.after("a drained node", now)
    system.is_whole()


def test_nothing_is_left_of_the_release(system: Cluster) -> None:
    """But for the claim of the invoicer's disk, as Kubernetes keeps those of a StatefulSet."""
    system.helm("uninstall", "train", "--wait", "--timeout=5m")
    kinds = "all,secret,configmap,serviceaccount,networkpolicy,pdb,pvc,job"
    left = system.get(kinds, "-l", "app.kubernetes.io/instance=train")["items"]
    assert [(one["kind"], one["metadata"]["name"]) for one in left] == [
        ("PersistentVolumeClaim", "data-train-invoicer-0")
    ]
