"""The paid path as a raw ASGI app: credential, signature, step, answer. It refuses to know what a step means."""

import hashlib
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
from l402core.errors import L402Error, Malformed, Unauthorized
from l402core.events import SubmissionView
from l402core.l402 import Credential, parse_credential, parse_grpc_metadata
from l402core.peerauth import PEER_HEADER, SIGNATURE_HEADER, TIME_HEADER, read_peer

from l402_gateway import challenge, problems, routes
from l402_gateway.app import Gateway, Proof
from l402_gateway.asgi import Answer, Body, Headers, Receive, Scope, Send, json_answer, problem_answer, reply
from l402_gateway.problems import WrongMethod, is_credentials
from l402_gateway.routes import Paid
from l402_gateway.uploading import Upload

log = structlog.get_logger()

PAYLOAD_HASH_HEADER = "L402-Payload-Hash"
NONCE_HEADER = "L402-Nonce"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_PEER_HEADERS = (PEER_HEADER.lower(), TIME_HEADER.lower(), SIGNATURE_HEADER.lower())


class Step(Protocol):
    """A step whose body is small and JSON."""

    def __call__(self, paid: Paid, proof: Proof, body: bytes) -> Awaitable[SubmissionView]: ...


class PaidPath:
    """`/v1/rounds/{r}/submissions/{c}[/locks|/accepted|/gradient]` for POST and PUT."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._steps: dict[str, tuple[Step, Callable[[SubmissionView], int]]] = {
            "": (gateway.open, lambda view: 201 if view.offer is not None else 202),
            "/locks": (gateway.locks, lambda view: 202),
            "/accepted": (gateway.accepted, lambda view: 202),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        body = Body(scope, receive)
        try:
            answer = await self._answer(scope, body)
        except L402Error as error:
            answer = refusal(error, self._gateway.config.bad_credential_status)
        await reply(send, answer, body)

    async def _answer(self, scope: Scope, body: Body) -> Answer:
        headers, method = Headers(scope), scope["method"]
        paid = routes.read(path_of(scope))
        if method not in ("POST", "PUT"):
            raise WrongMethod("method", f"this path takes {paid.method} only")
        client = client_of(scope)
        credential = read_credential(headers)
        if credential is None:
            peer = await self._optional_peer(headers, paid, method, body)
            macaroon, unpaid = await self._gateway.selling.sell(paid, peer, client)
            told = {"WWW-Authenticate": challenge.header(macaroon, unpaid), "Cache-Control": "no-store"}
            terms = (await self._gateway.rounds.get(paid.round)).terms
            return problem_answer(challenge.problem(unpaid, paid, terms), told)
        try:
            return await self._paid(headers, paid, method, credential, body)
        except Unauthorized as error:
            if not is_credentials(error):
                raise
            return await self._challenge_again(error, paid, client)

    async def _paid(self, headers: Headers, paid: Paid, method: str, credential: Credential, body: Body) -> Answer:
        single = headers.single()
        verified = self._gateway.check(credential, paid, method, single.get(PEER_HEADER.lower(), ""))
        if method != paid.method:
            raise WrongMethod("method", f"this path takes {paid.method} only")
        if paid.step == "/gradient":
            claimed = Upload(
                routes.read_hash(single.get(PAYLOAD_HASH_HEADER.lower(), ""), "payload_hash"),
                routes.read_hash(single.get(NONCE_HEADER.lower(), ""), "nonce"),
                body.length,
            )
            proof = Proof(self._peer(headers, paid, method, claimed.payload_hash), verified)
            config = self._gateway.config
            chunks = body.stream(pause_s=config.body_timeout_s, timeout_s=config.upload_timeout_s)
            return json_answer(201, await self._gateway.upload(paid, proof, claimed, chunks))
        data = await self._whole(body)
        proof = Proof(self._peer(headers, paid, method, hashlib.sha256(data).hexdigest()), verified)
        step, status = self._steps[paid.step]
        view = await step(paid, proof, data)
        return json_answer(status(view), view)

    async def _challenge_again(self, error: Unauthorized, paid: Paid, client: str) -> Answer:
        """What is wrong with the credential, and a new challenge where one is still to be had."""
        config = self._gateway.config
        problem = problems.problem_of(error, credential_status=config.bad_credential_status)
        headers = {"Cache-Control": "no-store"}
        try:
            macaroon, unpaid = await self._gateway.selling.sell(paid, "", client)
            headers["WWW-Authenticate"] = challenge.header(macaroon, unpaid)
        except L402Error as none_sold:
            log.info("challenge.withheld", commitment=paid.commitment, code=none_sold.code)
        return problem_answer(problem, headers)

    async def _optional_peer(self, headers: Headers, paid: Paid, method: str, body: Body) -> str:
        """The peer that signed a request without credential, '' where nobody did. Raises Unauthorized."""
        if not any(headers.all(name) for name in _PEER_HEADERS):
            return ""
        if paid.step == "/gradient":
            return self._peer(headers, paid, method, headers.single().get(PAYLOAD_HASH_HEADER.lower(), EMPTY_SHA256))
        return self._peer(headers, paid, method, hashlib.sha256(await self._whole(body)).hexdigest())

    def _peer(self, headers: Headers, paid: Paid, method: str, body_sha256: str) -> str:
        return read_peer(
            headers.single(), method=method, path=paid.path, body_sha256=body_sha256, now_ms=self._gateway.now_ms()
        )

    async def _whole(self, body: Body) -> bytes:
        config = self._gateway.config
        return await body.whole(max_bytes=config.body_max_bytes, timeout_s=config.body_timeout_s)


def path_of(scope: Scope) -> str:
    """The path as it was sent, without its query: percent-encoding and the like stay visible."""
    raw = scope.get("raw_path") or scope["path"].encode()
    return str(raw.partition(b"?")[0].decode("latin-1"))


def client_of(scope: Scope) -> str:
    """Whom the limits count: an IPv4 address, or the /64 that one IPv6 customer has to itself."""
    host = str((scope.get("client") or ("unknown", 0))[0])[:64]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), 64), strict=False))


def read_credential(headers: Headers) -> Credential | None:
    """The one credential, from Authorization or from gRPC's metadata names. Raises Malformed where two differ."""
    found = [
        parse_credential(headers.all("authorization")),
        parse_grpc_metadata(headers.all("grpc-metadata-macaroon")),
        parse_grpc_metadata(headers.all("macaroon")),
    ]
    told = [credential for credential in found if credential is not None]
    if len(told) > 1:
        raise Malformed("credential_conflict", "the request carries credentials in several headers")
    return told[0] if told else None


def refusal(error: L402Error, credential_status: int) -> Answer:
    """Any error of the tree as an answer."""
    problem = problems.problem_of(error, credential_status=credential_status)
    headers = dict(problems.headers_of(error, problem.status))
    if isinstance(error, WrongMethod):
        headers["Allow"] = "GET, POST, PUT"
    if problem.status >= 500:
        log.warning("request.failed", code=error.code, fault=error.fault, detail=error.detail)
    return problem_answer(problem, headers)
