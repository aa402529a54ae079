"""The control plane: reads, credits, hints and probes, as FastAPI routes. It refuses to know the paid path and the pages."""

import base64
import hashlib
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from l402core.control import Ready, control_app
from l402core.errors import L402Error, Malformed, NotFound, Unavailable
from l402core.events import SponsorshipView
from l402core.peerauth import read_peer
from starlette.exceptions import HTTPException

from l402_gateway import routes
from l402_gateway.app import Gateway
from l402_gateway.asgi import Answer, Body, Headers, Receive, Scope, problem_answer
from l402_gateway.hints import Hints
from l402_gateway.library import Library, pieces
from l402_gateway.manifest import manifest
from l402_gateway.paid import client_of, refusal
from l402_gateway.people import add_pages
from l402_gateway.problems import WrongMethod, unexpected
from l402_gateway.seeing import Seeing
from l402_gateway.sponsors import PATH as PLEDGES
from l402_gateway.views import terms_of

CREDITS = "/v1/credits"
IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}
FRESH = {"Cache-Control": "no-store"}
_PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {"description": "An RFC 9457 problem.", "content": {"application/problem+json": {}}}
}


class _Claim(msgspec.Struct, frozen=True):
    payment_hash: str


class Credit(msgspec.Struct, frozen=True, kw_only=True):
    """A credit as a token: the peer appends `round` and `commitment`."""

    macaroon: str
    payment_hash: str
    token_id: str
    amount_msat: int

    def __repr__(self) -> str:
        return f"Credit({self.payment_hash}, amount_msat={self.amount_msat})"


def build(
    gateway: Gateway, hints: Hints, library: Library, seeing: Seeing, ready: Ready, *, show_metrics: bool = False
) -> FastAPI:
    """The app. Schemas of the answers are added by `openapi.document`."""
    app = control_app("l402-train gateway", ready, show_metrics=show_metrics, traced=False)
    _reads(app, gateway, library)
    _hints(app, gateway, hints)
    _credits(app, gateway)
    _sponsors(app, gateway)
    _manifest(app, gateway)
    add_pages(app, gateway, seeing)
    _refusals(app)
    return app


def _reads(app: FastAPI, gateway: Gateway, library: Library) -> None:
    @app.get("/v1/rounds/current", summary="The newest round.", responses=_PROBLEM)
    async def current_round() -> Response:
        return _json(await gateway.rounds.get(0))

    @app.get("/v1/rounds/{round}", summary="One round.", responses=_PROBLEM)
    async def round_(round: str) -> Response:
        return _json(await gateway.rounds.get(routes.read_round(round)))

    @app.get("/v1/rounds/{round}/submissions/{commitment}", summary="One submission.", responses=_PROBLEM)
    async def submission(round: str, commitment: str) -> Response:
        key = routes.read_round(round), routes.read_hash(commitment, "commitment")
        return _json(await gateway.submissions.get(key))

    @app.get("/v1/channels", summary="The coordinator's channels: balances, slots, flow.", responses=_PROBLEM)
    async def channels() -> Response:
        return _json(await gateway.channels())

    @app.get("/v1/checkpoints/{sha256}", summary="A checkpoint that a round's terms name.", responses=_PROBLEM)
    async def checkpoint(sha256: str) -> Response:
        return _bytes(await library.checkpoint(routes.read_hash(sha256, "sha256")))

    @app.get("/v1/objects/{sha256}", summary="A public object of a judged round.", responses=_PROBLEM)
    async def public_object(sha256: str) -> Response:
        return _bytes(await library.object(routes.read_hash(sha256, "sha256")))


def _hints(app: FastAPI, gateway: Gateway, hints: Hints) -> None:
    @app.get("/v1/rounds/{round}/events", summary="Server-sent hints that something happened.", responses=_PROBLEM)
    async def round_events(round: str, about: str = "") -> Response:
        """`about`: a commitment, for hints about it and the round as a whole only; nothing: about all submissions."""
        number = routes.read_round(round)
        commitment = routes.read_hash(about, "about") if about else ""
        await gateway.rounds.get(number)
        stream = hints.listen(number, about=commitment, keepalive_s=gateway.config.hint_keepalive_s)
        return StreamingResponse(stream, media_type="text/event-stream", headers=FRESH)


