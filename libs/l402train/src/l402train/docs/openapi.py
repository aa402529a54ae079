"""The OpenAPI documents of what answers HTTP: the gateway, and the attestor's own URL. Nothing behind a route is called."""

from typing import Any, NoReturn

import l402_gateway.openapi
import msgspec
from l402_oracle.adapters.http import RoundSight, attestor_app
from l402_oracle.planning import Plan
from l402core.events import GradientScored
from l402core.evidence import Evidence

_REF = "#/components/schemas/{name}"
_ANSWERS = {
    "/v1/decisions/{commitment}": GradientScored,
    "/v1/receipts/{commitment}": None,
    "/v1/receipts/{commitment}/evidence": Evidence,
    "/v1/rounds/{number}/evidence": Evidence,
    "/v1/plan": Plan,
    "/v1/rounds/{number}": RoundSight,
}
"""What each read of the attestor answers; a receipt is a `Signed`, which `GradientScored` brings with it."""


def gateway() -> dict[str, Any]:
    """The public edge."""
    return l402_gateway.openapi.document()


def attestor() -> dict[str, Any]:
    """What peers may ask the oracle itself."""
    described: dict[str, Any] = attestor_app(_never, _never, _Nothing(), _never).openapi()
    described["servers"] = [{"url": "{attestor_url}", "description": "As a round's terms name it."}]
    _, schemas = msgspec.json.schema_components([GradientScored, RoundSight, Evidence, Plan], ref_template=_REF)
    described.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
    for path, answer in _ANSWERS.items():
        name = answer.__name__ if answer else "Signed"
        content = {"application/json": {"schema": {"$ref": _REF.format(name=name)}}}
        described["paths"][path]["get"]["responses"]["200"] = {"description": "Found.", "content": content}
    return described


async def _never(*_: object) -> NoReturn:
    raise NotImplementedError("only described here")


class _Nothing:
    """Records that are only described."""

    of_round = staticmethod(_never)
    of_submission = staticmethod(_never)
    plan = staticmethod(_never)
