"""The books' table of contradictions that a person has explained, beside those in `tables`."""

import sqlalchemy as sa

from l402_settler.adapters.tables import metadata

explained = sa.Table(
    "explained",
    metadata,
    sa.Column("payment_hash", sa.String(64), primary_key=True),
    sa.Column("what", sa.String(8), nullable=False),
    sa.Column("about", sa.String(64), nullable=False),  # a commitment, or the payment hash of a fee or tranche
    sa.Column("books", sa.String(24), nullable=False),  # as the books had it, and our node, when it was explained
    sa.Column("lnd", sa.String(24), nullable=False),
    sa.Column("amount_msat", sa.BigInteger, nullable=False),  # what it cost us; negative where our node has more
    sa.Column("by", sa.String(80), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.CheckConstraint("what in ('rung', 'fee', 'tranche')"),
    sa.CheckConstraint("reason <> ''"),
)
"""One for each payment hash, for good."""