def _credits(app: FastAPI, gateway: Gateway) -> None:
    @app.post(CREDITS, status_code=201, summary="Claim the credit of a fee that bought nothing.", responses=_PROBLEM)
    async def claim_credit(request: Request) -> Response:
        return _json(await take_claim(gateway, request.scope, request.receive), 201)


def _sponsors(app: FastAPI, gateway: Gateway) -> None:
    @app.post(
        PLEDGES, status_code=201, summary="Pledge to pay for rounds that make the model better.", responses=_PROBLEM
    )
    async def open_sponsorship(request: Request) -> Response:
        return _json(await take_pledge(gateway, request.scope, request.receive), 201)

    @app.get(
        PLEDGES + "/{sponsorship}", summary="One sponsorship, and what became of each tranche.", responses=_PROBLEM
    )
    async def sponsorship(sponsorship: str) -> Response:
        return _json(await read_sponsorship(gateway, sponsorship))


async def take_claim(gateway: Gateway, scope: Scope, receive: Receive) -> Credit:
    """`POST /v1/credits`: the credit of whoever signed the request."""
    peer, body = await _signed_body(gateway, scope, receive, CREDITS)
    try:
        payment_hash = routes.read_hash(msgspec.json.decode(body, type=_Claim).payment_hash, "payment_hash")
    except msgspec.MsgspecError as error:
        raise Malformed("bad_json", f'the body is {{"payment_hash": …}} in JSON: {error}') from None
    token, credit = await gateway.claim_credit(peer, payment_hash)
    return Credit(
        macaroon=base64.b64encode(token.encode()).decode(), payment_hash=credit.payment_hash,
        token_id=credit.token_id, amount_msat=credit.amount_msat,
    )  # fmt: skip


async def take_pledge(gateway: Gateway, scope: Scope, receive: Receive) -> SponsorshipView:
    """`POST /v1/sponsorships`: counted before its body is read."""
    await gateway.sponsors.limit(client_of(scope))
    sponsor, body = await _signed_body(gateway, scope, receive, PLEDGES)
    return await gateway.sponsors.open(sponsor, body)


async def read_sponsorship(gateway: Gateway, sponsorship: str) -> SponsorshipView:
    """`GET /v1/sponsorships/{sponsorship}`."""
    return await gateway.sponsors.read(routes.read_hash(sponsorship, "sponsorship"))


async def _signed_body(gateway: Gateway, scope: Scope, receive: Receive, path: str) -> tuple[str, bytes]:
    """Who signed a request, and its small body."""
    config = gateway.config
    body = await Body(scope, receive).whole(max_bytes=config.body_max_bytes, timeout_s=config.body_timeout_s)
    signer = read_peer(
        Headers(scope).single(), method="POST", path=path,
        body_sha256=hashlib.sha256(body).hexdigest(), now_ms=gateway.now_ms(),
    )  # fmt: skip
    return signer, body


def _manifest(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/.well-known/l402.json", summary="What is sold here, and for how much now.")
    async def l402_manifest() -> dict[str, Any]:
        try:
            return manifest(terms_of(await gateway.rounds.get(0)))
        except (NotFound, Unavailable):
            return manifest(None)


def _refusals(app: FastAPI) -> None:
    @app.exception_handler(L402Error)
    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, L402Error)
        return _of(refusal(error, 402))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        return _of(refusal(Malformed("bad_request", "the request's parameters are not of the expected form"), 402))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            answer = refusal(WrongMethod("method", "this path is not served with this method"), 402)
            return _of(msgspec.structs.replace(answer, headers={**answer.headers, **(error.headers or {})}))
        return _of(refusal(NotFound("route_unknown", "nothing is served under this path"), 402))

    @app.exception_handler(Exception)
    async def ours_to_mend(request: Request, error: Exception) -> Response:
        return _of(problem_answer(unexpected(), FRESH))


def _of(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), answer.media_type)


def _json(value: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, dict(FRESH), "application/json")


def _bytes(data: bytes) -> Response:
    headers = {**IMMUTABLE, "Content-Length": str(len(data))}
    return StreamingResponse(pieces(data), 200, headers, "application/octet-stream")
