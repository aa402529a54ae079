"""The attestor's tables of sponsorships and tranches, beside those in `tables`. No secret is a column."""

import sqlalchemy as sa

from l402_oracle.adapters.tables import metadata

announcements = sa.Table(
    "announcements",
    metadata,
    sa.Column("sponsorship", sa.String(64), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),  # Signed Announcement
    sa.Column("traceparent", sa.String(64), nullable=False),
)

tranches = sa.Table(
    "tranches",
    metadata,
    sa.Column("payment_hash", sa.String(64), primary_key=True),
    sa.Column("sponsorship", sa.String(64), sa.ForeignKey("announcements.sponsorship"), nullable=False),
    sa.Column("tranche", sa.Integer, nullable=False),
    sa.Column("round", sa.Integer, unique=True),  # one tranche a round, one round a tranche
    sa.Column("locked", sa.Text),  # TrancheLocked, the first
    sa.Column("asked", sa.Boolean, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),  # measurements that failed on our side
    sa.Column("measured", sa.Text),  # CheckpointMeasured, the first
    sa.Column("judged", sa.Text),  # Signed TrancheReceipt, the one
    sa.Column("said", sa.Boolean, nullable=False),
    sa.UniqueConstraint("sponsorship", "tranche", name="one_hash_each"),
)
