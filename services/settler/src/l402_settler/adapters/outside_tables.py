"""The books' table of what a person has said was none of ours, beside those in `tables`."""

import sqlalchemy as sa

from l402_settler.adapters.tables import metadata

outside = sa.Table(
    "outside",
    metadata,
    sa.Column("payment_hash", sa.String(64), primary_key=True),
    sa.Column("way", sa.String(3), primary_key=True),  # a payment to ourselves goes both
    sa.Column("amount_msat", sa.BigInteger, nullable=False),  # as our node told, and what the route kept
    sa.Column("fee_msat", sa.BigInteger, nullable=False),
    sa.Column("in_opening", sa.Boolean, nullable=False),  # older than the books: no line, the opening balance has it
    sa.Column("by", sa.String(80), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.CheckConstraint("way in ('out', 'in')"),
    sa.CheckConstraint("amount_msat >= 0 and fee_msat >= 0"),
    sa.CheckConstraint("reason <> ''"),
)
"""One for each payment hash and way, for good, also where the books learn later whose it was."""
