"""Rows of an outbox that nobody else publishes meanwhile, held by a database lock that dies with its holder.

It knows PostgreSQL's `FOR UPDATE SKIP LOCKED`, and refuses to know what the rows say. SQLite has no such lock: there one
process publishes, and what two would publish twice bears the same message id.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa


class Claim:
    """One batch, from `take` to `end`. Both are short and belong off the event loop; what happens in between may wait."""

    def __init__(self, engine: sa.Engine, outbox: sa.Table) -> None:
        self._engine = engine
        self._outbox = outbox
        self._connection: sa.Connection | None = None

    def take(self, at_most: int) -> Sequence[sa.Row[Any]]:
        """The oldest rows that nobody holds."""
        self._connection = self._engine.connect().execution_options(reading=True)  # it needs no writer's lock
        query = sa.select(self._outbox).order_by(self._outbox.c.id).limit(at_most).with_for_update(skip_locked=True)
        return self._connection.execute(query).all()

    def end(self, published: Sequence[int]) -> None:
        """Forget what was published, let go of the rest. Safe to call where nothing is held."""
        if self._connection is None:
            return
        with self._connection as connection:
            self._connection = None
            if published:
                connection.execute(sa.delete(self._outbox).where(self._outbox.c.id.in_(published)))
                connection.commit()
