"""How a service lives: background tasks that must not die alone, until SIGTERM or SIGINT asks it to end."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()


async def run_until_asked(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run the jobs until a signal comes, then cancel them. A job that fails ends the service, with its error."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, asked.set)
    tasks = [asyncio.create_task(job) for job in jobs]
    waiter = asyncio.create_task(asked.wait())
    done, _ = await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in [waiter, *tasks]:
        task.cancel()
    await asyncio.gather(waiter, *tasks, return_exceptions=True)
    for task in done - {waiter}:
        with contextlib.suppress(asyncio.CancelledError):
            task.result()
