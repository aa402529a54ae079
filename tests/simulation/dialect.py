"""SQLite as a history writes to it: each transaction takes the write lock at once, as the services' own engine does.

It knows no table. The services' engine says BEGIN by an event; one that has listeners is slower at every statement.
"""

from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite


class SimDialect(SQLiteDialect_pysqlite):
    """It says BEGIN itself: the driver's connection is in autocommit."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        dbapi_connection.execute("BEGIN IMMEDIATE")


URL = "sqlite+simulated://"
registry.register("sqlite.simulated", __name__, SimDialect.__name__)
