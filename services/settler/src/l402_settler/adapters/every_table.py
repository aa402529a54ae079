"""The metadata once every module of tables has put its own into it: what is created, and what a test looks at."""

from l402_settler.adapters import (
    awake_tables,
    explained_tables,
    freeze_tables,
    outside_tables,
    owed_tables,
    sponsor_tables,
    tables,
)

MODULES = (
    tables, awake_tables, explained_tables, freeze_tables, outside_tables, owed_tables, sponsor_tables,
)  # fmt: skip
metadata = tables.metadata
