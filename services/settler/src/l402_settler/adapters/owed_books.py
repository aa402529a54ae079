"""What is owed and what a person paid of it, as functions over one open transaction. It knows SQL, and decides nothing."""

from typing import Any

import sqlalchemy as sa
from l402core.outbox import Transaction

from l402_settler.adapters.owed_tables import settlements
from l402_settler.adapters.tables import submissions, transfers

Row = sa.Row[Any]


def settlement(tx: Transaction, commitment: str) -> Row | None:
    """What a person paid of this debt."""
    return tx.row(sa.select(settlements).where(settlements.c.commitment == commitment))


def settled_with(tx: Transaction, payment_hash: str) -> Row | None:
    """The debt that a payment of our node settled."""
    return tx.row(sa.select(settlements).where(settlements.c.payment_hash == payment_hash))


def paid_by_hand(tx: Transaction) -> frozenset[str]:
    """Every payment of our node that a person named: it is no stranger's."""
    query = sa.select(settlements.c.payment_hash).where(settlements.c.payment_hash.is_not(None))
    return frozenset(row.payment_hash for row in tx.rows(query))


def add_settlement(tx: Transaction, **values: Any) -> None:
    """A debt is paid."""
    tx.execute(sa.insert(settlements), values)


def debt(tx: Transaction, commitment: str) -> int:
    """What the ledger says is owed for this submission, msat: booked as owed, not revealed and not settled since."""
    names = [f"owe:{commitment}", f"owed:{commitment}", f"settle:{commitment}"]
    lines = tx.rows(sa.select(transfers.c.id, transfers.c.amount_msat).where(transfers.c.id.in_(names)))
    signs = {names[0]: 1, names[1]: -1, names[2]: -1}
    return sum(signs[line.id] * int(line.amount_msat) for line in lines)


def begins(tx: Transaction, wanted: str, *, limit: int) -> list[str]:
    """Submissions whose commitment begins so."""
    query = sa.select(submissions.c.commitment).where(submissions.c.commitment.like(f"{wanted}%")).limit(limit)
    return [row.commitment for row in tx.rows(query)]
