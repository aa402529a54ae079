"""KEDA as its own module ships it, but for the images, which are made of the programs that tools/build-kubernetes built."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from layout import PROGRAMS

IMAGES: Final = {"keda": "l402-train/keda:local", "keda-adapter": "l402-train/keda-adapter:local"}
"""Program and image; the manifests call them by the same commands."""
CONFIG: Final = PROGRAMS / "keda-config"
DEFINITIONS: Final = ("crd/bases",)
REST: Final = ("general", "service_account", "rbac", "manager", "metrics-server")


def definitions() -> str:
    """The kinds that it adds, to be known before the rest."""
    return _list(list(_objects(*DEFINITIONS)))


def rest() -> str:
    """The operator and the adapter that tells its numbers to the autoscaler."""
    made = list(_objects(*REST))
    for one in made:
        if one["kind"] == "Deployment":
            for container in one["spec"]["template"]["spec"]["containers"]:
                program = Path(container["command"][0]).name
                container |= {"image": IMAGES[program], "imagePullPolicy": "Never"}
                container["securityContext"]["runAsUser"] = 65532
    return _list(made)


def _objects(*folders: str) -> Iterator[dict[str, Any]]:
    for folder in folders:
        for path in sorted((CONFIG / folder).glob("*.yaml")):
            if path.name != "kustomization.yaml":
                yield from (one for one in yaml.safe_load_all(path.read_text()) if one)


def _list(objects: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
