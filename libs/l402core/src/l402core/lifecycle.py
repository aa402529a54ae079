"""How a service lives: its event loop, and background tasks that must not die alone, until a signal asks it to end.

It knows no service.
"""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import msgspec
import structlog

if sys.platform == "win32":
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop  # about a sixth less processor time for the same messages

log = structlog.get_logger()
SWITCH_S = 0.0002
GARBAGE_AFTER = 50_000
"""New objects after which Python looks for cycles among them; its own 700 are a handful of messages."""


def know_types() -> None:
    """Have msgspec look at every message and document now, while there is one thread.

    It looks at a type when it first decodes one, and two threads that do so at once end the process with a segmentation
    fault (msgspec 0.22.0: the second finds what the first has half written).
    """
    left = list(msgspec.Struct.__subclasses__())
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        with contextlib.suppress(TypeError, NameError):  # what cannot be decoded never is
            msgspec.json.Decoder(kind)


def run(service: Coroutine[Any, Any, None]) -> None:
    """Run it to its end. Raises what it raises."""
    know_types()
    gc.freeze()  # what was imported stays for ever: looking at it all, again and again, is for nothing
    gc.set_threshold(GARBAGE_AFTER)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(service)


def hand_over_soon() -> None:
    """For a service whose statements wait for another process: a thread that has its answer gets the interpreter from the
    event loop after 0.2 ms, not after 5, in which a dozen statements run. Only within `run`, which knows the types: two
    threads that meet at a new one have ended a process."""
    sys.setswitchinterval(SWITCH_S)


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
