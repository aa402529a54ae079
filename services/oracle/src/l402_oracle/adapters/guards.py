"""The triggers that guard what the oracle has said, in both dialects: a decision is made once, whoever writes the next.

What may change of a decision is which offer it is told with, its fate and whether it was said.
"""

from l402core.guards import append_only, written_once

APPEND_ONLY = ("heard", "announcements", "isolations", "pardons", "refusals")
ONCE = {
    "decisions": ("commitment", "round", "place", "mask", "body"),
    "offers": ("commitment", "attempt", "round", "seq", "body"),
}


def guards(dialect: str) -> list[str]:
    """Statements for a database that has the tables."""
    kept = [statement for table, columns in ONCE.items() for statement in written_once(dialect, table, columns)]
    return append_only(dialect, APPEND_ONLY) + kept
