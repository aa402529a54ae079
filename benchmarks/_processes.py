"""What the processes of a local network have used: processor seconds and resident memory, read from /proc."""

import contextlib
import os
from pathlib import Path

from l402train.folder import Folder


def process_ids(folder: Folder) -> dict[str, list[int]]:
    """Name -> the process and all below it: real lnds are children of the part `lightning`."""
    children = _children()
    return {name: _tree(pid, children) for name, pid in folder.describe().pids.items()}


def processor_seconds(folder: Folder) -> dict[str, float]:
    """User and system time so far."""
    return {name: seconds_of(pids) for name, pids in process_ids(folder).items()}


def memory_bytes(folder: Folder) -> dict[str, int]:
    """Resident memory."""
    return {name: resident_of(pids) for name, pids in process_ids(folder).items()}


def seconds_of(pids: list[int]) -> float:
    """Of some processes."""
    return sum(map(_ticks, pids)) / os.sysconf("SC_CLK_TCK")


def resident_of(pids: list[int]) -> int:
    """Of some processes, in bytes; what they share is counted in each."""
    return sum(map(_pages, pids)) * os.sysconf("SC_PAGE_SIZE")


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    return children


def _tree(pid: int, children: dict[int, list[int]]) -> list[int]:
    return [pid, *(below for child in children.get(pid, ()) for below in _tree(child, children))]


def _ticks(pid: int) -> int:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0


def _pages(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return 0
