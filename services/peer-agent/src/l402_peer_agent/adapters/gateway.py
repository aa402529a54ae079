"""The gateway over HTTP: signed requests, L402 credentials, problems as errors of our tree. It decides nothing."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp
import msgspec
from l402core import errors, telemetry
from l402core.documents import ObjectRef
from l402core.errors import L402Error, Malformed, Unavailable
from l402core.events import GradientScored, RoundView, SubmissionView
from l402core.l402 import Challenge, credential, parse_challenge
from l402core.l402.macaroon import decode
from l402core.peerauth import sign_request
from l402core.secret import Secret
from l402core.signing import Signed, SigningKey
from opentelemetry.trace import SpanKind

from l402_peer_agent.journal import Token

T = TypeVar("T")
ANSWER_MAX_BYTES = 4 << 20
TIMEOUT_S = 20.0
LISTEN_AGAIN_S, LISTEN_REFUSED_S = 1.0, 15.0
PAYLOAD_HASH_HEADER = "L402-Payload-Hash"
NONCE_HEADER = "L402-Nonce"
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_BY_STATUS: dict[int, type[L402Error]] = {
    400: errors.Malformed, 401: errors.Unauthorized, 402: errors.Unauthorized, 404: errors.NotFound,
    405: errors.Malformed, 409: errors.Conflict, 410: errors.TooLate, 413: errors.TooLarge, 422: errors.Malformed,
    425: errors.TooEarly, 429: errors.TooMany,
}  # fmt: skip


class Problem(msgspec.Struct):
    """RFC 9457, as far as it is read."""

    code: str = ""
    detail: str = ""
    fault: str = ""


class CreditGrant(msgspec.Struct):
    """The answer to `POST /v1/credits`."""

    macaroon: str
    payment_hash: str
    token_id: str
    amount_msat: int

    def __repr__(self) -> str:
        return f"CreditGrant({self.payment_hash}, amount_msat={self.amount_msat})"


class Gateway:
    """One peer's way to the coordinator. Every method may raise Unavailable; a lost reply may have had its effect."""

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, key: SigningKey, *, now_ms: Callable[[], int]
    ) -> None:
        self._session, self._base, self._key, self._now_ms = session, base_url.rstrip("/"), key, now_ms

    async def round(self, round_: int | None = None) -> RoundView:
        """One round, or the current one. Raises NotFound before the first."""
        path = f"/v1/rounds/{'current' if round_ is None else round_}"
        return _read(await self._call("GET", path), RoundView)

    async def checkpoint(self, ref: ObjectRef, *, max_bytes: int) -> bytes:
        """The checkpoint's bytes, checked against the terms' reference. Raises Contradiction for other bytes."""
        if ref.size > max_bytes:
            raise errors.TooLarge("checkpoint_size", f"a checkpoint of {ref.size} bytes is above {max_bytes}")
        data = await self._call("GET", f"/v1/checkpoints/{ref.sha256}", max_bytes=ref.size)
        if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise errors.Contradiction("checkpoint_altered", "the checkpoint is not the one that the terms name")
        return data

    async def submission(self, round_: int, commitment: str) -> SubmissionView:
        """How far a submission has come."""
        return _read(await self._call("GET", _path(round_, commitment)), SubmissionView)

    async def challenge(self, round_: int, commitment: str) -> Challenge:
        """What the submission costs: a macaroon and the invoice that pays for it. Raises Exhausted, TooLate, …"""
        path = _path(round_, commitment)
        status, headers, body = await self._send("POST", path, headers=self._signed("POST", path, _EMPTY_SHA256))
        if status != 402:
            raise _error_of(status, body)
        return parse_challenge(", ".join(headers.getall("WWW-Authenticate", [])))

    async def open(
        self, round_: int, commitment: str, token: Token, preimage: Secret, statement: Signed
    ) -> SubmissionView:
        """Spend the token. The same statement again gets the same answer."""
        return await self._submit("POST", _path(round_, commitment), token, preimage, msgspec.json.encode(statement))

    async def locks(
        self, round_: int, commitment: str, token: Token, preimage: Secret, bolt11s: list[str]
    ) -> SubmissionView:
        """Hand in the reward invoices."""
        body = msgspec.json.encode({"bolt11s": bolt11s})
        return await self._submit("POST", _path(round_, commitment, "/locks"), token, preimage, body)

    async def accepted(
        self, round_: int, commitment: str, token: Token, preimage: Secret, accepted: Signed
    ) -> SubmissionView:
        """Say that every rung waits at our node."""
        body = msgspec.json.encode(accepted)
        return await self._submit("POST", _path(round_, commitment, "/accepted"), token, preimage, body)

    async def upload(
        self, round_: int, commitment: str, token: Token, preimage: Secret, sealed: bytes, nonce: str
    ) -> SubmissionView:
        """Send the sealed payload. Raises TooEarly before commits are closed, TooLate after `upload_until`."""
        extra = {PAYLOAD_HASH_HEADER: hashlib.sha256(sealed).hexdigest(), NONCE_HEADER: nonce}
        path = _path(round_, commitment, "/gradient")
        return await self._submit("PUT", path, token, preimage, sealed, "application/octet-stream", extra)

    async def claim_credit(self, payment_hash: str) -> Token:
        """The credit of a fee that bought nothing. Raises NotFound where none is open."""
        body, path = msgspec.json.encode({"payment_hash": payment_hash}), "/v1/credits"
        headers = self._signed("POST", path, hashlib.sha256(body).hexdigest())
        grant = _read(await self._call("POST", path, headers=headers, body=body), CreditGrant)
        return Token(
            macaroon=Secret(base64.b64decode(grant.macaroon)),
            payment_hash=grant.payment_hash,
            token_id=grant.token_id,
            amount_msat=grant.amount_msat,
            credit=True,
        )

    async def decision(self, attestor_url: str, commitment: str) -> GradientScored:
        """The decision from the attestor itself. Raises TooEarly before there is one, NotFound where there never will be."""
        url = f"{attestor_url.rstrip('/')}/v1/decisions/{commitment}"
        status, _, body = await self._send("GET", "/v1/decisions", url=url)
        if status >= 300:
            raise _error_of(status, body)
        return _read(body, GradientScored)

    async def listen(self, round_: int, commitment: str, on_hint: Callable[[], None]) -> None:
        """Call back at each server-sent event about a submission or its whole round until cancelled.

        Hints only, so failures are silent; what is refused, because too many listen, is not asked for at once again.
        """
        url = f"{self._base}/v1/rounds/{round_}/events?about={commitment}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        while True:
            pause_s = LISTEN_AGAIN_S
            try:
                async with self._session.get(url, timeout=timeout, headers={"Accept": "text/event-stream"}) as stream:
                    pause_s = LISTEN_AGAIN_S if stream.status == 200 else LISTEN_REFUSED_S
                    async for line in stream.content:
                        if line.startswith(b"data:"):
                            on_hint()
            except (aiohttp.ClientError, TimeoutError, ValueError):
                on_hint()  # what was missed meanwhile is read again
            await asyncio.sleep(pause_s)

    async def _submit(
        self,
        method: str,
        path: str,
        token: Token,
        preimage: Secret,
        body: bytes,
        kind: str = "application/json",
        extra: dict[str, str] | None = None,
    ) -> SubmissionView:
        headers = self._signed(method, path, hashlib.sha256(body).hexdigest())
        headers |= {"Authorization": credential(decode(token.macaroon.reveal()), preimage), "Content-Type": kind}
        return _read(await self._call(method, path, headers=headers | (extra or {}), body=body), SubmissionView)

    def _signed(self, method: str, path: str, body_sha256: str) -> dict[str, str]:
        return sign_request(self._key, method=method, path=path, body_sha256=body_sha256, now_ms=self._now_ms())

    async def _call(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        max_bytes: int = ANSWER_MAX_BYTES,
    ) -> bytes:
        status, _, answer = await self._send(method, path, headers=headers, body=body, max_bytes=max_bytes)
        if status >= 300:
            raise _error_of(status, answer)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        url: str = "",
        max_bytes: int = ANSWER_MAX_BYTES,
    ) -> tuple[int, Any, bytes]:
        """Status, headers and body of one request; nothing is followed or repeated."""
        with telemetry.span(f"HTTP {method} {_shape(path)}", kind=SpanKind.CLIENT) as span:
            parent = telemetry.traceparent()
            sent = dict(headers or {}) | ({"traceparent": parent} if parent else {})
            try:
                async with self._session.request(
                    method,
                    url or self._base + path,
                    headers=sent,
                    data=body or None,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                ) as response:
                    span.set_attribute("http.response.status_code", response.status)
                    return response.status, response.headers, await _limited(response, max_bytes)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise Unavailable("gateway", f"{method} {path} got no answer: {type(error).__name__}") from error


def _path(round_: int, commitment: str, suffix: str = "") -> str:
    return f"/v1/rounds/{round_}/submissions/{commitment}{suffix}"


def _shape(path: str) -> str:
    """The path without its hashes, so that spans of a kind share a name."""
    return "/".join("…" if len(part) == 64 else part for part in path.split("/"))


async def _limited(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > max(max_bytes, 1 << 16):
            raise errors.TooLarge("answer_size", f"the answer is larger than {max_bytes} bytes")
    return bytes(body)


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Unavailable("gateway_answer", f"the gateway's answer is no {kind.__name__}: {error}") from error


def _error_of(status: int, body: bytes) -> L402Error:
    """The error behind a problem document; anything that is not the caller's is worth another try."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        problem = Problem()
    code, detail = problem.code or f"http_{status}", problem.detail or f"the gateway answered {status}"
    if problem.fault == "peer":
        return errors.PeerError(code, detail)
    kind = _BY_STATUS.get(status)
    if kind is not None:
        return kind(code, detail)
    return Malformed(code, detail) if status < 500 else Unavailable(code, detail)
