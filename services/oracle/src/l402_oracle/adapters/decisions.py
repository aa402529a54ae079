"""The attestor's tables as functions over one open transaction. It knows SQL, and refuses to decide anything."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from l402core.documents import Locked, ObjectRef, Offer, Terms
from l402core.events import (
    CheckpointLine,
    CheckpointPublished,
    GradientMeasured,
    GradientScored,
    GradientScreened,
    GradientUploaded,
    RoundAggregate,
    RoundAssessed,
    RoundClosed,
    SubmissionEvent,
    YardstickMade,
)
from l402core.outbox import Transaction
from l402core.signing import Signed

from l402_oracle.adapters.tables import decisions, heard, offers, rounds
from l402_oracle.attestor.judgement import Submission
from l402_oracle.planning import pace_of

T = TypeVar("T")
UPLOADED, SCREENED, MEASURED = "uploaded", "screened", "measured"
OPEN, REVEALED, WITHHELD = "", "revealed", "withheld"
"""What becomes of an offer's preimages: not known yet, or one of two, for good."""
PACE_ROUNDS = 5
"""Rounds back that a pace is looked for."""
UNDECIDED = ("announced", "assessed")
OPEN_STATES = (*UNDECIDED, "decided")
AT_ONCE = 500
"""Submissions that are read in one statement."""

