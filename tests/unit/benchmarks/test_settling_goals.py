"""Whether the settler reaches its goals, told from what was measured of each database with each past."""

import msgspec
import pytest
from _settling_goals import LONG_PAST, SHORT_PAST, Measured, verdict_table, verdicts

GOOD = Measured(
    database="SQLite", past=SHORT_PAST, escrows=300, seconds=3.0, p50_s=0.1, p99_s=0.99,
    cpu_ms={"settler": 8.0, "lndsim": 3.0, "nats": 1.0, "load": 3.0}, reconcile_s=0.1,
)  # fmt: skip
LONG = msgspec.structs.replace(GOOD, past=LONG_PAST, reconcile_s=59.9)


def reached(*rows: Measured) -> list[bool | None]:
    """Rate, latency, the same cost, comparing."""
    return [one.reached for one in verdicts(list(rows))]


def test_all_goals_are_reached_at_their_very_edge() -> None:
    """100 escrows a second are 100, and anything below a second is below it."""
    assert reached(GOOD, LONG) == [True] * 4


@pytest.mark.parametrize(
    ("goal", "worse"),
    [
        (0, {"seconds": 3.01}),
        (1, {"p99_s": 1.0}),
        (2, {"cpu_ms": GOOD.cpu_ms | {"settler": 10.1}}),
        (3, {"reconcile_s": 60.0}),
    ],
)
def test_the_worst_past_decides(goal: int, worse: dict[str, object]) -> None:
    """One past that misses a goal is enough, and it misses no other."""
    assert reached(GOOD, msgspec.structs.replace(LONG, **worse)) == [number != goal for number in range(4)]


def test_a_database_that_itself_gets_slower_does_not_cost_the_same() -> None:
    """Its work is in no process whose time is told, and so the clock counts too."""
    fast, slow = (msgspec.structs.replace(row, seconds=s) for row, s in ((GOOD, 1.0), (LONG, 1.3)))
    assert reached(fast, slow) == [True, True, False, True]


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    """A short run has no long past: its table says so."""
    assert reached(GOOD) == [True, True, None, None]
    assert verdict_table(verdicts([GOOD])).count("| not measured |") == 2


def test_each_database_is_judged_by_itself() -> None:
    """One that is slow does not spoil the other's verdict, nor help it."""
    slow = [msgspec.structs.replace(row, database="PostgreSQL", seconds=5.0) for row in (GOOD, LONG)]
    found = verdicts([GOOD, LONG, *slow])
    assert [(one.database, one.reached) for one in found] == [
        *(("SQLite", True) for _ in range(4)), ("PostgreSQL", False), *(("PostgreSQL", True) for _ in range(3)),
    ]  # fmt: skip
