"""The statements that every escrow runs many times, built once: building one costs more than running it. No decisions.

What is looked for is a parameter named `b_…`, because the plain column names are what an update sets.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from l402core.documents import LADDER
from l402core.escrow import OPEN_RUNG, Escrow, Rung
from l402core.hot import Hot
from l402core.sponsorship import LIVE
from sqlalchemy.dialects.postgresql import insert  # SQLite's has the same words

from l402_settler.adapters.sponsor_tables import tranches
from l402_settler.adapters.tables import credits_, fees, inbox, rounds, rungs, submissions, tokens, transfers

IS_OPEN = submissions.c.state != sa.literal_column("'ended'")
"""Written out, not a parameter: PostgreSQL uses an index of part of a table only where it can prove that the part suffices."""
_SCORED = submissions.c.scored.is_not(None)
_commitment = sa.bindparam("b_commitment", type_=sa.String())
_hash = sa.bindparam("b_hash", type_=sa.String())
_round = sa.bindparam("b_round", type_=sa.Integer())
_state = sa.bindparam("b_state", type_=sa.String())


@lru_cache(maxsize=256)
def transfers_of(count: int) -> Hot:
    """So many transfers by their ids, `b_0`, `b_1` and so on."""
    return Hot(sa.select(transfers).where(transfers.c.id.in_(names(count))))


@lru_cache(maxsize=256)
def add_transfers(count: int) -> Hot:
    """So many transfers in one statement, the columns of the first `b_0_…`, of the next `b_1_…` and so on; those whose ids
    stand there already are left as they are. Another end of the same pending transfer is refused all the same."""
    rows = range(count)
    values = [{c.name: sa.bindparam(f"b_{number}_{c.name}", type_=c.type) for c in transfers.c} for number in rows]
    return Hot(insert(transfers).values(values).on_conflict_do_nothing(index_elements=[transfers.c.id]))


@lru_cache(maxsize=16)
def submissions_by(count: int) -> Hot:
    """So many submissions by their commitments, `b_0`, `b_1` and so on."""
    return Hot(sa.select(submissions).where(submissions.c.commitment.in_(names(count))))


@lru_cache(maxsize=16)
def rungs_by(count: int) -> Hot:
    """The rungs of so many submissions, as `RUNGS` has those of one."""
    which = sa.select(rungs).where(rungs.c.commitment.in_(names(count)))
    return Hot(which.order_by(rungs.c.attempt, rungs.c.rung))


def names(count: int) -> list[sa.BindParameter[str]]:
    """Of a list's values: `b_0`, `b_1` and so on, so that each length is one text."""
    return [sa.bindparam(f"b_{number}", type_=sa.String()) for number in range(count)]


def named(values: Sequence[str]) -> dict[str, str]:
    """The same names with their values."""
    return {f"b_{number}": value for number, value in enumerate(values)}


_consumer = sa.bindparam("b_consumer", type_=sa.String())
_message = sa.bindparam("b_message", type_=sa.String())
_at_ms = sa.bindparam("b_at_ms", type_=sa.BigInteger())
_IS_TAKEN = sa.exists().where(inbox.c.consumer == _consumer, inbox.c.message_id == _message)
TAKE = Hot(
    sa.insert(inbox).from_select(
        ["consumer", "message_id", "at_ms"],
        sa.select(_consumer.label("consumer"), _message.label("message"), _at_ms.label("at_ms")).where(~_IS_TAKEN),
    )
)
"""No row where it was taken before."""
FORGET = Hot(sa.delete(inbox).where(inbox.c.at_ms < sa.bindparam("b_before_ms")))

ROUND = Hot(sa.select(rounds).where(rounds.c.round == _round), kept="round")
CURRENT_ROUND = sa.select(rounds).order_by(rounds.c.round.desc()).limit(1)
LIVE_ROUNDS = Hot(
    sa.select(rounds).where(
        rounds.c.round.in_(
            sa.union(
                sa.select(rounds.c.round).where(rounds.c.phase != sa.literal_column("'done'")),
                sa.select(submissions.c.round).where(IS_OPEN),
            )
        )
    )
)

