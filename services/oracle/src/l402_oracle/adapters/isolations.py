"""The tables of payloads that workers did not survive, and of offers that their peers did not get. It decides nothing."""

from typing import Any

import sqlalchemy as sa
from l402core.documents import Offer
from l402core.outbox import Transaction

from l402_oracle.adapters.tables import isolations, pardons, refusals, rounds


def isolate(tx: Transaction, offer: Offer) -> bool:
    """Remember that workers did not survive what came under this offer. False where that is known."""
    if tx.row(sa.select(isolations.c.round).where(isolations.c.commitment == offer.commitment)) is not None:
        return False
    tx.execute(
        sa.insert(isolations), {"commitment": offer.commitment, "peer": offer.peer, "round": offer.round}
    )  # fmt: skip
    return True


def last_isolated(tx: Transaction, peer: str) -> int:
    """The newest round in which workers did not survive a payload of this peer; 0 for none that is not forgiven."""
    return int(tx.scalar(_held(sa.func.max(isolations.c.round)).where(isolations.c.peer == peer)) or 0)


def held_back(tx: Transaction, *, rounds_back: int) -> int:
    """How many peers get no offers now: one of their payloads, of so many newest rounds, was not survived."""
    newest = int(tx.scalar(sa.select(sa.func.max(rounds.c.round))) or 0)
    peers = sa.func.count(isolations.c.peer.distinct())
    return int(tx.scalar(_held(peers).where(isolations.c.round >= newest - rounds_back)) or 0)


def newest_unforgiven(tx: Transaction, peer: str, *, rounds_back: int) -> list[sa.Row[Any]]:
    """(peer, round, commitment) of each peer whose key begins so and who is held back now: of its newest payload."""
    found: dict[str, sa.Row[Any]] = {}
    columns = (isolations.c.peer, isolations.c.round, isolations.c.commitment)
    newest = int(tx.scalar(sa.select(sa.func.max(rounds.c.round))) or 0)
    query = _held(*columns).where(
        isolations.c.peer.startswith(peer, autoescape=True), isolations.c.round >= newest - rounds_back
    )
    for row in tx.rows(query.order_by(isolations.c.round, isolations.c.commitment)):
        found[row.peer] = row
    return list(found.values())


def forgive(tx: Transaction, peer: str, number: int, *, at_ms: int, by: str, reason: str) -> None:
    """What came of this peer up to this round, by whose order and why."""
    tx.execute(sa.insert(pardons), {"peer": peer, "round": number, "at_ms": at_ms, "by": by, "reason": reason})


def _held(*what: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Of isolations that nobody has forgiven."""
    forgiven = sa.exists().where(pardons.c.peer == isolations.c.peer, pardons.c.round >= isolations.c.round)
    return sa.select(*what).select_from(isolations).where(~forgiven)


def refuse(tx: Transaction, commitment: str, number: int) -> None:
    """It gets no offer; once."""
    if tx.scalar(sa.select(refusals.c.round).where(refusals.c.commitment == commitment)) is None:
        tx.execute(sa.insert(refusals), {"commitment": commitment, "round": number})


def refused(tx: Transaction, number: int) -> tuple[str, ...]:
    """The round's commitments that get no offer."""
    rows = tx.rows(sa.select(refusals.c.commitment).where(refusals.c.round == number))
    return tuple(row.commitment for row in rows)
