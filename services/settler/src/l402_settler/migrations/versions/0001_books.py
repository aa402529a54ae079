"""The books, and the triggers that guard their journal."""

from alembic import op
from l402_settler.adapters.every_table import metadata
from l402_settler.adapters.guards import BY_DIALECT

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table, then its guards."""
    connection = op.get_bind()
    metadata.create_all(connection)
    for statement in BY_DIALECT[connection.dialect.name]:
        connection.exec_driver_sql(statement)
