"""The charts on a Kubernetes, as a running system for tests: installed by helm, asked by kubectl.

What it says by its own books, and waiting for it, is what `tests.containers` says of the same system under compose.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.containers.system import HOUSE, PATIENCE_S, System
from tests.support.real import require_real

CHART, SIMNET = HOUSE / "deploy" / "k8s", HOUSE / "deploy" / "simnet"
TAG = os.environ.get("TAG", "0.1.0")
OURS = ("gateway", "invoicer", "settler", "oracle", "peer-agent", "l402-train", "lightning")
PARTS = ("nats:2.12-alpine", "redis:7-alpine", "postgres:17-alpine")
NAMESPACE = "l402-test"
SERVICES = ("gateway", "invoicer", "settler", "attestor", "worker")
HELD = "autoscaling.keda.sh/paused-replicas"
TORCH = os.environ.get("TORCH_FOLDER", "")
"""The node's folder with torch, where images lack it (WITHOUT_TORCH=1 make images)."""


def run(*words: str, check: bool = True, timeout_s: float = PATIENCE_S) -> str:
    """What a program prints. Raises AssertionError with its complaint."""
    done = subprocess.run([*words], capture_output=True, text=True, timeout=timeout_s, check=False)
    assert not check or done.returncode == 0, f"{' '.join(words)}: {(done.stdout + done.stderr)[-3000:]}"
    return done.stdout


def program(name: str, folder: str, how: str) -> str:
    """Ours, or the machine's."""
    built = HOUSE / ".tools" / folder / name
    found = str(built) if built.exists() else shutil.which(name)
    require_real(found is not None, f"{name} (run `make {how}`)")
    return str(found)


