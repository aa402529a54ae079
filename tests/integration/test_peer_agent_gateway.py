"""The peer's HTTP adapter against a server that refuses in every way: each answer becomes one error of the tree."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from l402_peer_agent.adapters.gateway import Gateway
from l402_peer_agent.journal import Token
from l402core import errors
from l402core.documents import ObjectRef
from l402core.l402.identifier import Identifier
from l402core.l402.macaroon import mint
from l402core.peerauth import read_peer
from l402core.secret import Secret
from l402core.signing import SigningKey

KEY = SigningKey(b"\x11" * 32)
NOW_MS = 1_800_000_000_000
PREIMAGE = b"\x07" * 32
COMMITMENT = "cc" * 32


class Server:
    """Answers every request as it was last told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes, dict[str, str]] = (200, b"{}", {})
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, request.path, headers, await request.read()))
        status, body, sent = self.answer
        return web.Response(status=status, body=body, headers=sent)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a free port; its URL is `server.url`."""
    server, app = Server(), web.Application()
    app.router.add_route("*", "/{rest:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"  # type: ignore[attr-defined]  # of this test only
    yield server
    await runner.cleanup()


@pytest.fixture
async def gateway(server: Any) -> AsyncIterator[Gateway]:
    """The adapter, pointed at the server."""
    async with aiohttp.ClientSession() as session:
        yield Gateway(session, server.url, KEY, now_ms=lambda: NOW_MS)


def a_token() -> Token:
    """Paid for with PREIMAGE."""
    identifier = Identifier(hashlib.sha256(PREIMAGE).digest(), b"\x04" * 32).encode()
    macaroon = Secret(mint(Secret(b"\x03" * 32), identifier, (), b"").encode())
    return Token(macaroon=macaroon, payment_hash="", token_id="", amount_msat=1)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b'{"code": "x", "detail": "d", "fault": "caller"}', errors.Malformed),
        (401, b"{}", errors.Unauthorized),
        (402, b"{}", errors.Unauthorized),
        (404, b"not json", errors.NotFound),
        (409, b"{}", errors.Conflict),
        (410, b"{}", errors.TooLate),
        (413, b"{}", errors.TooLarge),
        (422, b'{"fault": "peer"}', errors.PeerError),
        (422, b'{"fault": "caller"}', errors.Malformed),
        (425, b"{}", errors.TooEarly),
        (429, b"{}", errors.TooMany),
        (500, b"{}", errors.Unavailable),
        (503, b'{"code": "nothing_left"}', errors.Unavailable),
        (302, b"", errors.Malformed),
        (200, b'{"round": "not a view"}', errors.Unavailable),
    ],
)
async def test_every_refusal_is_one_error(
    server: Server, gateway: Gateway, status: int, body: bytes, error: type[errors.L402Error]
) -> None:
    """By status and fault; what is not the peer's own fault is worth another try, and nothing is followed."""
    server.answer = (status, body, {"Location": "/elsewhere"})
    with pytest.raises(errors.L402Error) as refused:
        await gateway.submission(1, COMMITMENT)
    assert type(refused.value) is error
    assert len(server.requests) == 1


async def test_a_server_that_is_gone_is_unavailable() -> None:
    """Nobody listens: try again later."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(errors.Unavailable):
            await Gateway(session, "http://127.0.0.1:1", KEY, now_ms=lambda: NOW_MS).round()


async def test_an_upload_is_signed_over_its_own_hash(server: Server, gateway: Gateway) -> None:
    """Method, path, payload hash and time carry the peer's signature; the credential and the nonce ride along."""
    server.answer = (425, b"{}", {})
    with pytest.raises(errors.TooEarly):
        await gateway.upload(1, COMMITMENT, a_token(), Secret(PREIMAGE), b"sealed", "ab" * 32)
    ((method, path, headers, body),) = server.requests
    digest = hashlib.sha256(b"sealed").hexdigest()
    assert (method, path, body) == ("PUT", f"/v1/rounds/1/submissions/{COMMITMENT}/gradient", b"sealed")
    assert headers["l402-payload-hash"] == digest
    assert headers["l402-nonce"] == "ab" * 32
    assert headers["authorization"].endswith(PREIMAGE.hex())
    assert read_peer(headers, method=method, path=path, body_sha256=digest, now_ms=NOW_MS) == KEY.public


async def test_another_checkpoint_than_the_terms_name_is_a_contradiction(server: Server, gateway: Gateway) -> None:
    """Whoever altered it: it is not trained on."""
    server.answer = (200, b"other bytes", {})
    ref = ObjectRef(uri="", sha256=hashlib.sha256(b"these bytes").hexdigest(), size=11)
    with pytest.raises(errors.Contradiction):
        await gateway.checkpoint(ref, max_bytes=100)
    with pytest.raises(errors.TooLarge):
        await gateway.checkpoint(ref, max_bytes=10)


async def test_a_challenge_without_a_challenge_is_malformed(server: Server, gateway: Gateway) -> None:
    """A 402 says what to pay, or it is nothing."""
    server.answer = (402, b"{}", {})
    with pytest.raises(errors.Malformed):
        await gateway.challenge(1, COMMITMENT)


async def test_an_answer_without_end_is_cut_off(server: Server, gateway: Gateway) -> None:
    """Five megabytes are no view of a round."""
    server.answer = (200, b" " * (5 << 20), {})
    with pytest.raises(errors.TooLarge):
        await gateway.round()
