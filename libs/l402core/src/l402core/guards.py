"""Triggers that keep what is written once: whole tables, or some columns of a row. They know no service and no meaning.

Both dialects refuse in the same words, as an integrity error, whoever asks.
"""

from collections.abc import Iterable

_VERBS = ("update", "delete")


def append_only(dialect: str, tables: Iterable[str]) -> list[str]:
    """Statements after which rows of these tables are neither changed nor deleted nor, on PostgreSQL, truncated."""
    if dialect == "sqlite":
        return [
            f"create trigger {table}_no_{verb} before {verb} on {table} "
            f"begin select raise(abort, '{table} is append-only'); end"
            for table in tables
            for verb in _VERBS
        ]
    refuse = (
        "create function refuse_change() returns trigger language plpgsql as $$ begin raise exception using "
        "message = tg_table_name || ' is append-only', errcode = 'integrity_constraint_violation'; end $$"
    )
    return [refuse] + [
        f"create trigger {table}_append_only before update or delete or truncate on {table} "
        "for each statement execute function refuse_change()"
        for table in tables
    ]


def written_once(dialect: str, table: str, columns: Iterable[str]) -> list[str]:
    """Statements after which no row of the table goes, and these columns of one are what they were when it came."""
    if dialect == "sqlite":
        changed = " or ".join(f"old.{column} is not new.{column}" for column in columns)
        refused = f"begin select raise(abort, '{table} is written once'); end"
        return [
            f"create trigger {table}_once before update on {table} when {changed} {refused}",
            f"create trigger {table}_no_delete before delete on {table} {refused}",
        ]
    changed = " or ".join(f"old.{column} is distinct from new.{column}" for column in columns)
    function = f"refuse_{table}_change"
    return [
        f"create function {function}() returns trigger language plpgsql as $$ begin raise exception "
        f"'{table} is written once' using errcode = 'integrity_constraint_violation'; end $$",
        f"create trigger {table}_once before update on {table} for each row when ({changed}) execute function {function}()",
        f"create trigger {table}_no_delete before delete or truncate on {table} "
        f"for each statement execute function {function}()",
    ]
