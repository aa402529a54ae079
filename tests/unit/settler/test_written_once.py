"""What is only ever added to: no row of it is changed or forgotten, on either database, whoever asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from l402_oracle.adapters.guards import APPEND_ONLY as ORACLE_APPEND_ONLY
from l402_oracle.adapters.guards import ONCE
from l402_settler.adapters.guards import APPEND_ONLY
from l402core.dialects import open_engine
from sqlalchemy.exc import IntegrityError

from tests.support.databases import url_for

WORDS = {
    "phase": "single",
    "kind": "uploaded",
    "what": "fee",
    "action": "freeze",
    "fate": "",
    "credit": "y",
    "part": "gateway",
    "way": "out",
}
"""What the tables' own constraints ask for."""


CHANGING = {
    "l402_settler": {
        "rounds", "submissions", "rungs", "credits", "sponsorships", "tranches",  # states, moved by compare-and-set
        "accounts", "locked", "awake",  # sums, which the journal's own trigger keeps
        "outbox", "inbox", "held", "alembic_version",  # what is done goes
    },
    "l402_oracle": {"rounds", "reputations", "tranches", "outbox", "alembic_version"},
}  # fmt: skip
"""Tables whose rows change, or go. All others are guarded."""


@pytest.fixture
def engine(tmp_path: Path, each_database: str, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """An empty database of the package that the test names."""
    made = open_engine(url_for(tmp_path, request.param))
    yield made
    made.dispose()


def with_a_row(engine: sa.Engine, table: str) -> dict[str, object]:
    """One row, written past every rule of the code and without what it refers to; its values."""
    needed = [one for one in sa.inspect(engine).get_columns(table) if not one["nullable"]]
    values: dict[str, object] = {one["name"]: _example(one["name"], one["type"]) for one in needed}
    careless = sa.create_engine(engine.url, poolclass=sa.NullPool)  # SQLite minds no foreign key unless it is told to
    with careless.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("set session_replication_role = replica")
        connection.execute(sa.insert(sa.table(table, *map(sa.column, values))), values)
    return values


def _example(name: str, kind: "sa.types.TypeEngine[object]") -> object:
    if isinstance(kind, sa.Boolean):
        return False
    return 1 if isinstance(kind, sa.Integer | sa.Float) else WORDS.get(name, "x")


def refused(engine: sa.Engine, statement: str, why: str) -> None:
    """The database does not do it."""
    with engine.begin() as connection, pytest.raises(IntegrityError, match=why):
        connection.exec_driver_sql(statement)


def forgetting(engine: sa.Engine, table: str) -> list[str]:
    """Every way to forget a row."""
    return [f"delete from {table}"] + ([] if engine.dialect.name == "sqlite" else [f"truncate {table} cascade"])  # noqa: S608 - names of ours


@pytest.mark.parametrize(
    ("engine", "table"),
    [("l402_settler", table) for table in APPEND_ONLY] + [("l402_oracle", table) for table in ORACLE_APPEND_ONLY],
    indirect=["engine"],
    ids=str,
)
def test_a_fact_is_neither_changed_nor_forgotten(engine: sa.Engine, table: str) -> None:
    """Not one column of it, not even to what it is."""
    values = with_a_row(engine, table)
    for column in values:
        refused(engine, f'update {table} set "{column}" = "{column}"', "append-only")  # noqa: S608 - names of ours
    for statement in forgetting(engine, table):
        refused(engine, statement, "append-only")


@pytest.mark.parametrize(("engine", "table"), [("l402_oracle", table) for table in ONCE], indirect=["engine"], ids=str)
def test_what_the_oracle_has_decided_or_offered_stays(engine: sa.Engine, table: str) -> None:
    """Its columns that say what was decided never change; that it was said, or what became of it, does."""
    values = with_a_row(engine, table)
    for column in ONCE[table]:
        other = 2 if isinstance(values[column], int) else "'y'"
        refused(engine, f"update {table} set {column} = {other}", "written once")  # noqa: S608 - names of ours
    for statement in forgetting(engine, table):
        refused(engine, statement, "written once")
    with engine.begin() as connection:
        change = "said = true" if table == "decisions" else "locked = 'evidence'"
        assert connection.exec_driver_sql(f"update {table} set {change}").rowcount == 1  # noqa: S608 - names of ours


@pytest.mark.parametrize("engine", list(CHANGING), indirect=True)
def test_a_table_is_guarded_or_known_to_change(engine: sa.Engine, request: pytest.FixtureRequest) -> None:
    """A new table of facts is not forgotten."""
    package = request.node.callspec.params["engine"]
    guarded = set(APPEND_ONLY) if package == "l402_settler" else {*ORACLE_APPEND_ONLY, *ONCE}
    assert set(sa.inspect(engine).get_table_names()) == guarded | CHANGING[package]
