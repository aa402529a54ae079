"""The books at a glance, as functions over one open transaction. It knows SQL, decides nothing and changes nothing.

Nothing here reads a whole table: what is asked for is one round, what is open, or a few accounts by their names.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
from l402core.escrow import OPEN_RUNG
from l402core.outbox import Transaction
from l402core.sponsorship import LIVE, Tranche

from l402_settler.adapters.sponsor_tables import tranches
from l402_settler.adapters.statements import IS_OPEN
from l402_settler.adapters.tables import accounts, rounds, rungs, submissions, transfers

Row = sa.Row[Any]
_round = sa.bindparam("b_round", type_=sa.Integer())
_limit = sa.bindparam("b_limit", type_=sa.Integer())
_hash = sa.bindparam("b_hash", type_=sa.String())
_after_name = sa.bindparam("b_from", type_=sa.String())
_before_name = sa.bindparam("b_until", type_=sa.String())

ROUNDS_AFTER = (
    sa.select(rounds.c.round, rounds.c.phase).where(rounds.c.round > _round).order_by(rounds.c.round).limit(_limit)
)
LINEUP = (
    sa.select(
        *(
            submissions.c[name]
            for name in ("commitment", "seq", "peer", "state", "fee_msat", "credit_due", "scored", "opened_at_ms")
        )
    )
    .where(submissions.c.round == _round)
    .order_by(submissions.c.seq)
    .limit(_limit)
)
ESCROWS = (
    sa.select(
        submissions.c.state,
        sa.func.count().label("escrows"),
        sa.func.min(submissions.c.opened_at_ms).label("oldest_ms"),
    )
    .where(IS_OPEN)
    .group_by(submissions.c.state)
)
LOCKED = (
    sa.select(submissions.c.state, sa.func.sum(rungs.c.amount_msat).label("msat"))
    .join(submissions, submissions.c.commitment == rungs.c.commitment)
    .where(rungs.c.state.in_(OPEN_RUNG))
    .group_by(submissions.c.state)
)
SPONSORED = sa.select(tranches.c.round, tranches.c.amount_msat).where(
    tranches.c.round > _round, tranches.c.state == Tranche.SETTLED
)
FROZEN_ESCROWS = sa.select(sa.func.count()).select_from(submissions).where(submissions.c.frozen)
"""Also those that have ended: their credits wait for a person as well."""
FROZEN_TRANCHES = sa.select(sa.func.count()).where(tranches.c.state.in_(sorted(LIVE)), tranches.c.frozen)
_sums = (
    sa.func.coalesce(sa.func.sum(accounts.c.debits_msat), 0).label("debits_msat"),
    sa.func.coalesce(sa.func.sum(accounts.c.credits_msat), 0).label("credits_msat"),
)
ACCOUNT = sa.select(*_sums).where(accounts.c.name == _hash)
ACCOUNTS_BETWEEN = sa.select(*_sums).where(accounts.c.name >= _after_name, accounts.c.name < _before_name)
_LINE = (
    transfers.c.kind,
    transfers.c.phase,
    sa.func.min(transfers.c.at_ms).label("first_ms"),
    sa.func.max(transfers.c.at_ms).label("last_ms"),
    sa.func.count().label("times"),
    sa.func.sum(transfers.c.amount_msat).label("amount_msat"),
)
LINES_OF = sa.select(*_LINE).where(transfers.c.commitment == _hash).group_by(transfers.c.kind, transfers.c.phase)
FEE_LINE = sa.select(*_LINE).where(transfers.c.id == _hash).group_by(transfers.c.kind, transfers.c.phase)


def rounds_after(tx: Transaction, round_: int, at_most: int) -> list[Row]:
    """Rounds and their phases, in order."""
    return tx.rows(ROUNDS_AFTER, b_round=round_, b_limit=at_most)


def lineup(tx: Transaction, round_: int, at_most: int) -> list[Row]:
    """A round's submissions in order of their numbers, without their documents but the decision."""
    return tx.rows(LINEUP, b_round=round_, b_limit=at_most)


def escrows(tx: Transaction) -> list[Row]:
    """Open escrows by state."""
    return tx.rows(ESCROWS)


def locked(tx: Transaction) -> dict[str, int]:
    """What lies in rungs whose end is not known, msat by the state of their escrow."""
    return {row.state: int(row.msat) for row in tx.rows(LOCKED)}


def frozen(tx: Transaction) -> dict[str, int]:
    """How many escrows and live tranches wait for a person."""
    return {"escrow": int(tx.scalar(FROZEN_ESCROWS)), "tranche": int(tx.scalar(FROZEN_TRANCHES))}


def sponsored(tx: Transaction, after: int) -> dict[int, int]:
    """What a sponsor paid for each later round, msat."""
    return {row.round: int(row.amount_msat) for row in tx.rows(SPONSORED, b_round=after)}


class Sums(msgspec.Struct, frozen=True):
    """What was ever debited and credited, msat: both only grow."""

    debits_msat: int
    credits_msat: int

    @property
    def owed_msat(self) -> int:
        """Credits less debits."""
        return self.credits_msat - self.debits_msat


def account(tx: Transaction, name: str) -> Sums:
    """One account's."""
    return _sums_of(tx.row(ACCOUNT, b_hash=name))


def accounts_under(tx: Transaction, prefix: str) -> Sums:
    """Of all accounts whose names begin so, together."""
    until = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return _sums_of(tx.row(ACCOUNTS_BETWEEN, b_from=prefix, b_until=until))


def _sums_of(row: Row | None) -> Sums:
    assert row is not None
    return Sums(int(row.debits_msat), int(row.credits_msat))


def lines_of(tx: Transaction, commitment: str, payment_hash: str) -> list[Row]:
    """A submission's lines in the journal by kind and phase, and its fee's."""
    return [*tx.rows(FEE_LINE, b_hash=f"fee:{payment_hash}"), *tx.rows(LINES_OF, b_hash=commitment)]