# What every look runs, built once: building a statement costs more than running it.
_ROUND = sa.select(rounds).where(rounds.c.round == sa.bindparam("number"))
_ROUNDS_IN = (
    sa.select(rounds.c.round, rounds.c.state)
    .where(rounds.c.state.in_(sa.bindparam("states", expanding=True)))
    .order_by(rounds.c.round)
)
_HEARD_ONE = sa.select(heard.c.kind).where(
    heard.c.commitment == sa.bindparam("commitment"), heard.c.kind == sa.bindparam("kind")
)
_HEARD = sa.select(heard).where(heard.c.commitment.in_(sa.bindparam("commitments", expanding=True)))
_OFFERS = sa.select(offers).where(
    offers.c.commitment.in_(sa.bindparam("commitments", expanding=True)), offers.c.attempt == sa.bindparam("attempt")
)
_MAY_BE_DECIDED = (
    sa.select(offers.c.round)
    .join(rounds, rounds.c.round == offers.c.round)
    .where(offers.c.commitment == sa.bindparam("commitment"), offers.c.attempt == 1)
    .where(rounds.c.state.in_(UNDECIDED), rounds.c.lapsed_at_ms.is_(None))
)
_ANY_UNSAID = sa.select(decisions.c.commitment).where(decisions.c.said.is_(False)).limit(1)
_UNSAID = sa.select(decisions).where(decisions.c.said.is_(False)).order_by(decisions.c.round, decisions.c.place)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `rounds`, decoded."""

    number: int
    state: str
    announced: CheckpointPublished | None
    terms: Signed | None
    commits: Signed | None
    closed: RoundClosed | None
    closed_at_ms: int
    lapsed_at_ms: int
    """When its time was over and it was not decided; 0 where that was not so. Everybody is unscored then, for good."""
    assessed: RoundAssessed | None
    aggregate: RoundAggregate | None
    judged: Signed | None
    reference: int
    yardstick: YardstickMade | None = None
    trouble: str = ""
    """Why it was frozen, and who ended it."""


def read_round(tx: Transaction, number: int) -> Round | None:
    """The round, if there is a row."""
    row = tx.row(_ROUND, number=number)
    if row is None:
        return None
    return Round(
        number=row.round,
        state=row.state,
        announced=_decoded(row.announced, CheckpointPublished),
        terms=_decoded(row.terms, Signed),
        commits=_decoded(row.commits, Signed),
        closed=_decoded(row.closed, RoundClosed),
        closed_at_ms=row.closed_at_ms or 0,
        lapsed_at_ms=row.lapsed_at_ms or 0,
        assessed=_decoded(row.assessed, RoundAssessed),
        aggregate=_decoded(row.aggregate, RoundAggregate),
        judged=_decoded(row.judged, Signed),
        reference=row.reference,
        yardstick=_decoded(row.yardstick, YardstickMade),
        trouble=row.trouble,
    )


def may_be_decided(tx: Transaction, commitment: str) -> bool:
    """Whether it has an offer of a round that is not decided and has not lapsed. Peers ask it again and again while they
    wait, so that nothing is decoded for it."""
    return tx.row(_MAY_BE_DECIDED, commitment=commitment) is not None


def add_round(tx: Transaction, number: int, **columns: Any) -> None:
    """A new row."""
    tx.execute(sa.insert(rounds), {"round": number, **_encoded(columns)})


def change_round(tx: Transaction, number: int, *, expected: str, **columns: Any) -> bool:
    """Compare-and-set on the state: False when another got there first."""
    where = (rounds.c.round == number) & (rounds.c.state == expected)
    return tx.execute(sa.update(rounds).where(where).values(**_encoded(columns))) == 1


def freeze(tx: Transaction, number: int, trouble: str) -> bool:
    """Stop a round for good: nothing of it is ever decided. False where it is decided: then its decisions stand."""
    where = (rounds.c.round == number) & rounds.c.state.in_((*UNDECIDED, "frozen"))
    return tx.execute(sa.update(rounds).where(where).values(state="frozen", trouble=trouble)) == 1


def lapse(tx: Transaction, number: int, now_ms: int) -> bool:
    """Nothing of an undecided round is ever judged from here on. False where it is decided, or lapsed before."""
    where = (rounds.c.round == number) & rounds.c.state.in_(UNDECIDED) & rounds.c.lapsed_at_ms.is_(None)
    return tx.execute(sa.update(rounds).where(where).values(lapsed_at_ms=now_ms)) == 1


def rounds_in(tx: Transaction, states: tuple[str, ...]) -> list[tuple[int, str]]:
    """(round, state), in order."""
    return [(row.round, row.state) for row in tx.rows(_ROUNDS_IN, states=states)]


def has_rounds(tx: Transaction) -> bool:
    """Whether anything ever began."""
    return tx.row(sa.select(rounds.c.round).limit(1)) is not None


def hear(tx: Transaction, kind: str, event: SubmissionEvent, traceparent: str) -> None:
    """Keep the first event of a kind about a submission, with its trace; later ones change nothing."""
    if tx.row(_HEARD_ONE, commitment=event.commitment, kind=kind) is None:
        values = {"commitment": event.commitment, "kind": kind, "round": event.round, "body": _json(event)}
        tx.execute(sa.insert(heard), {**values, "traceparent": traceparent})


def read_offer(tx: Transaction, commitment: str, attempt: int) -> Signed | None:
    """The one offer of an attempt."""
    query = sa.select(offers.c.body).where(offers.c.commitment == commitment, offers.c.attempt == attempt)
    return _decoded(tx.scalar(query), Signed)


def add_offer(tx: Transaction, offer: Offer, signed: Signed, traceparent: str) -> None:
    """Once per commitment and attempt, by primary key."""
    values = {"commitment": offer.commitment, "attempt": offer.attempt, "round": offer.round, "seq": offer.seq}
    tx.execute(sa.insert(offers), {**values, "body": _json(signed), "traceparent": traceparent})


def offers_of(tx: Transaction, commitment: str) -> list[Offer]:
    """Every attempt's offer, first attempt first."""
    query = sa.select(offers.c.body).where(offers.c.commitment == commitment).order_by(offers.c.attempt)
    return [_offer(row.body) for row in tx.rows(query)]


def offered(tx: Transaction, number: int) -> list[str]:
    """The round's commitments with an offer, by sequence number."""
    query = sa.select(offers.c.commitment).where(offers.c.round == number)
    return list(dict.fromkeys(row.commitment for row in tx.rows(query.order_by(offers.c.seq, offers.c.commitment))))


def read_submissions(tx: Transaction, commitments: Sequence[str]) -> list[Submission]:
    """What is known of each that has an offer, in the given order; in a few statements, however many they are."""
    starts = range(0, len(commitments), AT_ONCE)
    return [one for start in starts for one in _read_batch(tx, commitments[start : start + AT_ONCE], 1)]


def read_submission(tx: Transaction, commitment: str, attempt: int = 1) -> Submission | None:
    """All that was heard, with the offer of this attempt and the word on its lock; None without such an offer."""
    return next(iter(_read_batch(tx, (commitment,), attempt)), None)


