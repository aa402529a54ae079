"""What a run uses while it runs: processor seconds and memory of each service, load, streams; asked from outside."""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import nats
from _processes import memory_bytes, processor_seconds, resident_of, seconds_of
from l402core.events import FACTS, WORK
from l402core.jetstream import inbox
from l402core.rights import MIGRATION
from l402train import bus_users
from l402train.exits import Stop
from l402train.folder import Folder
from l402train.services import get

LOOK_S = 1.0
PEERS = "peers"
_SAMPLE = re.compile(r"^(\w+?)_count(?:\{([^}]*)\})? ([0-9.e+]+)$", re.MULTILINE)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One look."""

    at_s: float
    """Unix seconds."""
    load: float
    cpu_s: dict[str, float]
    """By service, since it began."""
    resident_bytes: dict[str, int]


class Meter:
    """Looks once a second."""

    def __init__(self, folder: Folder, peers: list[int]) -> None:
        self._folder, self._peers = folder, peers
        self.samples: list[Sample] = []

    def look(self) -> None:
        """Once, now."""
        cpu, resident = processor_seconds(self._folder), memory_bytes(self._folder)
        cpu[PEERS], resident[PEERS] = seconds_of(self._peers), resident_of(self._peers)
        sample = Sample(at_s=time.time(), load=os.getloadavg()[0], cpu_s=cpu, resident_bytes=resident)
        self.samples.append(sample)

    @contextlib.asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Until the block ends."""

        async def look() -> None:
            while True:
                await asyncio.to_thread(self.look)
                await asyncio.sleep(LOOK_S)

        task = asyncio.create_task(look())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            with contextlib.suppress(Stop, OSError):
                self.look()

    def spent_s(self) -> dict[str, float]:
        """By service, between the first look and the last."""
        first, last = self.samples[0].cpu_s, self.samples[-1].cpu_s
        return {name: round(seconds - first.get(name, 0.0), 2) for name, seconds in last.items()}

    def peak_bytes(self) -> dict[str, int]:
        """The most that each service had."""
        names = self.samples[-1].resident_bytes
        return {name: max(one.resident_bytes.get(name, 0) for one in self.samples) for name in names}


class StreamUse(msgspec.Struct, frozen=True, kw_only=True):
    """What was published to a stream so far."""

    messages: int
    bytes: int


async def streams(folder: Folder) -> dict[str, StreamUse]:
    """Messages ever published to each stream, and their bytes as far as they are still kept. A work queue forgets."""
    url = bus_users.url_of(folder.describe().nats_url, MIGRATION, bus_users.read(folder.passwords))
    client = await nats.connect(url, inbox_prefix=inbox(MIGRATION), connect_timeout=5)
    try:
        context = client.jetstream()
        states = {name: (await context.stream_info(name)).state for name in (FACTS, WORK)}
    finally:
        await client.close()
    return {name: StreamUse(messages=state.last_seq, bytes=state.bytes) for name, state in states.items()}


def handled(folder: Folder, names: list[str]) -> dict[str, dict[str, int]]:
    """Service -> what its own histograms have counted: messages by event, requests by route, jobs, calls on its node."""
    counted: dict[str, dict[str, int]] = {}
    for name in names:
        file = folder.run / (f"{name}/worker.url" if name.startswith("worker") else f"{name}.url")
        with contextlib.suppress(OSError):
            status, page = get(f"{file.read_text().strip()}/metrics", timeout_s=15.0)
            counted[name] = counts(page.decode()) if status == 200 else {}
    return counted


def counts(page: str) -> dict[str, int]:
    """The counts of every histogram of a page of metrics, by its name and the value of its first label."""
    found: dict[str, int] = {}
    for metric, labels, count in _SAMPLE.findall(page):
        label = re.search(r'"([^"]*)"', labels)
        key = f"{metric} {label[1]}" if label else metric
        found[key] = found.get(key, 0) + int(float(count))
    return found


def written_bytes(folder: Folder) -> dict[str, int]:
    """Size of each database with its log, and of all objects."""
    return {
        "books": _size(folder.settler), "decisions": _size(folder.attestor), "objects": _size(folder.objects),
        "streams": _size(folder.nats),
    }  # fmt: skip


def _size(root: Path) -> int:
    total = 0
    for file in root.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_blocks * 512 if file.is_file() else 0
    return total
