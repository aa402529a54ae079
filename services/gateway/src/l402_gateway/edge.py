"""The edge: one span a request, the paid path beside the control plane, and a last net under both. It knows no step."""

import time
from typing import Any

import structlog
from l402core import telemetry
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from l402_gateway import manifest, metrics, problems, routes
from l402_gateway.asgi import App, Body, Message, Receive, Scope, Send, problem_answer, reply
from l402_gateway.paid import path_of

log = structlog.get_logger()
UNTRACED = ("/livez", "/readyz", "/metrics")
STREAMED = "/events"


class Edge:
    """The whole ASGI app."""

    def __init__(self, paid: App, control: App) -> None:
        self._paid, self._control = paid, control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever it raises, the client gets a problem and the log has the reason."""
        if scope["type"] != "http":
            return
        path = path_of(scope)
        if path in UNTRACED or path.endswith(STREAMED):
            await self._guarded(scope, receive, send)
            return
        parent = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        attributes = _attributes(path)
        with telemetry.span(_name(scope, path), parent=parent, kind=SpanKind.SERVER, attributes=attributes) as span:
            began_s, told = time.perf_counter(), _Told(send, span)
            await self._guarded(scope, receive, told)
            route, name = scope.get("route"), _name(scope, path)
            if route is not None and not routes.is_paid(path):
                name = f"{scope['method']} {route.name}"
                span.update_name(name)
            metrics.answered(name if name != scope["method"] else "unknown", told.status, time.perf_counter() - began_s)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        app = self._paid if _pays(scope) else self._control
        try:
            await app(scope, receive, watched)
        except Exception:  # the edge of the process: the client gets a 500 of ours, the log the reason
            log.exception("request.broke", method=scope["method"])
            if not started:
                answer = problem_answer(problems.unexpected(), {"Cache-Control": "no-store"})
                await reply(send, answer, Body(scope, receive))


class _Told:
    """A `send` that tells the client the trace, and the span the status."""

    def __init__(self, send: Send, span: Span) -> None:
        self._send, self._span = send, span
        self.status = 0
        """0 where nothing was answered."""

    async def __call__(self, message: Message) -> Any:
        if message["type"] == "http.response.start":
            status = self.status = message["status"]
            self._span.set_attribute("http.response.status_code", status)
            if status >= 500:
                self._span.set_status(Status(StatusCode.ERROR))
            message["headers"] = [*message.get("headers", []), *_trace()]
        await self._send(message)


def _trace() -> list[tuple[bytes, bytes]]:
    trace_id = telemetry.trace_id()
    if not trace_id:
        return []
    return [(b"traceresponse", telemetry.traceparent().encode()), (b"l402-trace", trace_id.encode())]


def _pays(scope: Scope) -> bool:
    path = path_of(scope)
    if not routes.is_paid(path):
        return False
    return scope["method"] not in ("GET", "HEAD") or path.rsplit("/", 1)[-1] in ("locks", "accepted", "gradient")


def _attributes(path: str) -> dict[str, str]:
    """Route and commitment, and nothing else of a request."""
    if not routes.is_paid(path):
        return {}
    parts = path.split("/")
    return {"http.route": "/".join([*manifest.BASE.split("/"), *parts[6:]]), "l402.commitment": parts[5][:64]}


def _name(scope: Scope, path: str) -> str:
    """Low in cardinality: never a hash or a number."""
    if not routes.is_paid(path):
        return str(scope["method"])
    last = path.rsplit("/", 1)[-1]
    return f"{scope['method']} {last if last in ('locks', 'accepted', 'gradient') else 'submission'}"
