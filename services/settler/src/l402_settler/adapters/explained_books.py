"""What a person has explained, as functions over one open transaction. It knows SQL, and decides nothing."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from l402core.outbox import Transaction

from l402_settler.adapters.explained_tables import explained


def explanation(tx: Transaction, payment_hash: str) -> sa.Row[Any] | None:
    """Of this payment hash."""
    return tx.row(sa.select(explained).where(explained.c.payment_hash == payment_hash))


def explained_of(tx: Transaction, payment_hashes: Collection[str]) -> frozenset[str]:
    """Those of these that are explained. Asked only of what looks wrong: no ordinary escrow comes here."""
    query = sa.select(explained.c.payment_hash).where(explained.c.payment_hash.in_(sorted(payment_hashes)))
    return frozenset(row.payment_hash for row in tx.rows(query))


def add_explanation(tx: Transaction, **values: Any) -> None:
    """It is explained."""
    tx.execute(sa.insert(explained), values)
