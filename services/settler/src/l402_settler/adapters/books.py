"""Rounds, submissions and rungs over one open transaction. It knows SQL, and refuses to decide anything.

Rows come back as they are; documents are JSON text. Every change of an escrow's or a rung's state is a compare-and-set.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from l402core.errors import Contradiction
from l402core.escrow import Escrow, Rung
from l402core.outbox import Transaction

from l402_settler.adapters import statements as q
from l402_settler.adapters.tables import (
    past_offers,
    rounds,
    rungs,
    submissions,
)
from l402_settler.exposure import Exposure

T = TypeVar("T")


def to_json(document: msgspec.Struct) -> str:
    """A document as a column keeps it."""
    return msgspec.json.encode(document).decode()


def from_json(text: str | None, kind: type[T]) -> T | None:
    """A document from its column."""
    return None if text is None else msgspec.json.decode(text, type=kind)


# --- rounds -----------------------------------------------------------------------------------------------------------


def round_row(tx: Transaction, round_: int) -> sa.Row[Any] | None:
    """One round."""
    return tx.row(q.ROUND, b_round=round_)


def current_round(tx: Transaction) -> sa.Row[Any] | None:
    """The newest round."""
    return tx.row(q.CURRENT_ROUND)


def live_rounds(tx: Transaction) -> list[sa.Row[Any]]:
    """Rounds that are not done, and done ones with an escrow that is not ended."""
    return tx.rows(q.LIVE_ROUNDS)


def add_round(tx: Transaction, **values: Any) -> None:
    """A new round."""
    tx.execute(sa.insert(rounds), values)


def move_round(tx: Transaction, round_: int, before: str, after: str, **values: Any) -> bool:
    """Compare-and-set a round's phase; whether it was ours to do."""
    statement = sa.update(rounds).where(rounds.c.round == round_, rounds.c.phase == before)
    return tx.execute(statement.values(phase=after, **values)) == 1


# --- submissions ------------------------------------------------------------------------------------------------------


def submission(tx: Transaction, commitment: str) -> sa.Row[Any] | None:
    """One submission."""
    return tx.row(q.SUBMISSION, b_commitment=commitment)


def read_ahead(tx: Transaction, commitments: Sequence[str]) -> None:
    """The submissions and rungs that the changes of one commit begin with, in two statements for all of them."""
    count = 1 << (len(commitments) - 1).bit_length()  # few lengths, so that few statements are built and prepared
    asked = [*commitments, *[commitments[-1]] * (count - len(commitments))]
    tx.foresee(q.SUBMISSION, q.submissions_by(count), asked)
    tx.foresee(q.RUNGS, q.rungs_by(count), asked)


def submissions_of(tx: Transaction, round_: int) -> list[sa.Row[Any]]:
    """A round's submissions in order of their numbers."""
    return tx.rows(sa.select(submissions).where(submissions.c.round == round_).order_by(submissions.c.seq))


def exposure(tx: Transaction, *, peer: str = "", payee: str = "", debts: bool = True) -> Exposure:
    """What is out to a peer or to a payee's node, or promised: open rungs, and ladders that nobody has made yet.

    Without `debts`: what is owed counts from its new offer on.
    """
    exposed, whose = q.EXPOSED["peer" if peer else "payee"], peer or payee
    out = tx.row(exposed.out, b_whose=whose)
    promised = tx.row(exposed.promised if debts else exposed.offered, b_whose=whose)
    assert out is not None
    assert promised is not None
    rungs_promised = int(promised.rungs)
    return Exposure(
        msat=int(out.msat) + int(promised.msat), rungs=int(out.rungs) + rungs_promised,
        promised_rungs=int(out.unsent) + rungs_promised, promised_msat=int(out.unsent_msat) + int(promised.msat),
    )  # fmt: skip


def payees_of(tx: Transaction, peer: str) -> frozenset[str]:
    """The nodes that a peer's open submissions are paid to."""
    return frozenset(row.payee for row in tx.rows(q.PAYEES_OF, b_whose=peer))


class Promised(msgspec.Struct, frozen=True):
    """What is promised, in all rounds, and may not be seen at our node yet."""

    msat: int
    rungs: int
    unregistered_msat: int
    """Of it what is on no ladder yet, so that the day's sum of what was locked does not hold it."""


