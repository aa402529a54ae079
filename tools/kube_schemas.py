"""JSON Schemas for kubeconform, made of what Kubernetes, KEDA, prometheus-operator and gateway-api publish in their Go modules.

`tools/kube_schemas.py INTO`: nothing is downloaded but the modules that tools/schemas/go.mod pins. Strict: a field that no
schema names is refused, because a misspelt one would be ignored in silence.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
KUBERNETES = "k8s.io/kubernetes"
CRDS = {
    "github.com/kedacore/keda/v2": "config/crd/bases",
    "github.com/prometheus-operator/prometheus-operator": "example/prometheus-operator-crd",
    "sigs.k8s.io/gateway-api": "config/crd/standard",
}
PASSED_OVER = {"description", "format", "properties"}
FREE = "x-kubernetes-preserve-unknown-fields"
ANY_NUMBER = {"oneOf": [{"type": "string"}, {"type": "number"}]}
QUANTITY = ".resource.Quantity"
"""A string by its schema; the API server takes a number too."""
OF_ITSELF = ".JSONSchemaProps"
"""The one definition that contains itself, and that no chart of ours uses."""


class Loader(yaml.CSafeLoader):
    """Reads a lone `=` as the text that it is."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def modules() -> dict[str, Path]:
    """Where each pinned module lies, downloaded if need be."""
    go = shutil.which("go") or "/usr/local/go/bin/go"
    told = subprocess.run(  # noqa: S603 - the Go that builds the other tools
        [go, "mod", "download", "-json"], cwd=HERE / "schemas", capture_output=True, text=True, check=True
    )
    decoder, found, at = json.JSONDecoder(), {}, 0
    while at < len(told.stdout.rstrip()):
        one, at = decoder.raw_decode(told.stdout, at)
        found[one["Path"]] = Path(one["Dir"])
        at += 1
    return found


def strict(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema by itself: references resolved, unknown fields refused."""
    if isinstance(schema, list):
        return [strict(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        kind = schema["$ref"].rpartition("/")[2]
        if kind.endswith(QUANTITY):
            return ANY_NUMBER
        return {} if kind.endswith(OF_ITSELF) else strict(definitions[kind], definitions)
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return ANY_NUMBER
    made = {key: strict(value, definitions) for key, value in schema.items() if key not in PASSED_OVER}
    if "properties" in schema:
        named = schema["properties"].items()
        made["properties"] = {field: strict(value, definitions) for field, value in named}
        if "additionalProperties" not in schema and not schema.get(FREE):
            made["additionalProperties"] = False
    return made


def kubernetes(root: Path) -> dict[str, Any]:
    """Every kind that the API server itself knows, by file name."""
    definitions = json.loads((root / "api/openapi-spec/swagger.json").read_bytes())["definitions"]
    made = {}
    for definition in definitions.values():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            if "metadata" in definition.get("properties", ()):
                made[name(kind["group"], kind["version"], kind["kind"])] = strict(definition, definitions)
    return made


def custom(root: Path) -> dict[str, Any]:
    """Every kind of the custom resource definitions below a folder."""
    made = {}
    for path in sorted(root.glob("*.yaml")):
        for found in yaml.load_all(path.read_bytes(), Loader=Loader):
            if not found or found.get("kind") != "CustomResourceDefinition":
                continue
            for version in found["spec"]["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"], {})
                schema["properties"]["metadata"] = {
                    "type": "object"
                }  # the API server's own, which no definition repeats
                names = found["spec"]["names"]
                made[name(found["spec"]["group"], version["name"], names["kind"])] = schema
    return made


def name(group: str, version: str, kind: str) -> str:
    """As kubeconform's template asks for it."""
    return f"{group or version}_{version}_{kind}".lower() + ".json"


def main() -> int:
    """Write all of them; exit code 0."""
    into = Path(sys.argv[1])
    into.mkdir(parents=True, exist_ok=True)
    where = modules()
    made = kubernetes(where[KUBERNETES])
    for module, folder in CRDS.items():
        made |= custom(where[module] / folder)
    for file, schema in made.items():
        (into / file).write_text(json.dumps(schema))
    print(f"{len(made)} schemas in {into}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
