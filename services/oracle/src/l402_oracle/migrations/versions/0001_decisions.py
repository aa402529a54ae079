"""The first tables: rounds, offers, what was heard, decisions, outbox."""

import sqlalchemy as sa
from alembic import op
from l402_oracle.adapters.guards import guards

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("stream", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("message_id", sa.String(255), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "rounds",
        sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("announced", sa.Text),
        sa.Column("terms", sa.Text),
        sa.Column("commits", sa.Text),
        sa.Column("closed", sa.Text),
        sa.Column("closed_at_ms", sa.BigInteger),
        sa.Column("lapsed_at_ms", sa.BigInteger),
        sa.Column("assessed", sa.Text),
        sa.Column("aggregate", sa.Text),
        sa.Column("judged", sa.Text),
        sa.Column("yardstick", sa.Text),
        sa.Column("reference", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("trouble", sa.Text, nullable=False, server_default=""),
        sa.CheckConstraint(
            "state IN ('announced', 'assessed', 'decided', 'done', 'frozen', 'void')", name="round_state"
        ),
    )
    op.create_table(
        "offers",
        sa.Column("commitment", sa.String(64), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("round", sa.Integer, nullable=False, index=True),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("locked", sa.Text),
        sa.Column("traceparent", sa.String(64), nullable=False),
    )
    op.create_table(
        "heard",
        sa.Column("commitment", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("round", sa.Integer, nullable=False, index=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.CheckConstraint("kind IN ('uploaded', 'screened', 'measured')", name="heard_kind"),
    )
    op.create_table(
        "refusals",
        sa.Column("commitment", sa.String(64), primary_key=True),
        sa.Column("round", sa.Integer, nullable=False, index=True),
    )
    op.create_table(
        "isolations",
        sa.Column("commitment", sa.String(64), primary_key=True),
        sa.Column("peer", sa.String(64), nullable=False, index=True),
        sa.Column("round", sa.Integer, nullable=False),
    )
    op.create_table(
        "pardons",
        sa.Column("peer", sa.String(64), primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String(80), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("commitment", sa.String(64), primary_key=True),
        sa.Column("round", sa.Integer, nullable=False, index=True),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("mask", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
        sa.Column("fate", sa.String(8), nullable=False, server_default=""),
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
    op.create_table(
        "reputations",
        sa.Column("peer", sa.String(64), primary_key=True),
        sa.Column("mu", sa.Float, nullable=False),
        sa.Column("sigma", sa.Float, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
    )
    op.create_table(
        "announcements",
        sa.Column("sponsorship", sa.String(64), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
    )
    op.create_table(
        "tranches",
        sa.Column("payment_hash", sa.String(64), primary_key=True),
        sa.Column("sponsorship", sa.String(64), sa.ForeignKey("announcements.sponsorship"), nullable=False),
        sa.Column("tranche", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer, unique=True),
        sa.Column("locked", sa.Text),
        sa.Column("asked", sa.Boolean, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("measured", sa.Text),
        sa.Column("judged", sa.Text),
        sa.Column("said", sa.Boolean, nullable=False),
        sa.UniqueConstraint("sponsorship", "tranche", name="one_hash_each"),
    )
    for statement in guards(op.get_bind().dialect.name):
        op.execute(statement)