def promised(tx: Transaction, *, debts: bool) -> Promised:
    """All ladders that were offered or are asked for, the first ones and those of what is owed, until they are locked.

    With `debts`: also what is owed and waits for its new offer.
    """
    row = tx.row(q.PROMISED if debts else q.OFFERED)
    assert row is not None
    return Promised(int(row.msat), int(row.rungs), int(row.unregistered_msat))


def owing(tx: Transaction) -> list[sa.Row[Any]]:
    """Submissions whose reward is owed and waits for somebody; frozen ones wait for a person."""
    return tx.rows(q.OWING)


def standings(tx: Transaction, round_: int) -> list[sa.Row[Any]]:
    """Where each submission of a round stands, in order of their numbers, without its documents."""
    return tx.rows(q.STANDINGS, b_round=round_)


def kinds(tx: Transaction, round_: int) -> list[sa.Row[Any]]:
    """Where submissions of a round stand, each place once: state and whether it is frozen."""
    return tx.rows(q.KINDS, b_round=round_)


def peers_of(tx: Transaction, round_: int) -> frozenset[str]:
    """Who has opened a submission in a round."""
    return frozenset(row.peer for row in tx.rows(q.PEERS, b_round=round_))


def standings_of(tx: Transaction, round_: int, peer: str) -> list[sa.Row[Any]]:
    """Where the submissions of one peer in a round stand."""
    return tx.rows(q.STANDINGS_OF, b_round=round_, b_peer=peer)


def occupancy(tx: Transaction, round_: int) -> list[sa.Row[Any]]:
    """A round's submissions counted by state and by whether they are scored, with what is reserved for them, msat."""
    return tx.rows(q.OCCUPANCY, b_round=round_)


def counts(tx: Transaction, round_: int) -> sa.Row[Any]:
    """How many submissions of a round were opened, uploaded and scored."""
    columns: list[sa.ColumnElement[Any]] = [
        sa.func.count().label("opened"), sa.func.count(submissions.c.upload).label("uploaded"),
        sa.func.count(submissions.c.scored).label("scored"),
    ]  # fmt: skip
    row = tx.row(sa.select(*columns).where(submissions.c.round == round_))
    assert row is not None
    return row


def unended(tx: Transaction) -> list[sa.Row[Any]]:
    """Every submission that still has a next action."""
    return tx.rows(q.UNENDED)


def next_seq(tx: Transaction, round_: int) -> int:
    """The next submission's number in its round, from 1."""
    return int(tx.scalar(q.LAST_SEQ, b_round=round_)) + 1


def add_submission(tx: Transaction, **values: Any) -> None:
    """A new submission. The unique token id is what spends the token once."""
    tx.execute(q.ADD_SUBMISSION, values)


def move_submission(tx: Transaction, commitment: str, before: Escrow, after: Escrow, **values: Any) -> None:
    """Compare-and-set an escrow's state. Raises Contradiction when it was moved inside our transaction, or is frozen."""
    where = {"b_commitment": commitment, "b_state": before}
    if tx.execute(q.MOVE_SUBMISSION, {**where, "state": after, **values}) != 1:
        raise Contradiction("lost_update", f"escrow {commitment[:16]}… is no longer {before}, or is frozen")


def keep_offer(tx: Transaction, row: sa.Row[Any]) -> None:
    """An offer that another one follows stays as evidence."""
    if row.offer is not None:
        values = {"commitment": row.commitment, "attempt": row.attempt, "offer": row.offer, "locked": row.locked}
        tx.execute(sa.insert(past_offers), values)


def past_offers_of(tx: Transaction, commitment: str) -> list[sa.Row[Any]]:
    """The offers that another one followed, first one first."""
    return tx.rows(sa.select(past_offers).where(past_offers.c.commitment == commitment).order_by(past_offers.c.attempt))


def note(tx: Transaction, commitment: str, **values: Any) -> None:
    """Set columns that are not its state."""
    tx.execute(q.NOTE_SUBMISSION, {"b_commitment": commitment, **values})


# --- rungs ------------------------------------------------------------------------------------------------------------


def add_rungs(tx: Transaction, values: list[dict[str, Any]]) -> None:
    """Intent to lock each of these; a hash is unique in the whole books."""
    tx.execute(q.ADD_RUNGS, values)


def rungs_of(tx: Transaction, commitment: str) -> list[sa.Row[Any]]:
    """Every rung of a submission, of all its offers, lowest first."""
    return tx.rows(q.RUNGS, b_commitment=commitment)