class Cluster(System):
    """The releases `train` and `simnet` in one namespace."""

    def __init__(self) -> None:
        super().__init__(NAMESPACE)
        self._kubectl = program("kubectl", "kubernetes", "tools-cluster")
        self._helm = program("helm", "deploy", "tools-deploy")
        self.folder = Path(tempfile.mkdtemp(prefix="l402-cluster-"))

    def kubectl(self, *words: str, check: bool = True) -> str:
        """In the tests' namespace."""
        return run(self._kubectl, "-n", NAMESPACE, *words, check=check)

    def helm(self, *words: str) -> str:
        """In the tests' namespace."""
        return run(self._helm, "-n", NAMESPACE, *words)

    def get(self, *words: str) -> Any:
        """Objects as the API server has them."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def pods(self, component: str) -> list[str]:
        """Names of one service's pods that are not on their way out."""
        found = self.get("pods", "-l", f"app.kubernetes.io/component={component}")["items"]
        return [one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]]

    def address(self, service: str) -> str:
        """Of a Service, which this machine reaches as a pod would."""
        told: str = self.get("service", service)["spec"]["clusterIP"]
        return told

    def values(self) -> list[str]:
        """Helm's words for the release of ours."""
        mounted = {
            "extraVolumes": [{"name": "torch", "hostPath": {"path": TORCH, "type": "Directory"}}],
            "extraVolumeMounts": [{"name": "torch", "mountPath": "/app/torch", "readOnly": True}],
        }
        more: dict[str, Any] = {"image": {"tag": TAG}}
        if TORCH:
            more |= dict.fromkeys(("attestor", "worker", "migrate"), mounted)
        (self.folder / "more.json").write_text(json.dumps(more))
        files = (CHART / "values-dev.yaml", self.folder / "values.yaml", self.folder / "more.json")
        return [word for file in files for word in ("-f", str(file))]

    def lags(self) -> dict[tuple[str, str, str], int]:
        """Messages that wait or are under way, by account, stream and consumer, as NATS tells KEDA."""
        url = f"http://{self.address('nats')}:8222/jsz?acc=$G&consumers=true&config=true"
        with urllib.request.urlopen(url, timeout=20) as answer:
            told = json.load(answer)
        return {
            (account["name"], stream["name"], one["name"]): one["num_pending"] + one["num_ack_pending"]
            for account in told["account_details"]
            for stream in account["stream_detail"]
            for one in stream.get("consumer_detail", ())
        }

    def lag(self, consumers: set[str]) -> int:
        """Of these together."""
        return sum(waiting for (_, _, name), waiting in self.lags().items() if name in consumers)

    def has_keda(self) -> bool:
        """Whether the cluster knows its kinds."""
        return bool(self.kubectl("get", "crd", "scaledobjects.keda.sh", "--ignore-not-found", "-o", "name").strip())

    def hold_workers(self) -> None:
        """KEDA's own way to hold what it scales."""
        self.kubectl("annotate", "scaledobject", "train-worker", f"{HELD}=0")

    def release_workers(self) -> None:
        """As the lag wants them again."""
        self.kubectl("annotate", "scaledobject", "train-worker", f"{HELD}-")

    # --- what System asks of docker ---------------------------------------------------------------------------------

    def rows(self, query: str) -> list[tuple[str, ...]]:
        """A query on the settler's books."""
        words = ["psql", "-U", "l402", "-d", "books", "-At", "-F", "|", "-c", query]
        told = self.kubectl("exec", "deploy/postgres", "--", *words)
        return [tuple(line.split("|")) for line in told.splitlines()]

    def operator(self, *words: str, check: bool = True) -> str:
        """What `l402-train` prints for an operator of this network."""
        service = ["python3.11", "/app/site/bin/service"]
        return self.kubectl("exec", "deploy/operator", "--", *service, *words, check=check)

    def last_words(self) -> str:
        """Pods, what the cluster complained of, the end of every service's log."""
        told = self.kubectl("get", "pods", check=False)
        told += self.kubectl("get", "events", "--field-selector=type=Warning", check=False)[-3000:]
        for name in SERVICES:
            told += self.kubectl("logs", "-l", f"app.kubernetes.io/component={name}", "--tail=8", check=False)
        return told[-15_000:]

    # --- coming and going -------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Parts that are not ours, then ours, then those who pay and are paid."""
        secrets = [sys.executable, str(HOUSE / "tools" / "simnet.py"), "--namespace", NAMESPACE]
        self.kubectl("create", "namespace", NAMESPACE)
        run(*secrets, "secrets", str(self.folder))
        simnet = [f"image.tag={TAG}", "image.pullPolicy=Never", f"torchFolder={TORCH}"]
        self.helm("install", "simnet", str(SIMNET), "--set", ",".join(simnet), "--wait", "--timeout=6m")
        self.kubectl("wait", "--for=condition=complete", "job/lightning", "--timeout=300s")
        run(*secrets, "macaroons")
        self.helm("install", "train", str(CHART), *self.values(), "--wait", "--timeout=8m")
        self.helm(
            "upgrade", "simnet", str(SIMNET), "--reuse-values", "--set=peers.enabled=true", "--wait", "--timeout=6m"
        )

    def upgrade(self, *words: str) -> None:
        """The release of ours with something else, until it is ready."""
        self.helm("upgrade", "train", str(CHART), *self.values(), *words, "--wait", "--timeout=8m")

    def uninstall(self) -> None:
        """Ours, then the rest, and the namespace with what is left in it."""
        for release in ("train", "simnet"):
            self.helm("uninstall", release, "--ignore-not-found", "--wait", "--timeout=5m")
        self.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=180s")
        shutil.rmtree(self.folder)


@contextmanager
def running() -> Iterator[Cluster]:
    """The system on the cluster of KUBECONFIG, or on one of this machine that goes again; nothing of it is left after."""
    ours = not os.environ.get("KUBECONFIG")
    house = [sys.executable, str(HOUSE / "tools" / "cluster")]
    folder = HOUSE / ".tools" / "cluster"
    if ours:
        require_real(os.geteuid() == 0, "root, to start a cluster (or a KUBECONFIG)")
        run(*house, "up")
        os.environ["KUBECONFIG"] = str(folder / "kubeconfig")
    try:
        if ours:
            run(*house, "load", *(f"l402-train/{name}:{TAG}" for name in OURS), *PARTS)
            run(*house, "keda")
        system = Cluster()
        try:
            system.install()
            yield system
        finally:
            kept = os.environ.get("KEEP_LOGS")
            if kept:
                Path(kept).write_text(system.last_words())
            system.uninstall()
    finally:
        if ours:
            del os.environ["KUBECONFIG"]
            run(*house, "down")
