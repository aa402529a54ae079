"""Sponsorships and tranches as functions over one open transaction. It knows SQL, and refuses to decide anything."""

from typing import Any

import sqlalchemy as sa
from l402core.errors import Contradiction
from l402core.outbox import Transaction
from l402core.sponsorship import LIVE, Tranche

from l402_settler.adapters.sponsor_tables import sponsorships, tranches

Row = sa.Row[Any]


def sponsorship(tx: Transaction, id_: str) -> Row | None:
    """One sponsorship."""
    return tx.row(sa.select(sponsorships).where(sponsorships.c.sponsorship == id_))


def unended(tx: Transaction) -> list[Row]:
    """Every sponsorship that is not over, oldest first."""
    query = sa.select(sponsorships).where(sponsorships.c.state != "ended")
    return tx.rows(query.order_by(sponsorships.c.opened_at_ms, sponsorships.c.sponsorship))


def asked_before(tx: Transaction, at_ms: int) -> list[Row]:
    """Sponsorships whose hashes the oracle was asked for before then, and has not named."""
    where = (sponsorships.c.state == "asked") & (sponsorships.c.opened_at_ms <= at_ms)
    return tx.rows(sa.select(sponsorships).where(where))


def forget_unminted(tx: Transaction, id_: str) -> None:
    """Of a sponsorship that ended unpaid: hashes that no invoice was ever asked for."""
    unasked = (tranches.c.state == Tranche.RETURNED) & (tranches.c.pay_by_ms == 0) & ~tranches.c.frozen
    tx.execute(sa.delete(tranches).where(tranches.c.sponsorship == id_, unasked))


def has_ended(tx: Transaction, sponsor: str) -> bool:
    """Whether a sponsorship of this sponsor is over."""
    where = (sponsorships.c.sponsor == sponsor) & (sponsorships.c.state == "ended")
    return tx.row(sa.select(sponsorships.c.sponsorship).where(where)) is not None


def add_sponsorship(tx: Transaction, **values: Any) -> None:
    """A new one."""
    tx.execute(sa.insert(sponsorships), values)


def move_sponsorship(tx: Transaction, id_: str, before: str, after: str, **values: Any) -> bool:
    """Compare-and-set its state; whether it was ours to do."""
    where = (sponsorships.c.sponsorship == id_) & (sponsorships.c.state == before)
    return tx.execute(sa.update(sponsorships).where(where).values(state=after, **values)) == 1


def add_tranche(tx: Transaction, **values: Any) -> None:
    """A new one; its hash is unique in the books."""
    tx.execute(sa.insert(tranches), values)


def tranche(tx: Transaction, payment_hash: str) -> Row | None:
    """One tranche by its hash."""
    return tx.row(sa.select(tranches).where(tranches.c.payment_hash == payment_hash))


def tranches_of(tx: Transaction, id_: str) -> list[Row]:
    """A sponsorship's tranches in order."""
    return tx.rows(sa.select(tranches).where(tranches.c.sponsorship == id_).order_by(tranches.c.tranche))


def all_tranches(tx: Transaction) -> list[Row]:
    """Every tranche ever announced."""
    return tx.rows(sa.select(tranches).order_by(tranches.c.sponsorship, tranches.c.tranche))


def live_tranches(tx: Transaction) -> list[Row]:
    """Every tranche whose invoice may still move at our node."""
    return tx.rows(sa.select(tranches).where(tranches.c.state.in_(LIVE)).order_by(tranches.c.payment_hash))


def locked_tranches(tx: Transaction) -> list[Row]:
    """Those that wait for a round, of the oldest sponsorship first; a frozen one funds none."""
    joined = sa.select(tranches).join(sponsorships, sponsorships.c.sponsorship == tranches.c.sponsorship)
    query = joined.where(tranches.c.state == Tranche.LOCKED, ~tranches.c.frozen)
    return tx.rows(query.order_by(sponsorships.c.opened_at_ms, tranches.c.sponsorship, tranches.c.tranche))


def move_tranche(tx: Transaction, payment_hash: str, before: Tranche, after: Tranche, **values: Any) -> None:
    """Compare-and-set a tranche's state. Raises Contradiction when somebody else moved it inside our transaction."""
    where = (tranches.c.payment_hash == payment_hash) & (tranches.c.state == before)
    if tx.execute(sa.update(tranches).where(where).values(state=after, **values)) != 1:
        raise Contradiction("lost_update", f"tranche {payment_hash[:16]}… is no longer {before}")


def note_tranche(tx: Transaction, payment_hash: str, **values: Any) -> None:
    """Set columns that are not its state."""
    tx.execute(sa.update(tranches).where(tranches.c.payment_hash == payment_hash).values(**values))
