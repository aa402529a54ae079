"""The chart as the real helm renders it, for tests: whole, or what one kind of object says."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.real import require_real

HOUSE = Path(__file__).parents[2]
CHART = HOUSE / "deploy" / "k8s"
BUILT = HOUSE / ".tools" / "deploy" / "helm"
PRODUCTION = CHART / "values-production.yaml"
DEVELOPMENT = CHART / "values-dev.yaml"


def helm(*words: str, ok: bool = True) -> str:
    """What helm prints; where it should refuse, its complaint."""
    program = str(BUILT) if BUILT.exists() else shutil.which("helm")
    require_real(program is not None, "helm (run `make tools-deploy`)")
    done = subprocess.run([str(program), *words], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout if ok else done.stderr


def rendered(*words: str, values: Path = PRODUCTION) -> list[dict[str, Any]]:
    """Every object of the chart with the values of one file and these words."""
    text = helm("template", "here", str(CHART), "-f", str(values), *words)
    return [found for found in yaml.safe_load_all(text) if found]


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Component and pod template of everything that runs."""
    for found in objects:
        if found["kind"] in {"Deployment", "StatefulSet", "Job"}:
            template = found["spec"]["template"]
            yield template["metadata"]["labels"]["app.kubernetes.io/component"], template


def of(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """The objects of one kind by component."""
    return {
        found["metadata"]["labels"]["app.kubernetes.io/component"]: found for found in objects if found["kind"] == kind
    }
