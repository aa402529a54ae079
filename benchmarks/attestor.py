"""What the attestor's timer costs beside its work: one round, told by a program, with a look at the clock twice a second.

The real attestor on SQLite, from its offers to its decisions; settler, workers and peers are words. While it waits for the
screenings, and again for the measurements, two minutes pass by the clock that it is given. `python benchmarks/attestor.py`.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from l402core.documents import Terms
from l402core.events import Event, GradientScored
from sqlalchemy.event import listen

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.support.oracle import UPLOAD_UNTIL_MS, Stage, commits_closed, locked, measured, round_closed

TICK_MS, LOOKS = 500, 240


class LongRound(Stage):
    """There is time enough to wait in."""

    def terms(self, round_: int = 1, **changes: Any) -> Terms:
        """As the settler signs them."""
        return super().terms(round_, **{"judge_by_ms": UPLOAD_UNTIL_MS + 10 * LOOKS * TICK_MS, **changes})


class Story:
    """One round of so many peers, and what each part of it took."""

    def __init__(self, folder: Path) -> None:
        self.stage = LongRound(folder)
        self.rows: list[tuple[str, float, int]] = []
        self._statements = 0
        listen(self.stage.database.engine, "before_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self._statements += 1

    @asynccontextmanager
    async def part(self, name: str) -> AsyncIterator[None]:
        """Processor seconds and statements of what happens inside."""
        began, before = time.process_time(), self._statements
        yield
        self.rows.append((name, time.process_time() - began, self._statements - before))

    async def tell(self, peers: int) -> None:
        """From its opening to its decisions."""
        stage, names = self.stage, [f"peer {number}" for number in range(peers)]
        await stage.announce()
        await stage.hear(stage.round_opened())
        async with self.part("offers, locks, uploads"):
            for seq, name in enumerate(names):
                await stage.hear(locked(await stage.offer(name, seq)), stage.uploaded(name))
        stage.now_ms = UPLOAD_UNTIL_MS
        await stage.hear(commits_closed(*names), round_closed(*names))
        await self._waits("clock, nothing screened")
        await self._hears("screened", [stage.screened(name) for name in names])
        await self._waits("clock, nothing measured")
        await self._hears("measured and decided", [measured(name, 0.5) for name in names])
        if len(stage.ears.all(GradientScored)) != peers:
            raise SystemExit("not everybody was decided about")
        stage.database.close()

    async def _waits(self, name: str) -> None:
        async with self.part(name):
            for _ in range(LOOKS):
                await self.stage.tick(to_ms=self.stage.now_ms + TICK_MS)

    async def _hears(self, name: str, words: list[Event]) -> None:
        async with self.part(name):
            for word in words:
                await self.stage.hear(word)


def main() -> None:
    """One row for each part, a column for each number of peers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, nargs="+", default=[70, 300, 1_000])
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| peers | part | processor s | statements |\n|---|---|---|---|")
    for peers in asked.peers:
        with tempfile.TemporaryDirectory() as folder:
            story = Story(Path(folder))
            asyncio.run(story.tell(peers))
        for name, seconds, statements in story.rows:
            print(f"| {peers:,} | {name} | {seconds:.2f} | {statements:,} |", flush=True)


if __name__ == "__main__":
    main()
