"""Peers' ratings as rows: read for those who take part, written once a round. It decides nothing."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from l402core.outbox import Transaction

from l402_oracle.adapters.tables import reputations
from l402_oracle.reputation import Rating


def read(tx: Transaction, peers: Iterable[str]) -> dict[str, Rating]:
    """Those that have one."""
    rows = tx.rows(sa.select(reputations).where(reputations.c.peer.in_(list(peers))))
    return {row.peer: Rating(mu=row.mu, sigma=row.sigma) for row in rows}


def write(tx: Transaction, ratings: Mapping[str, Rating], number: int) -> None:
    """Replace them by what a round made of them."""
    known = read(tx, ratings)
    for peer, rating in sorted(ratings.items()):
        values = {"mu": rating.mu, "sigma": rating.sigma, "round": number}
        if peer in known:
            tx.execute(sa.update(reputations).where(reputations.c.peer == peer).values(**values))
        else:
            tx.execute(sa.insert(reputations), {"peer": peer, **values})
