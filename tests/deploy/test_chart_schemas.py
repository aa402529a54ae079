"""Every object of the chart is one that a cluster takes: kubeconform, strict, with the schemas that the projects publish.

Kubernetes' own OpenAPI, and the custom resources of KEDA, prometheus-operator and gateway-api, from their pinned Go modules.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.chart import CHART, DEVELOPMENT, HOUSE, PRODUCTION, helm
from tests.support.real import require_real

KUBECONFORM = HOUSE / ".tools" / "deploy" / "kubeconform"
ON_A_VOLUME = (
    "--set=objects.kind=volume,objects.secret=,gateway.autoscaling.enabled=false,worker.autoscaling.enabled=false"
)
PAIRS = {
    "as in production": (),
    "on one node": ("-f", str(DEVELOPMENT)),
    "gateway API instead of an ingress": (
        "--set=ingress.enabled=false,gatewayApi.enabled=true,gatewayApi.hosts.gateway=a.example",
        "--set=gatewayApi.hosts.attestor=b.example,gatewayApi.parentRefs[0].name=edge",
    ),
    "objects on a volume, nothing scales": (ON_A_VOLUME,),
    "everything that can be seen": (
        "--set=monitoring.serviceMonitor.enabled=true,monitoring.rules.enabled=true,monitoring.dashboards.enabled=true",
    ),
    "the coordinator alone": ("--set=attestor.enabled=false,worker.enabled=false",),
    "the oracle alone": ("--set=gateway.enabled=false,invoicer.enabled=false,settler.enabled=false",),
}

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("schemas")]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of the modules, in a folder."""
    require_real(shutil.which("go") is not None or Path("/usr/local/go/bin/go").exists(), "Go 1.26")
    into = tmp_path_factory.mktemp("schemas")
    subprocess.run([sys.executable, HOUSE / "tools" / "kube_schemas.py", into], check=True, timeout=280)
    return into


def complaints(text: str, schemas: Path) -> str:
    """What kubeconform says of these objects; '' for nothing."""
    require_real(KUBECONFORM.exists(), "kubeconform (run `make tools-deploy`)")
    place = f"{schemas}/{{{{.Group}}}}_{{{{.ResourceAPIVersion}}}}_{{{{.ResourceKind}}}}.json"
    words = [str(KUBECONFORM), "-strict", "-schema-location", place, "-"]
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=120, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("case", PAIRS)
def test_a_cluster_takes_every_object(case: str, schemas: Path) -> None:
    """Whichever way the chart is used."""
    text = helm("template", "here", str(CHART), "-f", str(PRODUCTION), *PAIRS[case])
    assert not complaints(text, schemas)


def test_a_misspelt_field_and_an_unknown_kind_are_refused(schemas: Path) -> None:
    """Else the cluster would drop the field in silence."""
    text = helm("template", "here", str(CHART), "-f", str(PRODUCTION))
    assert "readinessProb" in complaints(text.replace("readinessProbe:", "readinessProb:"), schemas)
    assert "could not find schema for ScaledObjekt" in complaints(text.replace("ScaledObject", "ScaledObjekt"), schemas)
    assert complaints(text.replace("terminationGracePeriodSeconds: ", "terminationGracePeriodSeconds: a"), schemas)
