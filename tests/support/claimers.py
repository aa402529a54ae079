"""A settler beside others, all asked for the same work: `python -m tests.support.claimers URL QUESTIONS NOW CLAIMERS SEED`.

QUESTIONS is a file of questions that hand in reward invoices, NOW the time at which they are asked. It says `ready`, waits for
a line, and says how many answers it had. Each of its claimers asks every question, in an order of its own, and again where
the database was busy, as a gateway does.
"""

import asyncio
import contextlib
import random
import sys
from pathlib import Path

import msgspec
from l402_settler.desk import Desk
from l402core.errors import Unavailable
from l402core.events import RegisterLocks, SubmissionView

from tests.support.settler import Stage

AT_ONCE, TRIES = 100, 10
"""Questions that one claimer has under way, and how often it asks one."""


async def _ask(desk: Desk, question: RegisterLocks) -> SubmissionView:
    for _ in range(TRIES - 1):
        with contextlib.suppress(Unavailable):
            return await desk.register_locks(question)
    return await desk.register_locks(question)


async def _claimer(desk: Desk, questions: list[RegisterLocks], seed: int) -> int:
    order = random.Random(seed).sample(questions, len(questions))
    for start in range(0, len(order), AT_ONCE):
        await asyncio.gather(*(_ask(desk, question) for question in order[start : start + AT_ONCE]))
    return len(order)


async def _claim(stage: Stage, questions: list[RegisterLocks], claimers: int, seed: int) -> int:
    try:
        every = (_claimer(stage.desk, questions, seed * claimers + number) for number in range(claimers))
        return sum(await asyncio.gather(*every))
    finally:
        stage.database.close()


def main() -> None:
    """The process."""
    url, file, now_ms, claimers, seed = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6])
    questions = msgspec.json.decode(file.read_bytes(), type=list[RegisterLocks])
    stage = Stage(file.parent, url=url)
    stage.now_ms = now_ms
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(f"{asyncio.run(_claim(stage, questions, claimers, seed))}\n")


if __name__ == "__main__":
    main()
