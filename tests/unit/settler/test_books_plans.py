"""What is asked at every step costs the same however long the past is: no statement reads a whole table."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from l402_settler.adapters import every_table, statements, status_books
from l402_settler.adapters.every_table import metadata
from l402core.dialects import open_engine
from l402core.hot import Hot
from sqlalchemy import event

NAMED = {
    **{name: one for module in (statements, status_books) for name, one in vars(module).items()},
    **{f"EXPOSED {whose} {n}": one for whose, queries in statements.EXPOSED.items() for n, one in enumerate(queries)},
}
STATEMENTS = {name: one.statement if isinstance(one, Hot) else one for name, one in NAMED.items()}
ASKED = {name: one for name, one in STATEMENTS.items() if isinstance(one, sa.Select)}
SMALL = ("submissions_open", "submissions_frozen", "rounds_live")
"""Indexes of what is not over; reading all of one is reading what is open."""


def test_every_module_of_tables_is_among_what_is_created() -> None:
    """Whoever creates the books by this metadata forgets none, whatever else was imported before."""
    folder = Path(every_table.__file__).parent
    written = {path.stem for path in folder.glob("*tables.py")}
    assert {module.__name__.rpartition(".")[2] for module in every_table.MODULES} == written


@pytest.mark.parametrize("name", ASKED)
def test_a_hot_statement_searches_an_index_or_reads_what_is_open(tmp_path: Path, name: str) -> None:
    """SQLite's own plan: every step of it searches, or scans an index of open things, or stops at the first row."""
    engine = open_engine(f"sqlite:///{tmp_path}/books.sqlite3")
    metadata.create_all(engine)
    binds = ASKED[name].compile(engine).binds
    asked = {key: ["1"] if bind.expanding else "1" for key, bind in binds.items() if key.startswith("b_")}
    with engine.connect() as connection:
        scans = _scans(connection, ASKED[name], asked)
    engine.dispose()
    if name == "CURRENT_ROUND":  # the newest row of the primary key, and no further
        scans = [step for step in scans if step != "SCAN rounds"]
    assert [step for step in scans if not any(index in step for index in SMALL)] == []


def _scans(connection: sa.Connection, query: sa.Select[*tuple[Any, ...]], asked: dict[str, Any]) -> list[str]:
    """The steps of the plan that read all of a table or index."""
    plan: list[str] = []

    def explain(_connection: object, cursor: Any, text: str, parameters: Any, *_: object) -> None:
        plan.extend(step for *_, step in cursor.connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters))

    event.listen(connection, "before_cursor_execute", explain)
    connection.execute(query, asked)
    return [step for step in plan if step.startswith("SCAN")]
