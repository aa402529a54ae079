"""What each past of each database came to, as a table, and beside each goal whether it was reached. Pure."""

from collections.abc import Callable

import msgspec
from _history import RUNGS

GOAL_RATE, GOAL_P99_S, GOAL_RECONCILE_S = 100.0, 1.0, 60.0
SHORT_PAST, LONG_PAST = 100, 100_000
SAME = 1.25
"""An escrow costs the same with a long past if it costs at most so many times as much: runs on one past differ by a fifth."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One database with one past."""

    database: str
    past: int
    """Ended escrows in the books before."""
    escrows: int
    """How many were settled at full speed, all waves together."""
    seconds: float
    """What that took."""
    p50_s: float
    """At half the goal's rate, as the next."""
    p99_s: float
    cpu_ms: dict[str, float]
    """Of each process for one escrow."""
    reconcile_s: float
    """What comparing all of that past with a node's lists took."""

    @property
    def rate(self) -> float:
        """Escrows per second at full speed."""
        return self.escrows / self.seconds


class Verdict(msgspec.Struct, frozen=True):
    """One goal, and what one database came to."""

    database: str
    goal: str
    measured: str
    reached: bool | None
    """None: nothing was measured that could tell."""


def table(rows: list[Measured]) -> str:
    """In Markdown, a row for each past."""
    head = "| books | before | escrows/s | rungs/s | p50 at half the goal, s | p99, s |"
    lines = [f"{head} settler ms | lndsim ms | NATS ms | load ms |", "|---" * 10 + "|"]
    for row in rows:
        cpu = " | ".join(f"{row.cpu_ms[name]:.1f}" for name in ("settler", "lndsim", "nats", "load"))
        lines.append(
            f"| {row.database} | {row.past:,} | {row.rate:.0f} | {row.rate * RUNGS:.0f} | {row.p50_s:.2f} | {row.p99_s:.2f} "
            f"| {cpu} |"
        )
    return "\n".join(lines)


def verdicts(rows: list[Measured]) -> list[Verdict]:
    """Every goal for every database, each by the past that did worst."""
    databases = dict.fromkeys(row.database for row in rows)
    return [judge([row for row in rows if row.database == database]) for database in databases for judge in GOALS]


def verdict_table(found: list[Verdict]) -> str:
    """In Markdown, a row for each goal."""
    word = {True: "reached", False: "MISSED", None: "not measured"}
    rows = [f"| {one.database} | {one.goal} | {one.measured} | {word[one.reached]} |" for one in found]
    return "\n".join(["| books | goal | measured | verdict |", "|---" * 4 + "|", *rows])


def _sustained(rows: list[Measured]) -> Verdict:
    worst = min(rows, key=lambda row: row.rate)
    told = f"{worst.rate:.1f}: {worst.escrows:,} in {worst.seconds:.1f} s, {worst.past:,} before"
    return Verdict(worst.database, f"{GOAL_RATE:.0f} escrows/s sustained", told, worst.rate >= GOAL_RATE)


def _latency(rows: list[Measured]) -> Verdict:
    worst = max(rows, key=lambda row: row.p99_s)
    goal = f"p99 below {GOAL_P99_S:.0f} s at {GOAL_RATE / 2:.0f} escrows/s"
    return Verdict(worst.database, goal, f"{worst.p99_s:.2f} s, {worst.past:,} before", worst.p99_s < GOAL_P99_S)


def _same_cost(rows: list[Measured]) -> Verdict:
    """By the clock, in which the database's own work is, and by the settler's processor time."""
    goal = f"an escrow costs the same after {SHORT_PAST:,} and {LONG_PAST:,} (at most {SAME:.2f} times as much)"
    by_past = {row.past: row for row in rows}
    short, long = by_past.get(SHORT_PAST), by_past.get(LONG_PAST)
    if short is None or long is None:
        return Verdict(rows[0].database, goal, "", None)
    clock, processor = short.rate / long.rate, long.cpu_ms["settler"] / short.cpu_ms["settler"]
    told = f"{clock:.2f} times the time, {processor:.2f} times the settler's processor time"
    return Verdict(rows[0].database, goal, told, max(clock, processor) <= SAME)


def _reconciled(rows: list[Measured]) -> Verdict:
    goal = f"reconcile of {LONG_PAST:,} in under {GOAL_RECONCILE_S:.0f} s"
    taken = [row.reconcile_s for row in rows if row.past >= LONG_PAST]
    if not taken:
        return Verdict(rows[0].database, goal, "", None)
    return Verdict(rows[0].database, goal, f"{max(taken):.1f} s", max(taken) < GOAL_RECONCILE_S)


GOALS: tuple[Callable[[list[Measured]], Verdict], ...] = (_sustained, _latency, _same_cost, _reconciled)