def _read_batch(tx: Transaction, commitments: Sequence[str], attempt: int) -> list[Submission]:
    made = {row.commitment: row for row in tx.rows(_OFFERS, commitments=commitments, attempt=attempt)}
    said: dict[str, dict[str, sa.Row[Any]]] = {commitment: {} for commitment in made}
    for row in tx.rows(_HEARD, commitments=list(made)) if made else ():
        said[row.commitment][row.kind] = row
    return [_submission(made[commitment], said[commitment]) for commitment in commitments if commitment in made]


def _submission(made: sa.Row[Any], rows: dict[str, sa.Row[Any]]) -> Submission:
    bodies = {kind: row.body for kind, row in rows.items()}
    lock = _decoded(made.locked, Signed)
    return Submission(
        commitment=made.commitment,
        offer=_offer(made.body),
        uploaded=_decoded(bodies.get(UPLOADED), GradientUploaded),
        screened=_decoded(bodies.get(SCREENED), GradientScreened),
        locked=msgspec.json.decode(lock.body, type=Locked) if lock else None,
        measured=_decoded(bodies.get(MEASURED), GradientMeasured),
        traceparent=rows[UPLOADED].traceparent if UPLOADED in rows else made.traceparent,
    )


def keep_lock(tx: Transaction, commitment: str, attempt: int, locked: Signed) -> bool:
    """The first word on an offer's ladder; False when there is one."""
    where = (offers.c.commitment == commitment) & (offers.c.attempt == attempt) & offers.c.locked.is_(None)
    return tx.execute(sa.update(offers).where(where).values(locked=_json(locked))) == 1


def read_measured(tx: Transaction, commitment: str) -> GradientMeasured | None:
    """What was measured under this name, if anything was."""
    query = sa.select(heard.c.body).where(heard.c.commitment == commitment, heard.c.kind == MEASURED)
    return _decoded(tx.scalar(query), GradientMeasured)


def yardstick_before(tx: Transaction, number: int) -> ObjectRef | None:
    """The memory that the last yardstick before this round left."""
    query = sa.select(rounds.c.yardstick).where(rounds.c.round < number, rounds.c.yardstick.is_not(None))
    made = [
        _decoded(row.yardstick, YardstickMade)
        for row in tx.rows(query.order_by(rounds.c.round.desc()).limit(PACE_ROUNDS))
    ]
    return next((one.state for one in made if one is not None and one.state is not None), None)


def sketched(tx: Transaction, number: int) -> list[tuple[str, str, GradientScreened]]:
    """(commitment, peer, screening) of a round's uploads that passed."""
    query = sa.select(heard).where(heard.c.round == number, heard.c.kind.in_((UPLOADED, SCREENED)))
    peers: dict[str, str] = {}
    screenings: list[GradientScreened] = []
    for row in tx.rows(query.order_by(heard.c.commitment)):
        if row.kind == UPLOADED:
            peers[row.commitment] = msgspec.json.decode(row.body, type=GradientUploaded).peer
        else:
            screenings.append(msgspec.json.decode(row.body, type=GradientScreened))
    return [(s.commitment, peers[s.commitment], s) for s in screenings if s.passed and s.commitment in peers]


def add_decision(tx: Transaction, scored: GradientScored, *, place: int, traceparent: str) -> None:
    """The one decision on a submission, by primary key. Without preimages, sealed or not."""
    assert not scored.sealed_preimages
    values = {"commitment": scored.commitment, "round": scored.round, "place": place, "mask": scored.mask}
    tx.execute(sa.insert(decisions), {**values, "body": _json(scored), "said": False, "traceparent": traceparent})


def read_decision(tx: Transaction, commitment: str) -> GradientScored | None:
    """The decision, without its preimages."""
    return _decoded(tx.scalar(sa.select(decisions.c.body).where(decisions.c.commitment == commitment)), GradientScored)


def receipts_of(tx: Transaction, number: int) -> tuple[Signed, ...]:
    """A round's receipts, in the order of their chain."""
    query = sa.select(decisions.c.body).where(decisions.c.round == number).order_by(decisions.c.place)
    return tuple(msgspec.json.decode(row.body, type=GradientScored).receipt for row in tx.rows(query))


