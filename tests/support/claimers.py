"""A process that claims jobs of a settler's books beside others: `python -m tests.support.claimers URL CLAIMERS JOBS SEED`.

It says `ready`, waits for a line, and says how many it won. Each of its claimers asks for every job, in an order of its own.
"""

import asyncio
import random
import sys
from collections.abc import Callable

from l402_settler.adapters import books
from l402_settler.adapters.tables import outbox
from l402core.events import CommitsClosed
from l402core.outbox import Database, Transaction
from l402core.signing import Signed

JOBS_TOGETHER, AT_ONCE = 20, 5
"""Jobs that are claimed in one transaction, and transactions that one claimer has under way."""
NO_ROOT = Signed(body="", signer="", signature="")


def _claim_each(jobs: list[int]) -> Callable[[Transaction], int]:
    """By compare-and-set, in the transaction that says so; how many were won."""

    def work(tx: Transaction) -> int:
        won = [job for job in jobs if books.move_round(tx, job, "commit", "upload")]
        for job in won:
            tx.say(CommitsClosed(id="c", occurred_at_ms=1, round=job, root=NO_ROOT))
        return len(won)

    return work


async def _claimer(database: Database, jobs: int, seed: int) -> int:
    order, won = list(range(1, jobs + 1)), 0
    random.Random(seed).shuffle(order)
    shares = [order[start : start + JOBS_TOGETHER] for start in range(0, jobs, JOBS_TOGETHER)]
    for start in range(0, len(shares), AT_ONCE):
        claims = (database.transact(_claim_each(share)) for share in shares[start : start + AT_ONCE])
        won += sum(await asyncio.gather(*claims))
    return won


async def _claim(url: str, claimers: int, jobs: int, seed: int) -> int:
    database = Database(url, outbox)
    try:
        won = await asyncio.gather(*(_claimer(database, jobs, seed * claimers + number) for number in range(claimers)))
        return sum(won)
    finally:
        database.close()


def main() -> None:
    """The process."""
    url, claimers, jobs, seed = sys.argv[1], *map(int, sys.argv[2:5])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(f"{asyncio.run(_claim(url, claimers, jobs, seed))}\n")


if __name__ == "__main__":
    main()
