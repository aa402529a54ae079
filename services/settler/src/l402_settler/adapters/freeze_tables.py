"""The books' tables of what was frozen and thawed, by whom and why, and of the messages that wait for it."""

import sqlalchemy as sa

from l402_settler.adapters.tables import metadata

freezes = sa.Table(
    "freezes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("about", sa.String(64), nullable=False),  # a commitment, or a tranche's payment hash
    sa.Column("what", sa.String(12), nullable=False),
    sa.Column("action", sa.String(8), nullable=False),
    sa.Column("by", sa.String(80), nullable=False),  # a person's name, or a service's
    sa.Column("code", sa.String(80), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.CheckConstraint("what in ('submission', 'tranche', 'fee')"),
    sa.CheckConstraint("action in ('freeze', 'thaw')"),
    sa.CheckConstraint("reason <> ''"),
    sa.Index("freezes_about", "about"),
)

held = sa.Table(
    "held",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("about", sa.String(64), nullable=False),
    sa.Column("event", sa.String(40), nullable=False),
    sa.Column("message_id", sa.String(255), nullable=False, unique=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("why", sa.Text, nullable=False),  # '' for one that came to what was frozen already
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Index("held_about", "about"),
)
"""Messages that are neither taken nor lost: the thaw takes each of them, once."""
