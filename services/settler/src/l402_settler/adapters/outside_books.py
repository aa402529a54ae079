"""What a person has said was none of ours, as functions over one open transaction. It knows SQL, and decides nothing."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from l402core.escrow import Escrow
from l402core.outbox import Transaction

from l402_settler.adapters.outside_tables import outside
from l402_settler.adapters.statements import IS_OPEN
from l402_settler.adapters.tables import submissions

Row = sa.Row[Any]
_OF = sa.select(outside).where(outside.c.payment_hash.in_(sa.bindparam("b_hashes", expanding=True)))
_OFFERS = sa.select(submissions.c.commitment, submissions.c.offer).where(
    IS_OPEN, submissions.c.state.in_([Escrow.OFFERED, Escrow.REOFFERED])
)


def outside_of(tx: Transaction, payment_hashes: Sequence[str]) -> list[Row]:
    """What was said of these, both ways."""
    return tx.rows(_OF, b_hashes=list(payment_hashes))


def add_outside(tx: Transaction, **values: Any) -> None:
    """It is none of ours."""
    tx.execute(sa.insert(outside), values)


def offers_without_ladder(tx: Transaction) -> list[Row]:
    """Open submissions whose peers may still hand in the invoices of their offers: commitment and the signed offer."""
    return tx.rows(_OFFERS)
