"""How fast the settler settles: from the peer's `accepted` to six posted rungs, on SQLite and on PostgreSQL.

A real settler process, a real nats-server and lndsim, each a process of its own. This program is the load: it plays
gateway, attestor, invoicer and peers, and its processor time is told apart. Scores are precomputed: the attestor's
decision is signed before the clock starts. Ladders are opened and locked beforehand, because a channel has 483 slots.
Before all that the books of each past are compared with a node's lists as long (`_reconcile`). Last come the goals.

With `--backend lnd` the nodes are real, there is one past, and a plain client settles as many hold invoices on the same nodes
before and after each wave of ours (`_settling_plain`).
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from pathlib import Path

from _settling_goals import GOAL_RATE, Measured, table, verdict_table, verdicts
from _settling_ladders import Ladder
from _settling_plain import beside_plain
from _settling_started import a_world
from _settling_world import settled
from l402core import telemetry

sys.path.append(str(Path(__file__).parent.parent))  # the private PostgreSQL is the tests' own
from tests.support.postgres import HOW, postgres_is_there, running_postgres

PER_NODE = 75
"""Ladders per node at a time: 450 of a channel's 483 slots."""


async def main() -> None:
    """Each database with a short and a long past: a table, and a verdict on each goal."""
    asked = arguments()
    telemetry.setup("load", trace_file=None, log_level="ERROR")
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    if asked.backend == "lnd":
        await beside_plain(asked)
    else:
        rows = await each_past(asked)
        print(f"\n{table(rows)}\n\n{verdict_table(verdicts(rows))}\n")
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def arguments() -> argparse.Namespace:
    """How much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--history", default="100,1000,10000,100000", help="ended escrows in the books before, one run each"
    )
    parser.add_argument("--books", default="sqlite,postgresql", help="which databases")
    parser.add_argument("--waves", type=int, default=1, help="full rounds at full speed, and one at half the goal")
    parser.add_argument("--nodes", type=int, default=4, help="payout nodes")
    parser.add_argument("--per-node", type=int, default=PER_NODE, help="ladders of a round for each of them")
    parser.add_argument("--backend", choices=("lndsim", "lnd"), default="lndsim", help="lnd: real nodes (make tools)")
    parser.add_argument("--lnd-dir", type=Path, help="where lnd and btcd are, if not in .tools")
    parser.add_argument("--at-once", type=int, default=48, help="ladders that this program settles at a time")
    return parser.parse_args()


async def each_past(asked: argparse.Namespace) -> list[Measured]:
    """Of each database that was asked for."""
    pasts = [int(one) for one in asked.history.split(",")]
    rows = [await measured("SQLite", None, past, asked) for past in pasts if "sqlite" in asked.books]
    if "postgresql" not in asked.books:
        return rows
    if not postgres_is_there():
        print(f"PostgreSQL is left out: {HOW}")
        return rows
    with running_postgres(durable=True) as server:
        return rows + [await measured("PostgreSQL", server.make("l402_settler"), past, asked) for past in pasts]


async def measured(database: str, url: str | None, past: int, asked: argparse.Namespace) -> Measured:
    """One database with one past."""
    async with a_world(url, past, asked) as world:
        burst: list[Ladder] = []
        timed_s, cpu = 0.0, dict.fromkeys(world.cpu_seconds(), 0.0)
        for _ in range(asked.waves):
            ladders = await world.wave()
            before, started = world.cpu_seconds(), time.perf_counter()
            await settled(world, ladders, at_once=asked.at_once)
            timed_s += max(one.done_s for one in ladders) - started
            cpu = {name: cpu[name] + now - before[name] for name, now in world.cpu_seconds().items()}
            burst += ladders
            await world.ended(ladders)
        paced = await world.wave()
        await settled(world, paced, rate=GOAL_RATE / 2)
        await world.ended(paced)
    took = sorted(one.done_s - one.begun_s for one in paced)
    row = Measured(
        database=database, past=past, escrows=len(burst), seconds=timed_s,
        p50_s=statistics.median(took), p99_s=took[int(len(took) * 0.99)],
        cpu_ms={name: 1_000 * spent / len(burst) for name, spent in cpu.items()}, reconcile_s=world.reconcile_s,
    )  # fmt: skip
    print(f"  {database}, {past:,} before: {row.rate:.0f} escrows/s, p99 {row.p99_s:.2f} s", flush=True)
    return row


if __name__ == "__main__":
    asyncio.run(main())
