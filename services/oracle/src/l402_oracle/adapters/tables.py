"""The attestor's tables. Documents are JSON text, verbatim; first writes win by primary key. No secret is a column."""

import sqlalchemy as sa
from l402core.outbox import outbox_table

metadata = sa.MetaData()
outbox = outbox_table(metadata)

rounds = sa.Table(
    "rounds",
    metadata,
    sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("announced", sa.Text),  # CheckpointPublished; null for round 0, which only makes the first checkpoint
    sa.Column("terms", sa.Text),  # Signed Terms, the first seen
    sa.Column("commits", sa.Text),  # Signed RoundRoot of commits.closed
    sa.Column("closed", sa.Text),  # RoundClosed
    sa.Column("closed_at_ms", sa.BigInteger),
    sa.Column("lapsed_at_ms", sa.BigInteger),  # from here on nothing of it is ever judged
    sa.Column("assessed", sa.Text),  # RoundAssessed
    sa.Column("aggregate", sa.Text),  # RoundAggregate
    sa.Column("judged", sa.Text),  # Signed JudgedRound
    sa.Column("yardstick", sa.Text),  # YardstickMade, the first heard
    sa.Column("reference", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("trouble", sa.Text, nullable=False, server_default=""),
    sa.CheckConstraint("state IN ('announced', 'assessed', 'decided', 'done', 'frozen', 'void')", name="round_state"),
)

offers = sa.Table(
    "offers",
    metadata,
    sa.Column("commitment", sa.String(64), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("round", sa.Integer, nullable=False, index=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # Signed Offer
    sa.Column("locked", sa.Text),  # Signed Locked: the settler's word on this offer's ladder
    sa.Column("traceparent", sa.String(64), nullable=False),
)

heard = sa.Table(
    "heard",
    metadata,
    sa.Column("commitment", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("round", sa.Integer, nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),  # the first event of this kind
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.CheckConstraint("kind IN ('uploaded', 'screened', 'measured')", name="heard_kind"),
)

refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("commitment", sa.String(64), primary_key=True),  # it gets no offer
    sa.Column("round", sa.Integer, nullable=False, index=True),
)

isolations = sa.Table(
    "isolations",
    metadata,
    sa.Column("commitment", sa.String(64), primary_key=True),
    sa.Column("peer", sa.String(64), nullable=False, index=True),
    sa.Column("round", sa.Integer, nullable=False),
)

pardons = sa.Table(
    "pardons",
    metadata,
    sa.Column("peer", sa.String(64), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),  # what came of it up to here is forgiven
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String(80), nullable=False),  # whoever ordered it
    sa.Column("reason", sa.Text, nullable=False),
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("commitment", sa.String(64), primary_key=True),
    sa.Column("round", sa.Integer, nullable=False, index=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("mask", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # GradientScored without its sealed preimages
    sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),  # the offer that may be revealed
    sa.Column("fate", sa.String(8), nullable=False, server_default=""),  # of that offer's preimages, once and for good
    sa.Column("said", sa.Boolean, nullable=False),
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.UniqueConstraint("round", "place", name="one_place_each"),
    sa.CheckConstraint("mask >= 0", name="mask_positive"),
    sa.CheckConstraint("fate IN ('', 'revealed', 'withheld')", name="fate_known"),
    sa.Index(
        "decisions_unsaid",
        "round",
        "place",
        sqlite_where=sa.text("said IS 0"),
        postgresql_where=sa.text("said IS false"),
    ),
)

reputations = sa.Table(
    "reputations",
    metadata,
    sa.Column("peer", sa.String(64), primary_key=True),
    sa.Column("mu", sa.Float, nullable=False),
    sa.Column("sigma", sa.Float, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),  # the last one that it took part in
)
