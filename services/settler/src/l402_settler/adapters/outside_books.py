"""What a person has said was none of ours, as functions over one open transaction. It knows SQL, and decides nothing."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from l402core.escrow import Escrow
from l402core.hot import Hot
from l402core.outbox import Transaction

from l402_settler.adapters.outside_tables import outside
from l402_settler.adapters.statements import IS_OPEN, named, names
from l402_settler.adapters.tables import submissions

Row = sa.Row[Any]
_OFFERS = sa.select(submissions.c.commitment, submissions.c.offer).where(
    IS_OPEN, submissions.c.state.in_([Escrow.OFFERED, Escrow.REOFFERED])
)


@lru_cache(maxsize=256)
def _of(count: int) -> Hot:
    return Hot(sa.select(outside).where(outside.c.payment_hash.in_(names(count))))


def outside_of(tx: Transaction, payment_hashes: Sequence[str]) -> list[Row]:
    """What was said of these, both ways."""
    which = named(payment_hashes)
    return tx.rows(_of(len(which)), **which) if which else []


def is_outside(tx: Transaction, payment_hash: str, way: str) -> bool:
    """Whether it was said of this, in that direction."""
    return any(row.way == way for row in outside_of(tx, [payment_hash]))


def add_outside(tx: Transaction, **values: Any) -> None:
    """It is none of ours."""
    tx.execute(sa.insert(outside), values)


def offers_without_ladder(tx: Transaction) -> list[Row]:
    """Open submissions whose peers may still hand in the invoices of their offers: commitment and the signed offer."""
    return tx.rows(_OFFERS)