SUBMISSION = Hot(sa.select(submissions).where(submissions.c.commitment == _commitment), kept="commitment")
ADD_SUBMISSION = Hot(sa.insert(submissions))
_NOTE_SUBMISSION = sa.update(submissions).where(submissions.c.commitment == _commitment)
NOTE_SUBMISSION = Hot(_NOTE_SUBMISSION, renews=SUBMISSION)
MOVE_SUBMISSION = Hot(_NOTE_SUBMISSION.where(submissions.c.state == _state, ~submissions.c.frozen), renews=SUBMISSION)
LAST_SEQ = Hot(
    sa.select(sa.func.coalesce(sa.func.max(submissions.c.seq), 0).label("seq")).where(submissions.c.round == _round)
)
STANDINGS = Hot(
    sa.select(*(submissions.c[name] for name in ("commitment", "peer", "state", "upload", "frozen")))
    .where(submissions.c.round == _round)
    .order_by(submissions.c.seq)
)
KINDS = Hot(sa.select(submissions.c.state, submissions.c.frozen).where(submissions.c.round == _round).distinct())
PEERS = Hot(sa.select(submissions.c.peer).where(submissions.c.round == _round).distinct())
STANDINGS_OF = Hot(
    sa.select(submissions.c.state, _SCORED.label("is_scored")).where(
        submissions.c.round == _round, submissions.c.peer == sa.bindparam("b_peer")
    )
)
_ENDED_SCORED = (submissions.c.state == Escrow.ENDED) & _SCORED  # no other state asks, and the index holds the rest
OCCUPANCY = Hot(
    sa.select(
        submissions.c.state,
        _ENDED_SCORED.label("is_scored"),
        sa.func.count().label("rows"),
        sa.func.sum(submissions.c.reserved_msat).label("reserved_msat"),
    )
    .where(submissions.c.round == _round)
    .group_by(submissions.c.state, _ENDED_SCORED)
)
PAYEES_OF = Hot(sa.select(submissions.c.payee).where(IS_OPEN, submissions.c.peer == sa.bindparam("b_whose")))
UNENDED = sa.select(submissions).where(IS_OPEN)
OWING = Hot(
    UNENDED.where(
        submissions.c.state.in_((Escrow.OWED, Escrow.DUE, Escrow.REOFFERED, Escrow.RELOCKING)), ~submissions.c.frozen
    )
)


def _out(whose: sa.Column[str]) -> sa.Select[*tuple[Any, ...]]:
    """Rungs that are out to somebody, and of these what was not sent yet."""
    unsent = sa.case((rungs.c.state == Rung.REGISTERED, 1), else_=0)
    return (
        sa.select(
            sa.func.coalesce(sa.func.sum(rungs.c.amount_msat), 0).label("msat"),
            sa.func.count().label("rungs"),
            sa.func.coalesce(sa.func.sum(unsent), 0).label("unsent"),
            sa.func.coalesce(sa.func.sum(unsent * rungs.c.amount_msat), 0).label("unsent_msat"),
        )
        .join(submissions, submissions.c.commitment == rungs.c.commitment)
        .where(IS_OPEN, whose == sa.bindparam("b_whose"), rungs.c.state.in_(OPEN_RUNG))
    )


_OWES = submissions.c.owed_rungs > 0
_MSAT = sa.case((_OWES, submissions.c.owed_msat), else_=submissions.c.reserved_msat)
_RUNGS = sa.case((_OWES, submissions.c.owed_rungs), else_=len(LADDER))
REGISTERED_STATES = (Escrow.LOCKING, Escrow.RELOCKING)
"""Their rungs are in the books, and our node may not have sent them yet."""


def _promised(*states: Escrow) -> sa.Select[*tuple[Any, ...]]:
    """Ladders that are promised, in these states; of what is owed, the rungs of the decision."""
    unregistered = sa.case((submissions.c.state.in_(REGISTERED_STATES), 0), else_=_MSAT)
    return sa.select(
        sa.func.coalesce(sa.func.sum(_MSAT), 0).label("msat"),
        sa.func.coalesce(sa.func.sum(_RUNGS), 0).label("rungs"),
        sa.func.coalesce(sa.func.sum(unregistered), 0).label("unregistered_msat"),
    ).where(IS_OPEN, submissions.c.state.in_(states))


