"""A service's own HTTP: two probes and its metrics on the event loop of its consumers, so that a stuck loop is seen.

It knows FastAPI and uvicorn, and refuses to know what the service does.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.telemetry import TelemetryConfig

from l402core import metrics

Ready = Callable[[], Awaitable[dict[str, bool]]]


def control_app(
    title: str, ready: Ready, *, show_metrics: bool = True, traced: bool = True, told_only: frozenset[str] = frozenset()
) -> FastAPI:
    """An app with the probes and `/metrics`; services add their routes. `ready` names each part and whether it answers.

    `told_only` are parts without which requests are answered all the same: named like any other, and no ground for a 503.
    `show_metrics` is for an address that strangers reach, too; `traced` is for a service that has no spans of its own.
    """
    # Of a request one span is enough; FastAPI's logs would carry what a stranger sent.
    telemetry = TelemetryConfig(tracing=traced, operation_spans=False, metrics=False, logs=False, exclude=_is_probe)
    app = FastAPI(title=title, version="1", docs_url=None, redoc_url=None, telemetry=telemetry)

    @app.get("/livez", summary="The event loop turns.")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="Every part this service needs answers; 503 where one does not.")
    async def readyz(response: Response) -> dict[str, bool]:
        parts = await ready()
        response.status_code = 200 if all(well for part, well in parts.items() if part not in told_only) else 503
        return parts

    if show_metrics:

        @app.get("/metrics", summary="Numbers for Prometheus.", response_class=PlainTextResponse)
        async def show(request: Request) -> Response:
            body, media_type = await metrics.page(ready, request.headers.get("accept", ""))
            return Response(body, media_type=media_type)

    return app


def _is_probe(scope: MutableMapping[str, Any]) -> bool:
    return scope.get("path") in ("/livez", "/readyz", "/metrics")


@contextlib.asynccontextmanager
async def serving(app: FastAPI, host: str, port: int, *, address_file: Path | None = None) -> AsyncIterator[str]:
    """Serve inside the block; yields the base URL, and writes it to `address_file`. Raises OSError: port in use."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", proxy_headers=False, timeout_graceful_shutdown=5
        )
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # signals are the service's own
    task = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://{host}:{listener.getsockname()[1]}"
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.01)
        if address_file is not None:
            _write_whole(address_file, url)
        yield url
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task
        listener.close()


def _write_whole(file: Path, text: str) -> None:
    """Readers see the whole text or none of it."""
    part = file.with_suffix(".part")
    part.write_text(text)
    part.replace(file)
