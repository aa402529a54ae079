"""The books' tables of when we were last there for peers, and of when we were not, beside those in `tables`."""

import sqlalchemy as sa

from l402_settler.adapters.tables import metadata

awake = sa.Table(
    "awake",
    metadata,
    sa.Column("part", sa.String(8), primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.CheckConstraint("part in ('settler', 'gateway')"),
)
"""When any settler, or any gateway as a settler heard it, was last there. It only goes forward."""

outages = sa.Table(
    "outages",
    metadata,
    sa.Column("part", sa.String(8), primary_key=True),
    sa.Column("since_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("until_ms", sa.BigInteger, nullable=False),
    sa.CheckConstraint("part in ('settler', 'gateway')"),
    sa.CheckConstraint("until_ms >= since_ms"),
    sa.Index("outages_by_end", "until_ms"),
)
"""From the last sign of one to the next, where that was too long."""
