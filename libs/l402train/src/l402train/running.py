"""Runs a command's coroutine to its end, a signal, or a `Stop`, and turns that into an exit code. It prints no result."""

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from l402core.errors import L402Error

from l402train.exits import Exit, Stop, stop_for

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(story: Coroutine[Any, Any, Exit], *, as_json: bool = False) -> int:
    """The exit code of a command. What went wrong is one line on stderr, or one JSON object with `--json`."""
    try:
        return int(asyncio.run(_until_signal(story)))
    except Stop as stop:
        return tell(stop, as_json=as_json)
    except L402Error as error:
        return tell(Stop(Exit.PART_FAILED, error.detail), as_json=as_json)
    except OSError as error:
        return tell(stop_for(error, error.filename or "a file"), as_json=as_json)
    except asyncio.CancelledError as end:
        by = f" by {end.args[0]}" if end.args else ""
        sys.stderr.write(f"l402-train: interrupted{by}; everything that was started has been stopped\n")
        return int(Exit.INTERRUPTED)


async def _until_signal(story: Coroutine[Any, Any, Exit]) -> Exit:
    task = asyncio.ensure_future(story)
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, task.cancel, number.name)
    return await task


def tell(stop: Stop, *, as_json: bool) -> int:
    """Say on stderr what went wrong; returns the exit code."""
    if as_json:
        sys.stderr.write(json.dumps({"error": stop.sentence, "code": int(stop.code), "detail": stop.detail}) + "\n")
        return int(stop.code)
    sys.stderr.write(f"l402-train: {stop.sentence}\n")
    if stop.detail:
        sys.stderr.write("".join(f"  | {line}\n" for line in stop.detail.splitlines()))
    return int(stop.code)
