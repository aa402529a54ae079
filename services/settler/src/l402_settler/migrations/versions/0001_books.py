"""The books, and the triggers that make the journal append-only."""

import sqlalchemy as sa
from alembic import op
from l402_settler.adapters import sponsor_tables  # noqa: F401 - its tables are in the metadata too
from l402_settler.adapters.tables import metadata

revision = "0001"
down_revision = None

_SQLITE = (
    "create trigger transfers_no_{verb} before {verb} on transfers "
    "begin select raise(abort, 'the journal is append-only'); end"
)
_POSTGRES = (
    "create function refuse_journal_change() returns trigger language plpgsql as "
    "$$ begin raise exception 'the journal is append-only'; end $$",
    "create trigger transfers_append_only before update or delete on transfers "
    "for each statement execute function refuse_journal_change()",
)


def upgrade() -> None:
    """Create every table; refuse updates and deletes of transfers."""
    connection = op.get_bind()
    metadata.create_all(connection)
    if connection.dialect.name == "sqlite":
        for verb in ("update", "delete"):
            connection.execute(sa.text(_SQLITE.format(verb=verb)))
    else:
        for statement in _POSTGRES:
            connection.execute(sa.text(statement))
