"""The books' tables of sponsorships and their tranches, beside those in `tables`."""

import sqlalchemy as sa

from l402_settler.adapters.tables import metadata

sponsorships = sa.Table(
    "sponsorships",
    metadata,
    sa.Column("sponsorship", sa.String(64), primary_key=True),
    sa.Column("sponsor", sa.String(64), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("pledge", sa.Text, nullable=False),  # the sponsor's Signed Pledge
    sa.Column("terms", sa.Text, nullable=False),  # our Signed SponsorshipTerms
    sa.Column("announcement", sa.Text),  # the oracle's Signed Announcement
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.Column("opened_at_ms", sa.BigInteger, nullable=False),
    sa.CheckConstraint("state in ('asked', 'announced', 'ended')"),
    sa.Index("sponsorships_by_state", "state"),
)

tranches = sa.Table(
    "tranches",
    metadata,
    sa.Column("payment_hash", sa.String(64), primary_key=True),
    sa.Column("sponsorship", sa.String(64), sa.ForeignKey("sponsorships.sponsorship"), nullable=False),
    sa.Column("tranche", sa.Integer, nullable=False),
    sa.Column("amount_msat", sa.BigInteger, nullable=False),
    sa.Column("margin", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("round", sa.Integer, unique=True),  # one tranche a round
    sa.Column("bolt11", sa.Text, nullable=False, default=""),
    sa.Column("pay_by_ms", sa.BigInteger, nullable=False, default=0),
    sa.Column("expiry_height", sa.Integer, nullable=False, default=0),
    sa.Column("locked", sa.Text),  # our Signed TrancheLocked
    sa.Column("receipt", sa.Text),  # the oracle's Signed TrancheReceipt
    sa.Column("sealed_preimage", sa.Text, nullable=False, default=""),  # sealed to us, as it came
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("frozen", sa.Boolean, nullable=False, default=False),
    sa.UniqueConstraint("sponsorship", "tranche"),
    sa.CheckConstraint("amount_msat > 0"),
    sa.CheckConstraint("margin > 0"),
    sa.CheckConstraint(
        "state in ('announced', 'minting', 'minted', 'locked', 'funding', 'settling', 'returning', 'settled', 'returned')"
    ),
    sa.Index("tranches_by_state", "state"),
)
