"""The end of a round that was frozen: a person's order. Nobody in it is judged, and the model stays as it was.

Of a frozen round peers were told that nothing will be decided, and gave their rungs back; so it can never go on, only end.
"""

import structlog
from l402core.errors import Conflict, NotFound
from l402core.events import EndRound, RoundEnded
from l402core.ordered import checked_order
from l402core.outbox import Transaction

from l402_oracle.adapters import decisions as books
from l402_oracle.attestor.outcome import same_checkpoint
from l402_oracle.attestor.parts import Parts

log = structlog.get_logger()


async def end_round(parts: Parts, order: EndRound) -> RoundEnded:
    """Void it and announce the next one on the same checkpoint; once. Raises Malformed, NotFound, Conflict."""
    by, reason = checked_order(order.by, order.reason)

    def work(tx: Transaction) -> RoundEnded:
        row = books.read_round(tx, order.round)
        if row is None or row.announced is None:
            raise NotFound("round", f"round {order.round} was never announced")
        if row.state != "frozen":
            raise Conflict("not_frozen", f"round {order.round} is {row.state}: only a frozen one is ended by hand")
        noted = f"{row.trouble}; ended by {by}: {reason}"
        books.change_round(tx, row.number, expected="frozen", state="void", trouble=noted)
        following = same_checkpoint(parts, row, row.announced.reference_previous)
        books.add_round(tx, following.round, state="announced", announced=following)
        tx.say(following)
        return RoundEnded(round=row.number, trouble=row.trouble, checkpoint=following.checkpoint.sha256)

    ended = await parts.database.transact(work)
    log.warning("round.ended", round=ended.round, by=by, reason=reason, trouble=ended.trouble)
    return ended
