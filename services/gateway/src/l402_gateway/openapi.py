"""The OpenAPI document of the whole edge: FastAPI's own routes, and the paid path by hand. It serves nothing."""

from typing import Any, cast

import msgspec
from fastapi import FastAPI
from l402core.events import ChannelsView, RoundView, SponsorshipView, SubmissionView
from l402core.peerauth import PEER_HEADER, SIGNATURE_HEADER, TIME_HEADER
from l402core.signing import Signed

from l402_gateway.app import Gateway
from l402_gateway.bodies import Locks
from l402_gateway.control_plane import Credit, build
from l402_gateway.hints import Hints
from l402_gateway.library import Library
from l402_gateway.manifest import BASE
from l402_gateway.paid import NONCE_HEADER, PAYLOAD_HASH_HEADER
from l402_gateway.problems import MEDIA_TYPE, STATUSES, Problem
from l402_gateway.seeing import Seeing
from l402_gateway.sponsors import PATH as PLEDGES

_REF = "#/components/schemas/{name}"
_STRUCTS = (Problem, RoundView, SubmissionView, ChannelsView, SponsorshipView, Signed, Credit, Locks)
_ANSWERS: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "/v1/rounds/current": ("get", RoundView),
    "/v1/rounds/{round}": ("get", RoundView),
    BASE: ("get", SubmissionView),
    "/v1/channels": ("get", ChannelsView),
    "/v1/credits": ("post", Credit),
    PLEDGES: ("post", SponsorshipView),
    PLEDGES + "/{sponsorship}": ("get", SponsorshipView),
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1, the same bytes every time for the same code."""
    # Only the routes are read; nothing behind them is called.
    app = build(cast(Gateway, None), cast(Hints, None), cast(Library, None), cast(Seeing, None), _never_ready)
    return described(app)


def described(app: FastAPI) -> dict[str, Any]:
    """The app's schema with the paid path, the answers' schemas and the two ways to prove oneself."""
    schema = app.openapi()
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=_REF)
    parts = schema.setdefault("components", {})
    parts.setdefault("schemas", {}).update(components)
    parts["securitySchemes"] = {
        "l402": {"type": "http", "scheme": "L402", "description": "`L402 <base64 macaroon>:<preimage, 64 hex digits>`"},
        "peer": {
            "type": "apiKey", "in": "header", "name": SIGNATURE_HEADER,
            "description": f"BIP340 signature over method, path, sha256 of the body and {TIME_HEADER} by {PEER_HEADER}.",
        },
    }  # fmt: skip
    for path, (method, kind) in _ANSWERS.items():
        for status, response in schema["paths"][path][method]["responses"].items():
            if status.startswith("2"):
                response["content"] = _content(kind)
    schema["paths"]["/v1/credits"]["post"]["parameters"] = _signature()
    schema["paths"][PLEDGES]["post"].update({"parameters": _signature(), "requestBody": _json_body(Signed)})
    for step, operation in _paid().items():
        schema["paths"].setdefault(BASE + step, {}).update(operation)
    return schema


def _paid() -> dict[str, dict[str, Any]]:
    view = "the submission"
    return {
        "": _step("post", "Open the submission.", _json_body(Signed), {"201": view, "202": "no offer yet: ask again"}),
        "/locks": _step("post", "Hand in the reward invoices.", _json_body(Locks), {"202": view}),
        "/accepted": _step("post", "Every rung waits at the peer's node.", _json_body(Signed), {"202": view}),
        "/gradient": _step(
            "put", "Upload the sealed gradient.", {"content": {"application/octet-stream": {}}, "required": True},
            {"201": "the submission with its upload receipt"}, PAYLOAD_HASH_HEADER, NONCE_HEADER,
        ),
    }  # fmt: skip


def _step(method: str, summary: str, body: dict[str, Any], answers: dict[str, str], *extra: str) -> dict[str, Any]:
    responses: dict[str, Any] = {
        status: {"description": text, "content": _content(SubmissionView)} for status, text in answers.items()
    }
    responses["402"] = {
        "description": "Pay the invoice, then repeat the request with the credential.",
        "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}},
        "content": {MEDIA_TYPE: {"schema": _ref(Problem)}},
    }
    for _, status, title in STATUSES:
        responses.setdefault(str(status), {"description": title, "content": {MEDIA_TYPE: {"schema": _ref(Problem)}}})
    parameters = [_path("round", "integer"), _path("commitment", "string"), *_signature(), *map(_header, extra)]
    operation = {
        "summary": summary, "parameters": parameters, "requestBody": body, "responses": responses,
        "security": [{"l402": [], "peer": []}],
    }  # fmt: skip
    return {method: operation}


def _signature() -> list[dict[str, Any]]:
    return [_header(name) for name in (PEER_HEADER, TIME_HEADER, SIGNATURE_HEADER)]


def _header(name: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}


def _path(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": kind}}


def _json_body(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"content": _content(kind), "required": True}


def _content(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": _ref(kind)}}


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}


async def _never_ready() -> dict[str, bool]:
    return {}
