"""HTTP between peers and coordinator without sockets: the peers' real client, the gateway's real paid path.

The control plane's few paths are routed here by hand, because FastAPI's app is slow to build; what each does, status codes
and problem documents are the gateway's own. A request or its reply may be lost, and whoever serves it may die meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
from l402_gateway import control_plane, routes
from l402_gateway.app import Gateway
from l402_gateway.asgi import Answer, Message, Receive, json_answer
from l402_gateway.library import Library
from l402_gateway.paid import PaidPath, refusal
from l402_gateway.sponsors import PATH as PLEDGES
from l402core.errors import L402Error, NotFound, TooEarly
from l402core.events import GradientScored
from multidict import CIMultiDict

from tests.simulation.faults import Kind
from tests.simulation.world import Process, World

GATEWAY, ATTESTOR = "http://gateway", "http://attestor"
Serve = Callable[[str, str, dict[str, str], bytes], Awaitable[tuple[int, dict[str, str], bytes]]]


class Reply:
    """An `aiohttp` response, whole."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self._body = status, CIMultiDict(headers), body

    @property
    def content(self) -> "Reply":
        return self

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        """All of it at once."""
        yield self._body


class _Request:
    """The context manager that `aiohttp` gives for a request."""

    def __init__(self, answer: Awaitable[Reply]) -> None:
        self._answer = answer

    async def __aenter__(self) -> Reply:
        return await self._answer

    async def __aexit__(self, *_: object) -> None:
        """Nothing to release."""


class Web:
    """Who serves what now; requests are counted."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._servers: dict[str, tuple[Process, Serve]] = {}
        self._requests = 0
        self._open: list[tuple[Process, asyncio.Future[Reply]]] = []
        world.on_death.append(self._hang_up)

    def _hang_up(self, dead: Process) -> None:
        for process, replied in self._open:
            if process is dead and not replied.done():
                replied.set_exception(aiohttp.ClientConnectionError("the connection broke"))

    def serve(self, base: str, process: Process, serve: Serve) -> None:
        """From now on this process answers under this address."""
        self._servers[base] = (process, serve)

    def request(self, method: str, url: str, *, headers: dict[str, str], data: bytes | None, **_: Any) -> _Request:
        """As `aiohttp.ClientSession.request`."""
        return _Request(self._reply(method, url, headers, data or b""))

    def get(self, _url: str, **_: Any) -> _Request:
        """The stream of hints: it opens, and no hint ever comes."""
        return _Request(self._silence())

    async def _silence(self) -> Reply:
        await self._world.loop.create_future()
        raise AssertionError("nobody ends this future")

    async def _reply(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Reply:
        world = self._world
        self._requests += 1
        strike = world.strikes(self._requests, Kind.REQUEST_LOST, Kind.REPLY_LOST)
        await world.pause()
        base = next(base for base in (GATEWAY, ATTESTOR) if url.startswith(base))
        process, serve = self._servers.get(base, (None, None))
        if process is None or serve is None or not process.alive:
            raise aiohttp.ClientConnectionError("nobody listens there")
        if strike is not None and strike.kind is Kind.REQUEST_LOST:
            raise aiohttp.ClientConnectionError("the request was lost")
        replied: asyncio.Future[Reply] = world.loop.create_future()

        async def answer() -> None:
            status, told, content = await serve(method, url.removeprefix(base), headers, body)
            if strike is None and not replied.done():
                replied.set_result(Reply(status, told, content))

        world.spawn(process, answer())
        self._open.append((process, replied))
        try:
            async with asyncio.timeout(20.0):
                reply = await replied
        finally:
            self._open.remove((process, replied))
        await world.pause()
        return reply


def gateway_server(gateway: Gateway, library: Library, paid: PaidPath) -> Serve:
    """The edge: what pays goes to the real paid path, the rest is read here."""

    async def serve(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        scope = _scope(method, path, headers, body)
        if method != "GET" and routes.is_paid(path):
            return await _asgi(paid, scope, body)
        try:
            answer = await _control(gateway, library, scope, body)
        except L402Error as error:
            answer = refusal(error, 402)
        return answer.status, dict(answer.headers), answer.body

    return serve


async def _control(gateway: Gateway, library: Library, scope: dict[str, Any], body: bytes) -> Answer:
    method, path = scope["method"], scope["path"]
    parts = path.split("/")
    if path == "/v1/rounds/current":
        return json_answer(200, await gateway.rounds.get(0))
    if parts[2] == "rounds" and len(parts) == 4:
        return json_answer(200, await gateway.rounds.get(routes.read_round(parts[3])))
    if parts[2] == "rounds" and len(parts) == 6:
        key = routes.read_round(parts[3]), routes.read_hash(parts[5], "commitment")
        return json_answer(200, await gateway.submissions.get(key))
    if parts[2] == "checkpoints":
        return Answer(status=200, body=await library.checkpoint(parts[3]))
    if path == control_plane.CREDITS and method == "POST":
        return json_answer(201, await control_plane.take_claim(gateway, scope, _whole(body)))
    if path == PLEDGES and method == "POST":
        return json_answer(201, await control_plane.take_pledge(gateway, scope, _whole(body)))
    if parts[2] == "sponsorships" and len(parts) == 4:
        return json_answer(200, await control_plane.read_sponsorship(gateway, parts[3]))
    raise NotFound("route_unknown", "nothing is served under this path")


def attestor_server(decision: Callable[[str], Awaitable[GradientScored]]) -> Serve:
    """The attestor's own door: decisions alone."""

    async def serve(
        _method: str, path: str, _headers: dict[str, str], _body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        try:
            return 200, {}, msgspec.json.encode(await decision(path.rsplit("/", 1)[-1]))
        except (NotFound, TooEarly) as error:
            status = 404 if isinstance(error, NotFound) else 425
            return status, {}, msgspec.json.encode({"code": error.code, "detail": error.detail, "fault": error.fault})
        except L402Error as error:
            return 503, {}, msgspec.json.encode({"code": error.code, "detail": error.detail, "fault": error.fault})

    return serve


def _scope(method: str, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    told = {**headers, **({"Content-Length": str(len(body))} if body else {})}
    return {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in told.items()],
        "client": ("127.0.0.1", 1),
    }  # fmt: skip


async def _asgi(app: PaidPath, scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
    status, told, content = 0, dict[str, str](), bytearray()

    async def send(message: Any) -> None:
        nonlocal status, told
        if message["type"] == "http.response.start":
            status = message["status"]
            told = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            content.extend(message.get("body", b""))

    await app(scope, _whole(body), send)
    return status, told, bytes(content)


def _whole(body: bytes) -> Receive:
    """All of it at once."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
