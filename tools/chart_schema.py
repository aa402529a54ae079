"""The chart's schema, made from its values and from the services' own knobs: a name that no service reads is refused.

`python tools/chart_schema.py [--check]`. It knows the shape of values.yaml, and refuses to know what a template does with it.
"""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).parent.parent / "deploy" / "k8s"
CONFIGS: Final = {
    "gateway": ("l402_gateway.config", "Config"),
    "invoicer": ("l402_invoicer.config", "Config"),
    "settler": ("l402_settler.config", "Config"),
    "attestor": ("l402_oracle.config", "AttestorConfig"),
    "worker": ("l402_oracle.config", "WorkerConfig"),
}
WIRED: Final = frozenset({
    "http_host", "http_port", "data_dir", "key_file", "lnd_host", "lnd_tls_cert", "lnd_macaroon", "lnd_network", "nats_url",
    "redis_url", "database_url", "objects_url", "attestor_public", "reading_public", "attestor_url", "attestor",
    "settler_public",
})  # fmt: skip
"""What the templates set from elsewhere in the values; to set it twice would leave the second without a word."""
FREE: Final = frozenset({
    "resources", "podAnnotations", "serviceAccountAnnotations", "nodeSelector", "annotations", "labels", "tolerations",
    "extraEnv",
})  # fmt: skip
"""Kubernetes' own words, which its own server checks."""
CHOICES: Final[dict[str, dict[str, Any]]] = {
    "network": {"enum": ["mainnet", "testnet", "signet", "regtest", "simnet"]},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "objects.kind": {"enum": ["s3", "volume"]},
    "objects.url": {"pattern": "^s3://[a-z0-9.-]+(/.*)?$"},
    "public.attestor": {"pattern": "^([0-9a-f]{64})?$"},
    "public.reading": {"pattern": "^([0-9a-f]{64})?$"},
    "public.settler": {"pattern": "^([0-9a-f]{64})?$"},
}
SERVICE_TYPES: Final = {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}
REFERENCE: Final = {
    "type": "object",
    "properties": {"secret": {"type": "string"}, "key": {"type": "string"}},
    "additionalProperties": False,
}


def schema(values: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema (draft 7, which Helm reads) of the chart's values."""
    made = _shape(values, "")
    for service, (module, name) in CONFIGS.items():
        made["properties"][service]["properties"]["config"] = config(module, name)
        made["properties"][service]["properties"]["nats"] = REFERENCE
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "l402-train", **made}


def config(module: str, name: str) -> dict[str, Any]:
    """A service's knobs, with their types, bounds and sentences, less those that the chart wires."""
    known = getattr(import_module(module), name).model_json_schema()["properties"]
    kept = {key: _plain(field) for key, field in known.items() if key not in WIRED}
    return {"type": "object", "properties": kept, "additionalProperties": False}


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    """Without pydantic's titles and defaults; exclusive bounds are draft 7's already."""
    return {key: value for key, value in field.items() if key not in {"title", "default", "format"}}


def _shape(value: Any, path: str) -> dict[str, Any]:
    last = path.rpartition(".")[2]
    if last == "serviceType":
        return {"type": "string", **SERVICE_TYPES}
    if isinstance(value, dict) and last not in FREE:
        properties = {key: _shape(entry, f"{path}.{key}".lstrip(".")) for key, entry in value.items()}
        if last == "autoscaling":  # a service that scales says the rest; every one may be told not to
            properties |= {key: {"type": "integer", "minimum": 1} for key in ("min", "max")}
        return {"type": "object", "properties": properties, "additionalProperties": False}
    if isinstance(value, bool):
        kind: dict[str, Any] = {"type": "boolean"}
    elif isinstance(value, int):
        kind = {"type": "integer", "minimum": 0}
    elif isinstance(value, dict | list):
        kind = {"type": "object" if isinstance(value, dict) else "array"}
    else:
        kind = {"type": "string"}
    return {**kind, **CHOICES.get(path, {})}


def main() -> int:
    """Write the schema, or with --check say whether the one that is there is the code's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the schema is stale")
    options = parser.parse_args()
    file = CHART / "values.schema.json"
    made = json.dumps(schema(yaml.safe_load((CHART / "values.yaml").read_text())), indent=2, ensure_ascii=False) + "\n"
    if options.check:
        stale = not file.exists() or file.read_text() != made
        if stale:
            sys.stderr.write(f"{file.name} is not the code's: make it again with python tools/chart_schema.py\n")
        return int(stale)
    file.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