def pace_before(tx: Transaction, number: int) -> int:
    """Tokens per second of the workers in the last round before this one that shows a pace; 0 where none does."""
    for earlier in range(number - 1, max(0, number - 1 - PACE_ROUNDS), -1):
        row = read_round(tx, earlier)
        if row is None or row.assessed is None:
            continue
        seen = [s.measured for s in read_submissions(tx, row.assessed.measured)]
        own = read_measured(tx, row.assessed.yardstick) if row.assessed.yardstick else None
        if pace := pace_of(row.assessed, [one for one in (*seen, own) if one is not None]):
            return pace
    return 0


def newest_terms(tx: Transaction) -> tuple[int, Signed] | None:
    """The newest round that has terms."""
    query = sa.select(rounds.c.round, rounds.c.terms).where(rounds.c.terms.is_not(None))
    row = tx.row(query.order_by(rounds.c.round.desc()).limit(1))
    return None if row is None else (row.round, msgspec.json.decode(row.terms, type=Signed))


class _Announced(msgspec.Struct):
    """All that is read of a checkpoint's announcement here."""

    held_out_after: int
    occurred_at_ms: int


def newest_checkpoints(tx: Transaction, at_most: int) -> tuple[CheckpointLine, ...]:
    """The held-out loss of the newest checkpoints, oldest first."""
    query = sa.select(rounds.c.round, rounds.c.announced).where(rounds.c.announced.is_not(None))
    rows = tx.rows(query.order_by(rounds.c.round.desc()).limit(at_most))
    told = [(row.round, msgspec.json.decode(row.announced, type=_Announced)) for row in reversed(rows)]
    return tuple(
        CheckpointLine(round=number, held_out=one.held_out_after, at_ms=one.occurred_at_ms) for number, one in told
    )


def read_fate(tx: Transaction, commitment: str) -> tuple[int, str]:
    """The offer that may be revealed, and what became of its preimages. There is a decision."""
    row = tx.row(sa.select(decisions).where(decisions.c.commitment == commitment))
    assert row is not None
    return row.attempt, row.fate


def settle_fate(tx: Transaction, commitment: str, attempt: int, fate: str) -> bool:
    """Compare-and-set: this offer's preimages may leave from here on, or never will. False where it is decided otherwise."""
    where = (
        (decisions.c.commitment == commitment) & (decisions.c.attempt == attempt) & decisions.c.fate.in_((OPEN, fate))
    )
    return tx.execute(sa.update(decisions).where(where).values(fate=fate)) == 1


def next_attempt(tx: Transaction, commitment: str, attempt: int) -> bool:
    """Another offer takes the place of one that was withheld. False unless it is the very next."""
    where = (decisions.c.commitment == commitment) & (decisions.c.attempt == attempt - 1)
    where &= decisions.c.fate == WITHHELD
    return tx.execute(sa.update(decisions).where(where).values(attempt=attempt, fate=OPEN)) == 1


def say_again(tx: Transaction, commitment: str) -> None:
    """The decision counts as not yet told."""
    tx.execute(sa.update(decisions).where(decisions.c.commitment == commitment).values(said=False))


def anything_unsaid(tx: Transaction) -> bool:
    """Whether any decision was not yet told."""
    return tx.row(_ANY_UNSAID) is not None


def unsaid(tx: Transaction) -> list[sa.Row[Any]]:
    """Decisions that were not yet told, oldest first."""
    return tx.rows(_UNSAID)


def mark_said(tx: Transaction, commitment: str) -> bool:
    """False when another said it."""
    where = (decisions.c.commitment == commitment) & decisions.c.said.is_(False)
    return tx.execute(sa.update(decisions).where(where).values(said=True)) == 1


def tell_again(tx: Transaction, *, newest: int) -> None:
    """The decisions of the newest rounds count as not yet told."""
    last = tx.scalar(sa.select(sa.func.max(decisions.c.round))) or 0
    tx.execute(sa.update(decisions).where(decisions.c.round > last - newest).values(said=False))


def read_terms(signed: Signed) -> Terms:
    """The document inside terms that were checked when they were kept."""
    return msgspec.json.decode(signed.body, type=Terms)


def _offer(body: str) -> Offer:
    return msgspec.json.decode(msgspec.json.decode(body, type=Signed).body, type=Offer)


def _decoded(text: str | None, kind: type[T]) -> T | None:
    return None if text is None else msgspec.json.decode(text, type=kind)


def _json(document: msgspec.Struct) -> str:
    return msgspec.json.encode(document).decode()


def _encoded(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: _json(value) if isinstance(value, msgspec.Struct) else value for name, value in columns.items()}
