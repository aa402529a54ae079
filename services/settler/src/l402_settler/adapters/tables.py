"""The books' tables. Constraints that money rests on are the database's own, not only the code's.

`transfers` is append-only double entry: `single` moves money at once; `pending` reserves it; `post` and `void` end a
pending one, and a unique `pending_id` lets it end once. The triggers in `guards` refuse every update and delete, and an
end that is not its pending transfer's; they keep `accounts` and `locked` in the same breath, so that a transfer that
would make an account negative which may not be is refused by the database.
"""

import sqlalchemy as sa
from l402core.outbox import inbox_table, outbox_table

from l402_settler import ledger

metadata = sa.MetaData()
outbox = outbox_table(metadata)
inbox = inbox_table(metadata)

_OPEN = sa.text("state <> 'ended'")
_LIVE = sa.text("phase <> 'done'")

rounds = sa.Table(
    "rounds",
    metadata,
    sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("phase", sa.String(8), nullable=False),
    sa.Column("terms", sa.Text, nullable=False),
    sa.Column("root", sa.Text),
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.CheckConstraint("phase in ('commit', 'upload', 'judge', 'done')"),
    sa.Index("rounds_live", "round", sqlite_where=_LIVE, postgresql_where=_LIVE),
)

submissions = sa.Table(
    "submissions",
    metadata,
    sa.Column("commitment", sa.String(64), primary_key=True),
    sa.Column("round", sa.Integer, sa.ForeignKey("rounds.round"), nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("peer", sa.String(64), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("token_id", sa.String(64), nullable=False, unique=True),
    sa.Column("payment_hash", sa.String(64), nullable=False),
    sa.Column("fee_msat", sa.BigInteger, nullable=False),
    sa.Column("reserved_msat", sa.BigInteger, nullable=False),
    sa.Column("request_hash", sa.String(64), nullable=False),
    sa.Column("statement", sa.Text, nullable=False),
    sa.Column("payee", sa.String(66), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=1),
    sa.Column("due_by_ms", sa.BigInteger, nullable=False, default=0),
    sa.Column("owed_msat", sa.BigInteger, nullable=False, server_default="0"),  # what a new offer is to bring
    sa.Column("owed_rungs", sa.Integer, nullable=False, server_default="0"),
    sa.Column("asks", sa.Integer, nullable=False, server_default="0"),  # how often the oracle was asked for it
    sa.Column("asked_ms", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("offer", sa.Text),
    sa.Column("accepted", sa.Text),
    sa.Column("locked", sa.Text),
    sa.Column("payload", sa.Text),
    sa.Column("upload", sa.Text),
    sa.Column("scored", sa.Text),
    sa.Column("failure", sa.Text, nullable=False, default=""),
    sa.Column("credit_due", sa.Boolean, nullable=False, default=False),
    sa.Column("frozen", sa.Boolean, nullable=False, default=False),
    sa.Column("traceparent", sa.String(64), nullable=False),
    sa.Column("opened_at_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("round", "seq"),
    sa.CheckConstraint(
        "state in ('opened', 'offered', 'locking', 'locked', 'uploaded', 'scored', 'failed', 'ended', "
        "'owed', 'due', 'reoffered', 'relocking', 'relocked')"
    ),
    sa.Index("submissions_by_state", "round", "state", "reserved_msat"),
    sa.Index("submissions_by_peer", "round", "peer"),
    sa.Index("submissions_by_payment", "payment_hash"),
    sa.Index(
        "submissions_open",
        "round",
        "state",
        "reserved_msat",
        "owed_msat",
        "owed_rungs",
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    ),  # what is promised is added up at each admission, and no row is read for it
    sa.Index("submissions_open_of_peer", "peer", "state", sqlite_where=_OPEN, postgresql_where=_OPEN),
    sa.Index(
        "submissions_frozen", "commitment", sqlite_where=sa.text("frozen = 1"), postgresql_where=sa.text("frozen")
    ),
    sa.Index("submissions_open_to_payee", "payee", "state", sqlite_where=_OPEN, postgresql_where=_OPEN),
)
"""What is looked for again and again is open, and few: indexes that hold nothing else stay small however long the past."""

rungs = sa.Table(
    "rungs",
    metadata,
    sa.Column("payment_hash", sa.String(64), primary_key=True),
    sa.Column("commitment", sa.String(64), sa.ForeignKey("submissions.commitment"), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=1),
    sa.Column("rung", sa.Integer, nullable=False),
    sa.Column("amount_msat", sa.BigInteger, nullable=False),
    sa.Column("bolt11", sa.Text, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("not_after_ms", sa.BigInteger, nullable=False),
    sa.Column("expiry_height", sa.Integer, nullable=False, default=0),
    sa.Column("failure", sa.String(80), nullable=False, server_default=""),  # LND's own word of why it came back
    sa.UniqueConstraint("commitment", "attempt", "rung"),
    sa.CheckConstraint("amount_msat > 0"),
    sa.CheckConstraint("state in ('registered', 'in flight', 'settled', 'returned', 'unsent')"),
    sa.Index("rungs_by_state", "state"),
)

past_offers = sa.Table(
    "past_offers",
    metadata,
    sa.Column("commitment", sa.String(64), sa.ForeignKey("submissions.commitment"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("offer", sa.Text, nullable=False),
    sa.Column("locked", sa.Text),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("token_id", sa.String(64), primary_key=True),
    sa.Column("payment_hash", sa.String(64), nullable=False),
    sa.Column("commitment", sa.String(64), nullable=False),
    sa.Column("peer", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(64), nullable=False),
)

fees = sa.Table(
    "fees",
    metadata,
    sa.Column("payment_hash", sa.String(64), primary_key=True),
    sa.Column("amount_msat", sa.BigInteger, nullable=False),
    sa.Column("settle_index", sa.BigInteger, nullable=False),
)

credits_ = sa.Table(
    "credits",
    metadata,
    sa.Column("payment_hash", sa.String(64), primary_key=True),
    sa.Column("token_id", sa.String(64), unique=True),
    sa.Column("peer", sa.String(64), nullable=False),
    sa.Column("amount_msat", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("spent_on", sa.String(64)),
)

transfers = sa.Table(
    "transfers",
    metadata,
    sa.Column("id", sa.String(160), primary_key=True),
    sa.Column("kind", sa.String(24), nullable=False),
    sa.Column("phase", sa.String(8), nullable=False),
    sa.Column("pending_id", sa.String(160), sa.ForeignKey("transfers.id"), unique=True),
    sa.Column("debit", sa.String(80), nullable=False),
    sa.Column("credit", sa.String(80), nullable=False),
    sa.Column("amount_msat", sa.BigInteger, nullable=False),
    sa.Column("commitment", sa.String(64), nullable=False),
    sa.Column("trace_id", sa.String(32), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.CheckConstraint("amount_msat > 0"),
    sa.CheckConstraint("debit <> credit"),
    sa.CheckConstraint("phase in ('single', 'pending', 'post', 'void')"),
    sa.CheckConstraint("(phase in ('post', 'void')) = (pending_id is not null)"),
    sa.Index("transfers_by_commitment", "commitment"),
    sa.Index("transfers_by_time", "at_ms", "id"),
    sa.Index("transfers_by_debit", "debit"),
    sa.Index("transfers_by_credit", "credit"),
)

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("debits_msat", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("credits_msat", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("pending_debits_msat", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("pending_credits_msat", sa.BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint("pending_debits_msat >= 0 and pending_credits_msat >= 0", name="pending_not_negative"),
    sa.CheckConstraint(f"not ({ledger.ONLY_OWED}) or credits_msat >= debits_msat", name="never_owes_us"),
    sa.CheckConstraint(f"not ({ledger.ONLY_SPENT}) or debits_msat >= credits_msat", name="never_unspent"),
)
"""Each account's sums, kept by a trigger on `transfers` and by nothing else."""

locked = sa.Table(
    "locked",
    metadata,
    sa.Column("slot", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("amount_msat", sa.BigInteger, nullable=False),
)
"""What was promised from our node in each slot of ten minutes, kept by a trigger on `transfers`: the day's cap adds up
at most 145 of them, however long the journal is."""
