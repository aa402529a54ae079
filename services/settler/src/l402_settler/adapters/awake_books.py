"""When we were there for peers, as functions over one open transaction. It knows SQL, and decides nothing."""

from typing import Any

import sqlalchemy as sa
from l402core.hot import Hot
from l402core.outbox import Transaction

from l402_settler.adapters.awake_tables import awake, outages

Row = sa.Row[Any]
_at_ms = sa.bindparam("b_at_ms", type_=sa.BigInteger())
MARKS = Hot(sa.select(awake))
RENEW = Hot(sa.update(awake).where(awake.c.part == sa.bindparam("b_part", type_=sa.String()), awake.c.at_ms < _at_ms))


def marks(tx: Transaction) -> dict[str, int]:
    """When each part was last there; one of which nothing was ever heard is left out."""
    return {row.part: int(row.at_ms) for row in tx.rows(MARKS)}


def begin(tx: Transaction, part: str, at_ms: int) -> None:
    """The first sign of a part."""
    tx.execute(sa.insert(awake), {"part": part, "at_ms": at_ms})


def renew(tx: Transaction, part: str, at_ms: int) -> None:
    """A later sign."""
    tx.execute(RENEW, {"b_part": part, "b_at_ms": at_ms, "at_ms": at_ms})


def add_outage(tx: Transaction, part: str, since_ms: int, until_ms: int) -> None:
    """It was silent for so long."""
    tx.execute(sa.insert(outages), {"part": part, "since_ms": since_ms, "until_ms": until_ms})


def outage_between(tx: Transaction, since_ms: int, until_ms: int) -> Row | None:
    """One that falls into this span, if any."""
    where = (outages.c.until_ms > since_ms) & (outages.c.since_ms < until_ms)
    return tx.row(sa.select(outages).where(where).limit(1))
