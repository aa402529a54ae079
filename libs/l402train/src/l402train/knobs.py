"""Every service's knobs, read from its one config class: environment name, default, bounds, sentence."""

from importlib import import_module
from typing import Any, Literal, get_args, get_origin

import msgspec
from l402core.config import ServiceConfig

CLASSES = (
    ("gateway", "l402_gateway.config", "Config"),
    ("invoicer", "l402_invoicer.config", "Config"),
    ("settler", "l402_settler.config", "Config"),
    ("oracle's attestor", "l402_oracle.config", "AttestorConfig"),
    ("oracle's worker", "l402_oracle.config", "WorkerConfig"),
    ("peer-agent", "l402_peer_agent.config", "Config"),
)
_BOUNDS = (("ge", "≥ {}"), ("gt", "> {}"), ("le", "≤ {}"), ("lt", "< {}"), ("max_length", "at most {} characters"))


class Knob(msgspec.Struct, frozen=True, kw_only=True):
    """One environment variable."""

    service: str
    name: str
    default: str
    bounds: str
    description: str


def knobs() -> tuple[Knob, ...]:
    """Of all services, in order."""
    return tuple(knob for service, module, name in CLASSES for knob in _of(service, _load(module, name)))


def _load(module: str, name: str) -> type[ServiceConfig]:
    loaded: type[ServiceConfig] = getattr(import_module(module), name)
    return loaded


def _of(service: str, config: type[ServiceConfig]) -> list[Knob]:
    prefix = config.model_config.get("env_prefix", "")
    return [
        Knob(
            service=service,
            name=f"{prefix}{name}".upper(),
            default=_default(field.default),
            bounds=_bounds(field.metadata, field.annotation),
            description=field.description or "",
        )
        for name, field in config.model_fields.items()
    ]


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return msgspec.json.encode(value).decode()
    return str(value)


def _bounds(metadata: list[Any], annotation: Any) -> str:
    found = []
    for rule in metadata:
        found += [words.format(_number(getattr(rule, key))) for key, words in _BOUNDS if hasattr(rule, key)]
        if getattr(rule, "pattern", None):
            found.append(f"matches {rule.pattern}")
    if get_origin(annotation) is Literal:
        found.append(" or ".join(str(choice) for choice in get_args(annotation)))
    return ", ".join(found)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
