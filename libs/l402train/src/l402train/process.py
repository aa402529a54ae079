"""One child process: its log, its readiness, its end. It knows operating systems, and not what the process does."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from l402train.exits import Exit, Stop, stop_for

T = TypeVar("T")
LOG_LINES = 15

_LAUNCH = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
# A launcher that becomes the program, because a preexec_fn is not safe beside threads.


def _ending_with_us(command: Sequence[str]) -> list[str]:
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())] if sys.platform == "linux" else []
    return [*launcher, *command]


class Process:
    """A program in a process group of its own, writing to its log. Start it from the main thread.

    Linux ends it when the thread that started it ends, so that nothing survives even a killed parent.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self._command, self._environment = tuple(command), dict(environment)
        self._popen = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        try:
            with self.log.open("ab") as output:
                return subprocess.Popen(  # noqa: S603 - our own programs, in list form
                    _ending_with_us(self._command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise stop_for(error, error.filename or self.log) from error

    def kill(self) -> None:
        """SIGKILL to its group, at once, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self._popen.wait()

    def start_again(self) -> None:
        """The same program with the same environment, once it has ended. Raises Stop."""
        self._popen = self._started()

    @property
    def pid(self) -> int:
        """Also the id of its process group."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    async def until(
        self, ready: Callable[[], T | None], *, deadline_s: float, missing: Callable[[], str] = lambda: ""
    ) -> T:
        """What `ready` gives once it gives something. Raises Stop when the process ends first, or time does, with what was
        missing then."""
        ends_at = time.monotonic() + deadline_s
        while (answer := await asyncio.to_thread(ready)) is None:
            if self.returncode is not None:
                raise self.failure(f"{self.name} ended with {self.returncode} before it was ready")
            if time.monotonic() > ends_at:
                lacking = await asyncio.to_thread(missing)
                raise self.failure(f"{self.name} was not ready within {deadline_s:g} s{lacking and f': {lacking}'}")
            await asyncio.sleep(0.05)
        return answer

    def failure(self, sentence: str) -> Stop:
        """A Stop that shows the end of the log, and names the cause where the log gives it away."""
        tail = self.tail()
        for words, code, cause in _CAUSES:
            if any(word in tail for word in words):
                return Stop(code, f"{self.name}: {cause}", detail=tail)
        return Stop(Exit.PART_FAILED, sentence, detail=tail)

    def tail(self) -> str:
        """The last lines of the log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        return ""

    def ask_to_end(self) -> None:
        """SIGTERM to its group."""
        self._signal(signal.SIGTERM)

    async def ended(self, *, within_s: float) -> None:
        """Wait for its end, and force it when it takes too long."""
        ends_at = time.monotonic() + within_s
        while self.returncode is None and time.monotonic() < ends_at:  # noqa: ASYNC110 - a process sends no event
            await asyncio.sleep(0.02)
        self._signal(signal.SIGKILL)  # also what it may have left in its group
        self._popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


_CAUSES: tuple[tuple[tuple[str, ...], Exit, str], ...] = (
    (("Address already in use", "address already in use"), Exit.PORT_IN_USE, "its port is in use by another program"),
    (("No space left on device", "no space left on device"), Exit.DISK_FULL, "the disk is full"),
)
