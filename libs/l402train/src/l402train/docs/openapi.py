"""The OpenAPI documents of what answers HTTP: the gateway, and the attestor's own URL."""

from importlib import import_module
from typing import Any

SOURCES = {"gateway": "l402_gateway.openapi", "attestor": "l402_oracle.openapi"}
"""Modules with a `document()`."""

ATTESTOR = {"url": "{attestor_url}", "description": "As a round's terms name it."}


def document() -> dict[str, Any]:
    """Both in one: paths of the attestor's carry the server they are on."""
    merged: dict[str, Any] = {}
    for service, module in SOURCES.items():
        part: dict[str, Any] = import_module(module).document()
        where = {} if service == "gateway" else {"servers": [ATTESTOR]}
        for path, item in part.get("paths", {}).items():
            merged.setdefault("paths", {}).setdefault(path, {}).update({**item, **where})
        for kind, named in part.get("components", {}).items():
            merged.setdefault("components", {}).setdefault(kind, {}).update(named)
        merged = {**part, **merged} if service == "gateway" else merged
    return merged
