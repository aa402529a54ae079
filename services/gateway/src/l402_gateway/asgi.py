"""The little of ASGI that the paid path needs: headers, bodies with limits, one answer. It knows no route."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec
from l402core.errors import Malformed, TooLarge

from l402_gateway.problems import MEDIA_TYPE, BodyTooSlow, Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DRAIN_MAX_BYTES = 4 << 20
DRAIN_TIMEOUT_S = 3.0


class Headers:
    """A request's headers: lower-case names, every value of each, in order."""

    def __init__(self, scope: Scope) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))

    def all(self, name: str) -> list[str]:
        """Every value of a name."""
        return self._values.get(name, [])

    def single(self) -> Mapping[str, str]:
        """Names to values, of the names that occur once: what is said twice is not said."""
        return {name: values[0] for name, values in self._values.items() if len(values) == 1}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = {}


def json_answer(status: int, body: msgspec.Struct, headers: Mapping[str, str] | None = None) -> Answer:
    """A struct as JSON."""
    return Answer(status=status, body=msgspec.json.encode(body), headers=headers or {"Cache-Control": "no-store"})


def problem_answer(problem: Problem, headers: Mapping[str, str]) -> Answer:
    """A problem as RFC 9457 says."""
    return Answer(status=problem.status, body=msgspec.json.encode(problem), media_type=MEDIA_TYPE, headers=headers)


class Body:
    """A request's body, read once: whole with a limit, or as a stream, or thrown away."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope)
        self._receive = receive
        # A request that announces no body has none (RFC 9112, 6.3).
        self._ended = not headers.all("content-length") and not headers.all("transfer-encoding")
        self._waits = any(value.lower() == "100-continue" for value in headers.all("expect"))
        lengths = headers.all("content-length")
        self.length = int(lengths[0]) if len(lengths) == 1 and lengths[0].isdecimal() else None

    @property
    def unread(self) -> bool:
        """Whether some of it may still be on its way."""
        return not self._ended and self.length != 0

    async def whole(self, *, max_bytes: int, timeout_s: float) -> bytes:
        """All of it. Raises TooLarge, BodyTooSlow, Malformed where the client left."""
        self.refuse_above(max_bytes)
        data = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                async for chunk in self._chunks():
                    data += chunk
                    if len(data) > max_bytes:
                        raise TooLarge("body_too_large", f"the body has more than {max_bytes} bytes")
        except TimeoutError:
            raise BodyTooSlow("body_too_slow", f"the body did not arrive within {timeout_s:g} s") from None
        return bytes(data)

    def refuse_above(self, max_bytes: int) -> None:
        """Raises TooLarge where the length is announced as more."""
        if self.length is not None and self.length > max_bytes:
            raise TooLarge("body_too_large", f"a body of {self.length} bytes is above the limit of {max_bytes}")

    async def stream(self, *, pause_s: float, timeout_s: float) -> AsyncIterator[bytes]:
        """Chunk by chunk. Raises BodyTooSlow after a long pause or in all, Malformed where the client left."""
        ends_at = asyncio.get_running_loop().time() + timeout_s
        chunks = self._chunks()
        while True:
            left_s = min(pause_s, ends_at - asyncio.get_running_loop().time())
            try:
                async with asyncio.timeout(left_s):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise BodyTooSlow("body_too_slow", "the upload came to a stop, or took too long in all") from None
            yield chunk

    async def drain(self) -> None:
        """Throw away what is left, within limits, so that the refusal reaches a client that is still sending."""
        if self._ended or self._waits:
            return
        left = DRAIN_MAX_BYTES
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                async for chunk in self._chunks():
                    left -= len(chunk)
                    if left < 0:
                        return
        except (TimeoutError, Malformed):
            return

    async def _chunks(self) -> AsyncIterator[bytes]:
        while not self._ended:
            message = await self._receive()
            if message["type"] != "http.request":
                self._ended = True
                raise Malformed("body_cut_off", "the connection ended before the body did")
            self._ended = not message.get("more_body", False)
            self._waits = False
            if message.get("body"):
                yield message["body"]


async def reply(send: Send, answer: Answer, body: Body) -> None:
    """Send the answer at once, then let the client finish sending."""
    headers = {"Content-Type": answer.media_type, "Content-Length": str(len(answer.body)), **answer.headers}
    if body.unread:
        headers["Connection"] = "close"
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    await body.drain()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