_ASKED = (Escrow.OPENED, Escrow.OFFERED, Escrow.DUE, Escrow.REOFFERED)
OFFERED = Hot(_promised(*_ASKED, *REGISTERED_STATES))
PROMISED = Hot(_promised(*_ASKED, *REGISTERED_STATES, Escrow.OWED))


class Exposed(NamedTuple):
    """What somebody holds, in three statements."""

    out: Hot
    promised: Hot
    offered: Hot
    """Of what is promised, without what is owed and not offered."""


def _exposed(whose: sa.Column[str]) -> Exposed:
    theirs = whose == sa.bindparam("b_whose")
    promised, offered = _promised(*_ASKED, Escrow.OWED), _promised(*_ASKED)
    return Exposed(Hot(_out(whose)), Hot(promised.where(theirs)), Hot(offered.where(theirs)))


EXPOSED = {column.name: _exposed(column) for column in (submissions.c.peer, submissions.c.payee)}

ADD_RUNGS = Hot(sa.insert(rungs))
RUNGS = Hot(
    sa.select(rungs).where(rungs.c.commitment == _commitment).order_by(rungs.c.attempt, rungs.c.rung), kept="commitment"
)
RUNG = Hot(sa.select(rungs).where(rungs.c.payment_hash == _hash))


@lru_cache(maxsize=256)
def owners(count: int) -> Hot:
    """Of so many rungs, by their hashes, `b_0`, `b_1` and so on."""
    return Hot(sa.select(rungs.c.payment_hash, rungs.c.commitment).where(rungs.c.payment_hash.in_(names(count))))


OPEN_RUNGS = Hot(sa.select(rungs).where(rungs.c.state.in_(OPEN_RUNG)))
_OF_TRANCHES = sa.select(sa.func.min(sa.func.nullif(tranches.c.expiry_height, 0))).where(tranches.c.state.in_(LIVE))
NEAREST_EXPIRY = Hot(
    sa.select(
        sa.func.count().label("still"),
        sa.func.min(sa.func.nullif(rungs.c.expiry_height, 0)).label("of_rungs"),
        _OF_TRANCHES.scalar_subquery().label("of_tranches"),
    ).where(rungs.c.state.in_(OPEN_RUNG))
)


@lru_cache(maxsize=256)
def move_rungs(count: int) -> Hot:
    """So many rungs that are in one state, by their hashes, `b_0`, `b_1` and so on."""
    which = (rungs.c.payment_hash.in_(names(count)), rungs.c.state == _state)
    return Hot(sa.update(rungs).where(*which), renews=RUNGS)


_limit = sa.bindparam("b_limit", type_=sa.Integer())
_after = sa.bindparam("b_after", type_=sa.String())
ROUTING_ID = "routing:"
"""How the line of a rung's routing fee begins; the payment hash follows."""
ROUTING_BETWEEN = sa.select(transfers.c.id, transfers.c.amount_msat).where(
    transfers.c.id > sa.bindparam("b_first", type_=sa.String()),
    transfers.c.id <= sa.bindparam("b_last", type_=sa.String()),
)
RUNGS_AFTER = (
    sa.select(*(rungs.c[name] for name in ("payment_hash", "commitment", "amount_msat", "state")))
    .where(rungs.c.payment_hash > _after)
    .order_by(rungs.c.payment_hash)
    .limit(_limit)
)

TOKEN = Hot(sa.select(tokens).where(tokens.c.token_id == sa.bindparam("b_token")))
SPEND_TOKEN = Hot(sa.insert(tokens))
FEE = Hot(sa.select(fees).where(fees.c.payment_hash == _hash))
FEES_AFTER = sa.select(fees).where(fees.c.payment_hash > _after).order_by(fees.c.payment_hash).limit(_limit)
ADD_FEE = Hot(sa.insert(fees))
CREDIT = Hot(sa.select(credits_).where(credits_.c.payment_hash == _hash))