def ladder_of(tx: Transaction, row: sa.Row[Any]) -> list[sa.Row[Any]]:
    """The rungs of a submission's present offer, lowest first."""
    return [line for line in rungs_of(tx, row.commitment) if line.attempt == row.attempt]


def rung(tx: Transaction, payment_hash: str) -> sa.Row[Any] | None:
    """One rung by its hash."""
    return tx.row(q.RUNG, b_hash=payment_hash)


def owners(tx: Transaction, payment_hashes: Sequence[str]) -> dict[str, str]:
    """Which submission each of these rungs belongs to; what is no rung of ours is left out."""
    which = q.named(payment_hashes)
    return {row.payment_hash: row.commitment for row in tx.rows(q.owners(len(which)), **which)} if which else {}


def routing_of(tx: Transaction, payment_hash: str) -> int:
    """What the books say that a rung's route kept, msat."""
    return sum(int(row.amount_msat) for row in tx.rows(q.transfers_of(1), b_0=f"{q.ROUTING_ID}{payment_hash}"))


def routing_between(tx: Transaction, after: str, last: str) -> dict[str, int]:
    """The same of all rungs whose hashes lie there, the last one included; those that cost nothing are left out."""
    rows = tx.rows(q.ROUTING_BETWEEN, b_first=f"{q.ROUTING_ID}{after}", b_last=f"{q.ROUTING_ID}{last}")
    return {row.id.removeprefix(q.ROUTING_ID): int(row.amount_msat) for row in rows}


def rungs_after(tx: Transaction, after: str, at_most: int) -> list[sa.Row[Any]]:
    """The next rungs in order of their hashes, without their invoices."""
    return tx.rows(q.RUNGS_AFTER, b_after=after, b_limit=at_most)


def open_rungs(tx: Transaction) -> list[sa.Row[Any]]:
    """Every rung whose end is not known."""
    return tx.rows(q.OPEN_RUNGS)


def nearest_expiry(tx: Transaction) -> tuple[int, float]:
    """How many rungs' ends are not known, and the height at which the first HTLC of them and of the tranches expires;
    infinity without any."""
    row = tx.row(q.NEAREST_EXPIRY)
    assert row is not None
    return row.still, min(row.of_rungs or math.inf, row.of_tranches or math.inf)


def move_rungs(
    tx: Transaction, payment_hashes: Sequence[str], before: Rung, after: Rung, *, expiry_height: int, failure: str = ""
) -> None:
    """Compare-and-set the state of these; `failure` is LND's word of why they came back. Raises Contradiction."""
    values: dict[str, Any] = {"state": after}
    if expiry_height:
        values["expiry_height"] = expiry_height
    if failure:
        values["failure"] = failure[:80]
    which = q.named(payment_hashes)
    if tx.execute(q.move_rungs(len(payment_hashes)), {**which, "b_state": before, **values}) != len(payment_hashes):
        which_ones = ", ".join(f"{one[:16]}…" for one in payment_hashes)
        raise Contradiction("lost_update", f"of the rungs {which_ones} one at least is no longer {before}")


def note_height(tx: Transaction, payment_hash: str, expiry_height: int) -> None:
    """The HTLC that is out now expires at another height."""
    where = (rungs.c.payment_hash == payment_hash) & (rungs.c.state == Rung.IN_FLIGHT)
    tx.execute(sa.update(rungs).where(where).values(expiry_height=expiry_height))


# --- flow -------------------------------------------------------------------------------------------------------------


def rounds_since(tx: Transaction, round_: int) -> list[sa.Row[Any]]:
    """Every round from this one on, in order."""
    return tx.rows(sa.select(rounds).where(rounds.c.round >= round_).order_by(rounds.c.round))


def collected_of(tx: Transaction, round_: int) -> dict[str, int]:
    """What each submission of a round has been paid in rewards, msat, by commitment."""
    columns: list[sa.ColumnElement[Any]] = [rungs.c.commitment, sa.func.sum(rungs.c.amount_msat).label("paid_msat")]
    query = (
        sa.select(*columns)
        .join(submissions, submissions.c.commitment == rungs.c.commitment)
        .where(submissions.c.round == round_, rungs.c.state == Rung.SETTLED)
        .group_by(rungs.c.commitment)
    )
    return {row.commitment: int(row.paid_msat) for row in tx.rows(query)}
