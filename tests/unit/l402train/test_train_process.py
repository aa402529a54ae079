"""Child processes: awaited with a deadline, ended with everything they started, and never outliving us."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from l402train import services
from l402train.exits import Exit, Stop
from l402train.process import Process

ENV = dict(os.environ)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Process]]:
    """Processes that are ended whatever the test does."""
    mine: list[Process] = []
    yield mine
    for process in mine:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _ = process.returncode


def a_python(code: str, log: Path, started: list[Process]) -> Process:
    """A Python program as a child."""
    process = Process("part", [sys.executable, "-c", code], log, ENV)
    started.append(process)
    return process


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_a_part_that_ends_early_shows_the_end_of_its_log(tmp_path: Path, started: list[Process]) -> None:
    """The error names the part and its code, and brings the log's last lines."""
    process = a_python("import sys; print('no such table'); sys.exit(4)", tmp_path / "log", started)
    with pytest.raises(Stop) as stop:
        await process.until(lambda: None, deadline_s=20)
    assert stop.value.code is Exit.PART_FAILED
    assert "ended with 4" in stop.value.sentence
    assert stop.value.detail == "no such table"


async def test_a_part_that_is_never_ready_is_given_up(tmp_path: Path, started: list[Process]) -> None:
    """No wait is without a limit."""
    process = a_python("import time; time.sleep(600)", tmp_path / "log", started)
    with pytest.raises(Stop, match="not ready within"):
        await process.until(lambda: None, deadline_s=0.1)


async def test_a_part_that_is_up_and_unfit_is_given_up_with_what_it_lacks(
    tmp_path: Path, started: list[Process]
) -> None:
    """The first line says what its /readyz says: a node without slots reads as that, and not as slowness."""
    code = (
        "import http.server, json, sys\n"
        "class Page(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(503); self.end_headers()\n"
        "        self.wfile.write(json.dumps({'bus': True, 'lightning': False}).encode())\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Page)\n"
        "open(sys.argv[1], 'w').write(f'http://127.0.0.1:{server.server_port}')\n"
        "server.serve_forever()\n"
    )
    url = tmp_path / "part.url"
    process = Process("part", [sys.executable, "-c", code, str(url)], tmp_path / "log", ENV)
    started.append(process)
    await process.until(lambda: services.missing_at(url) or None, deadline_s=30)
    with pytest.raises(Stop, match="part was not ready within 0 s: lightning fails in /readyz"):
        await process.until(lambda: services.ready_at(url), deadline_s=0, missing=lambda: services.missing_at(url))


@pytest.mark.parametrize(
    ("words", "code"),
    [("OSError: [Errno 98] Address already in use", Exit.PORT_IN_USE), ("No space left on device", Exit.DISK_FULL)],
)
async def test_the_cause_in_the_log_decides_the_exit_code(
    tmp_path: Path, started: list[Process], words: str, code: Exit
) -> None:
    """A port in use and a full disk are told as what they are."""
    process = a_python(f"print({words!r}); raise SystemExit(1)", tmp_path / "log", started)
    with pytest.raises(Stop) as stop:
        await process.until(lambda: None, deadline_s=20)
    assert stop.value.code is code


async def test_ending_takes_the_whole_group(tmp_path: Path, started: list[Process]) -> None:
    """A part that ignores SIGTERM and has a child of its own leaves neither behind."""
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True); time.sleep(600)"
    )
    process = a_python(code, tmp_path / "log", started)
    child = int(await process.until(lambda: process.log.read_text().strip() or None, deadline_s=20))
    process.ask_to_end()
    await process.ended(within_s=0.2)
    assert process.returncode == -signal.SIGKILL
    await _gone(child)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_killed_parent_leaves_nothing_running(tmp_path: Path) -> None:
    """SIGKILL gives no chance to clean up; the kernel does it."""
    code = (
        "import os, sys, time, pathlib; from l402train.process import Process;"
        "p = Process('part', [sys.executable, '-c', 'import time; time.sleep(600)'], pathlib.Path(sys.argv[1]), os.environ);"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)  # the launcher asks for the signal right after it has begun
        assert is_alive(child)
        parent.kill()
    asyncio.run(_gone(child))


async def _gone(pid: int) -> None:
    for _ in range(500):
        if not is_alive(pid):
            return
        await asyncio.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    pytest.fail(f"process {pid} outlived its parent")


async def test_a_killed_process_is_started_again_as_it_was(tmp_path: Path, started: list[Process]) -> None:
    """Another process of the same program, with the same words in its environment, at the end of the same log."""
    log = tmp_path / "log"
    code = "import os, time; print(os.environ['WORD'], flush=True); time.sleep(60)"
    process = Process("part", [sys.executable, "-c", code], log, {**ENV, "WORD": "hello"})
    started.append(process)
    await process.until(lambda: log.read_text() or None, deadline_s=20)
    before = process.pid
    process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not is_alive(before)
    process.start_again()
    await process.until(lambda: log.read_text() == "hello\nhello\n" or None, deadline_s=20)
    assert process.pid != before
