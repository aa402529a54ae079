"""What is frozen, and what is held for it, as functions over one open transaction. It knows SQL, and decides nothing."""

from collections.abc import Collection
from typing import Any

import msgspec
import sqlalchemy as sa
from l402core.events import Event
from l402core.outbox import Transaction

from l402_settler.adapters.freeze_tables import freezes, held
from l402_settler.adapters.inbox import message_key
from l402_settler.adapters.sponsor_tables import tranches
from l402_settler.adapters.tables import outbox, rungs, submissions

Row = sa.Row[Any]
SUBMISSION, TRANCHE, FEE = "submission", "tranche", "fee"
FREEZE, THAW = "freeze", "thaw"
HELD_MAX = 64
"""Messages that are held for one thing; what sends more is broken."""


def owner_of(tx: Transaction, payment_hash: str) -> tuple[str, str] | None:
    """What a payment hash belongs to: ('submission', commitment) or ('tranche', hash)."""
    rung = tx.row(sa.select(rungs.c.commitment).where(rungs.c.payment_hash == payment_hash))
    if rung is not None:
        return SUBMISSION, rung.commitment
    if tx.row(sa.select(tranches.c.tranche).where(tranches.c.payment_hash == payment_hash)) is not None:
        return TRANCHE, payment_hash
    return None


def fed_by(tx: Transaction, payment_hash: str) -> list[str]:
    """The submissions that one fee opened, newest first; a credit opens another."""
    where = submissions.c.payment_hash == payment_hash
    query = sa.select(submissions.c.commitment).where(where).order_by(submissions.c.opened_at_ms.desc())
    return [row.commitment for row in tx.rows(query)]


def tranche_at(tx: Transaction, sponsorship: str, index: int) -> str | None:
    """A tranche's payment hash."""
    where = (tranches.c.sponsorship == sponsorship) & (tranches.c.tranche == index)
    row = tx.row(sa.select(tranches.c.payment_hash).where(where))
    return None if row is None else str(row.payment_hash)


def begins(tx: Transaction, wanted: str, *, limit: int) -> list[tuple[str, str]]:
    """What a commitment, a payment hash of a fee, rung or tranche, or the beginning of one may mean."""
    like, found = f"{wanted}%", dict[tuple[str, str], None]()
    fee, own = submissions.c.payment_hash.like(like), submissions.c.commitment.like(like)
    for query, what in (
        (sa.select(submissions.c.commitment).where(own | fee), SUBMISSION),
        (sa.select(rungs.c.commitment).where(rungs.c.payment_hash.like(like)).distinct(), SUBMISSION),
        (sa.select(tranches.c.payment_hash).where(tranches.c.payment_hash.like(like)), TRANCHE),
        (sa.select(held.c.about).where(held.c.about.like(like), held.c.event == "fee.settled.v1").distinct(), FEE),
    ):
        found |= {(what, str(row[0])): None for row in tx.rows(query.limit(limit))}
    return list(found)[:limit]


def is_frozen(tx: Transaction, what: str, about: str) -> bool:
    """Whether it waits for a person."""
    table, key = (submissions, submissions.c.commitment) if what == SUBMISSION else (tranches, tranches.c.payment_hash)
    row = tx.row(sa.select(table.c.frozen).where(key == about)) if what != FEE else None
    return row is not None and bool(row.frozen)


def mark(tx: Transaction, what: str, about: str, *, frozen: bool) -> bool:
    """Set it; False where it is so already."""
    table, key = (submissions, submissions.c.commitment) if what == SUBMISSION else (tranches, tranches.c.payment_hash)
    statement = sa.update(table).where(key == about, table.c.frozen.is_(not frozen))
    return tx.execute(statement.values(frozen=frozen)) == 1


def note(tx: Transaction, **values: Any) -> None:
    """Who froze or thawed what, and why."""
    tx.execute(sa.insert(freezes), values)


def notes_of(tx: Transaction, about: str) -> list[Row]:
    """Its freezes and thaws, in order."""
    return tx.rows(sa.select(freezes).where(freezes.c.about == about).order_by(freezes.c.id))


def is_noted(tx: Transaction, about: str, code: str) -> bool:
    """Whether it was frozen with this code since it was last thawed."""
    since: set[str] = set()
    for row in notes_of(tx, about):
        since = set() if row.action == THAW else since | {row.code}
    return code in since


def stands(tx: Transaction, about: Collection[str], *, at_most: int) -> list[Row]:
    """Open submissions that are frozen, and those of these that ever were: commitment, frozen and how many words of it."""
    words = sa.func.count(freezes.c.id).label("words")
    query = (
        sa.select(submissions.c.commitment, submissions.c.frozen, words)
        .join(freezes, freezes.c.about == submissions.c.commitment)
        .where((submissions.c.frozen & (submissions.c.state != "ended")) | submissions.c.commitment.in_(sorted(about)))
        .group_by(submissions.c.commitment, submissions.c.frozen)
    )
    return tx.rows(query.limit(at_most))


def was_frozen(tx: Transaction, about: str) -> bool:
    """Whether it ever was."""
    return tx.row(sa.select(freezes.c.id).where(freezes.c.about == about).limit(1)) is not None


def fee_is_held(tx: Transaction, payment_hash: str) -> bool:
    """Whether a submission that this fee opened waits for a person."""
    where = (submissions.c.payment_hash == payment_hash) & submissions.c.frozen
    return tx.row(sa.select(submissions.c.commitment).where(where)) is not None


def withdraw(tx: Transaction, subjects: tuple[str, ...]) -> None:
    """Requests that the bus has not taken yet are not said at all, nor those of this very commit.

    On PostgreSQL it waits for whoever is publishing one just now, at most `IDLE_S`; then the bus has it or has not.
    """
    tx.speak()
    tx.execute(sa.delete(outbox).where(outbox.c.subject.in_(subjects)))


def hold(tx: Transaction, about: str, event: Event, *, why: str, now_ms: int) -> bool:
    """Keep a message until the thaw, once; False where there are too many."""
    known = message_key(event)
    if tx.row(sa.select(held.c.id).where(held.c.message_id == known)) is not None:
        return True
    if int(tx.scalar(sa.select(sa.func.count()).select_from(held).where(held.c.about == about))) >= HELD_MAX:
        return False
    tx.execute(
        sa.insert(held),
        {
            "about": about, "event": event.name, "message_id": known, "body": msgspec.json.encode(event), "why": why,
            "at_ms": now_ms,
        },
    )  # fmt: skip
    return True


def held_of(tx: Transaction, about: str) -> list[Row]:
    """What waits for its thaw, in the order in which it came."""
    return tx.rows(sa.select(held).where(held.c.about == about).order_by(held.c.id))


def forget_held(tx: Transaction, about: str) -> None:
    """They are taken now, or dropped by a person's word."""
    tx.execute(sa.delete(held).where(held.c.about == about))
