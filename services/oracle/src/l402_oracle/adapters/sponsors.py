"""The attestor's sponsorships as functions over one open transaction. It knows SQL, and refuses to decide anything."""

from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from l402core.events import CheckpointMeasured
from l402core.outbox import Transaction
from l402core.pledges import Announcement, TrancheLocked
from l402core.signing import Signed

from l402_oracle.adapters.sponsor_tables import announcements, tranches

T = TypeVar("T")
_DUE = sa.select(tranches.c.payment_hash).where(tranches.c.round.is_not(None), tranches.c.said.is_(False)).limit(1)


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """One tranche, decoded."""

    payment_hash: str
    sponsorship: str
    tranche: int
    announced: Announcement
    announcer: str
    """The key that signed the promise, and signs what came of it."""
    round: int
    """0 while it funds none."""
    locked: TrancheLocked | None
    asked: bool
    tries: int
    measured: CheckpointMeasured | None
    judged: Signed | None
    traceparent: str


def read_announcement(tx: Transaction, sponsorship: str) -> Signed | None:
    """What was promised, if anything was."""
    row = tx.row(sa.select(announcements.c.body).where(announcements.c.sponsorship == sponsorship))
    return _decoded(row.body, Signed) if row is not None else None


def add_announcement(tx: Transaction, made: Announcement, signed: Signed, traceparent: str) -> None:
    """Once per sponsorship. Its tranches have rows of their own only once money waits for them: pledging costs nothing."""
    values = {"sponsorship": made.sponsorship, "body": _json(signed), "traceparent": traceparent}
    tx.execute(sa.insert(announcements), values)


def has_tranche(tx: Transaction, sponsorship: str, index: int, payment_hash: str) -> bool:
    """Whether this was announced; from now on it has its row."""
    if tx.row(sa.select(tranches.c.round).where(tranches.c.payment_hash == payment_hash)) is not None:
        return True
    known = read_announcement(tx, sponsorship)
    made = msgspec.json.decode(known.body, type=Announcement) if known else None
    if made is None or not 0 <= index < len(made.hashes) or made.hashes[index] != payment_hash:
        return False
    row = {"payment_hash": payment_hash, "sponsorship": sponsorship, "tranche": index}
    tx.execute(sa.insert(tranches), {**row, "asked": False, "said": False, "tries": 0})
    return True


def read_tranche(tx: Transaction, payment_hash: str) -> Known | None:
    """One tranche by its hash."""
    return next(iter(_known(tx, tranches.c.payment_hash == payment_hash)), None)


def anything_due(tx: Transaction) -> bool:
    """Whether any funds a round and is not told of yet."""
    return tx.row(_DUE) is not None


def unjudged(tx: Transaction) -> list[Known]:
    """Those that fund a round and are not decided."""
    return _known(tx, tranches.c.round.is_not(None) & tranches.c.judged.is_(None))


def unsaid(tx: Transaction) -> list[Known]:
    """Those that are decided and not told."""
    return _known(tx, tranches.c.judged.is_not(None) & tranches.c.said.is_(False))


def bind(tx: Transaction, payment_hash: str, round_: int) -> bool:
    """The round that it funds, once; again the same is fine."""
    where = (tranches.c.payment_hash == payment_hash) & (tranches.c.round.is_(None) | (tranches.c.round == round_))
    return tx.execute(sa.update(tranches).where(where).values(round=round_)) == 1


def note_once(tx: Transaction, payment_hash: str, **columns: msgspec.Struct) -> None:
    """Set columns that are still empty: the first word stands."""
    for name, value in columns.items():
        where = (tranches.c.payment_hash == payment_hash) & tranches.c[name].is_(None)
        tx.execute(sa.update(tranches).where(where).values({name: _json(value)}))


def hear_measured(tx: Transaction, event: CheckpointMeasured, *, tries_max: int) -> None:
    """The first measurement of the round that a tranche funds. One that failed on our side is asked again, so often."""
    where = (tranches.c.round == event.round) & tranches.c.measured.is_(None)
    if event.failure and event.revision + 1 < tries_max:
        again = where & (tranches.c.tries == event.revision)  # an older failure, told once more, counts once
        tx.execute(sa.update(tranches).where(again).values(tries=event.revision + 1, asked=False))
    else:
        tx.execute(sa.update(tranches).where(where).values(measured=_json(event)))


def mark_asked(tx: Transaction, payment_hash: str) -> None:
    """The workers were asked."""
    tx.execute(sa.update(tranches).where(tranches.c.payment_hash == payment_hash).values(asked=True))


def mark_said(tx: Transaction, payment_hash: str) -> bool:
    """False when another said it."""
    where = (tranches.c.payment_hash == payment_hash) & tranches.c.said.is_(False)
    return tx.execute(sa.update(tranches).where(where).values(said=True)) == 1


def ask_and_tell_again(tx: Transaction, *, newest: int) -> None:
    """What is not decided is asked again, and the newest decisions count as not yet told."""
    tx.execute(sa.update(tranches).where(tranches.c.judged.is_(None)).values(asked=False))
    last = tx.scalar(sa.select(sa.func.max(tranches.c.round))) or 0
    where = tranches.c.judged.is_not(None) & (tranches.c.round > last - newest)
    tx.execute(sa.update(tranches).where(where).values(said=False))


def _known(tx: Transaction, where: sa.ColumnElement[bool]) -> list[Known]:
    columns: list[sa.ColumnElement[Any]] = [*tranches.c, announcements.c.body, announcements.c.traceparent]
    query = sa.select(*columns).join(announcements, announcements.c.sponsorship == tranches.c.sponsorship)
    return [
        Known(
            payment_hash=row.payment_hash,
            sponsorship=row.sponsorship,
            tranche=row.tranche,
            announced=msgspec.json.decode(msgspec.json.decode(row.body, type=Signed).body, type=Announcement),
            announcer=msgspec.json.decode(row.body, type=Signed).signer,
            round=row.round or 0,
            locked=_decoded(row.locked, TrancheLocked),
            asked=row.asked,
            tries=row.tries,
            measured=_decoded(row.measured, CheckpointMeasured),
            judged=_decoded(row.judged, Signed),
            traceparent=row.traceparent,
        )
        for row in tx.rows(query.where(where).order_by(tranches.c.round, tranches.c.payment_hash))
    ]


def _decoded(text: str | None, kind: type[T]) -> T | None:
    return None if text is None else msgspec.json.decode(text, type=kind)


def _json(document: msgspec.Struct) -> str:
    return msgspec.json.encode(document).decode()
