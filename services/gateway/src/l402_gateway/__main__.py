"""Wiring of the gateway: `python -m l402_gateway`. Exit code 2 where it cannot start as it was told."""

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import structlog
from fastapi import FastAPI
from l402core import telemetry
from l402core.bus import Bus
from l402core.control import serving
from l402core.errors import L402Error
from l402core.l402 import keys as root_keys
from l402core.lifecycle import run, run_until_asked
from l402core.objects import open_store
from l402core.objects_ready import ObjectsReady
from l402core.watched import Watched
from pydantic import ValidationError

from l402_gateway.adapters.shelf import RedisShelf
from l402_gateway.app import Gateway
from l402_gateway.awake import say_awake_forever
from l402_gateway.config import Config
from l402_gateway.control_plane import build
from l402_gateway.edge import Edge
from l402_gateway.hints import NAMES, Hints
from l402_gateway.library import Library
from l402_gateway.openapi import described
from l402_gateway.paid import PaidPath
from l402_gateway.seeing import Seeing

log = structlog.get_logger()
CANNOT_START = 2


async def serve(config: Config) -> None:
    """Serve until asked to stop. Raises as `running` does."""
    async with running(config) as (url, bus, objects):
        with announced(url, config.data_dir / "gateway.url"):
            log.info("service.ready", url=url)
            await run_until_asked(say_awake_forever(bus, objects.answers))


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[tuple[str, Bus, ObjectsReady]]:
    """A whole gateway inside the block; yields its base URL, its bus, and whether uploads can be taken.

    Raises OSError where the port or the key file is not to be had, Malformed, ValueError; Unavailable without a bus.
    """
    bus, shelf = Bus(config.nats_url, "gateway"), RedisShelf(config.redis_url)
    store = open_store(config.objects_url)
    objects = ObjectsReady(store, writing=True, clock=time.monotonic)
    gateway = Gateway(
        config, bus, shelf, store, Watched(config.key_file, root_keys.load, every_s=0.0).now,
        now_ms=lambda: time.time_ns() // 1_000_000, clock=time.monotonic, rng_bytes=secrets.token_bytes,
        takes_uploads=objects.answers,
    )  # fmt: skip
    hints = Hints(max_clients=config.hint_clients, queue_size=config.hint_queue, on_change=gateway.forget)
    library = Library(gateway.rounds, gateway.submissions, store, depth=config.object_rounds, clock=time.monotonic)

    async def ready() -> dict[str, bool]:
        redis, stores = await asyncio.gather(shelf.ready(), objects.answers())
        return {"bus": await bus.ready(), "redis": redis, "objects": stores}

    seeing = Seeing(gateway.seen, gateway.rounds, gateway.channels, ready, now_ms=gateway.now_ms, clock=time.monotonic)
    control = build(gateway, hints, library, seeing, ready, show_metrics=config.show_metrics)
    control.openapi_schema = described(control)
    edge = Edge(PaidPath(gateway), control)
    bus.watch(NAMES, hints.on_event)
    await bus.start()
    try:
        # Any ASGI app will do there; its type says FastAPI because every other service is one.
        async with serving(cast(FastAPI, edge), config.http_host, config.http_port) as url:
            try:
                yield url, bus, objects
            finally:
                hints.close()  # a listener that stays would keep the server from stopping
    finally:
        await bus.stop()
        await shelf.close()


@contextlib.contextmanager
def announced(url: str, file: Path) -> Iterator[None]:
    """The base URL in a file, whole or not at all, while the block runs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_text(url)
    part.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    try:
        config = Config.model_validate({})
    except ValidationError as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 - a person reads it
        return CANNOT_START
    provider = telemetry.setup("gateway", trace_file=config.trace_file, log_level=config.log_level)
    try:
        run(serve(config))
    except (OSError, L402Error, ValueError) as error:
        print(f"gateway: {_reason(error, config)}", file=sys.stderr)  # noqa: T201 - a person reads it
        return CANNOT_START
    finally:
        provider.shutdown()
    return 0


def _reason(error: Exception, config: Config) -> str:
    if isinstance(error, OSError) and error.strerror:
        what = error.filename or f"{config.http_host}:{config.http_port}"
        return f"cannot start: {what}: {error.strerror}"
    return f"cannot start: {error}"


if __name__ == "__main__":
    sys.exit(main())
