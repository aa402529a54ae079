"""The books' table of what a person paid by hand, beside those in `tables`."""

import sqlalchemy as sa

from l402_settler.adapters.tables import metadata

settlements = sa.Table(
    "settlements",
    metadata,
    sa.Column("commitment", sa.String(64), sa.ForeignKey("submissions.commitment"), primary_key=True),
    sa.Column("payment_hash", sa.String(64), unique=True),  # of our node's payment; none where it was paid elsewhere
    sa.Column("amount_msat", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(80), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.CheckConstraint("amount_msat > 0"),
    sa.CheckConstraint("reason <> ''"),
)
"""One for each debt, one debt for each payment."""
