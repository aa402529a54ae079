"""The books as functions over one open transaction. It knows SQL, and refuses to decide anything.

Rows come back as they are; documents are JSON text. Every change of an escrow's or a rung's state is a compare-and-set.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from l402core import telemetry
from l402core.errors import Contradiction
from l402core.escrow import Escrow, Rung
from l402core.events import Event
from l402core.outbox import Transaction

from l402_settler.adapters import statements as q
from l402_settler.adapters.guards import SLOT_MS
from l402_settler.adapters.tables import (
    accounts,
    credits_,
    locked,
    past_offers,
    rounds,
    rungs,
    submissions,
    transfers,
)
from l402_settler.exposure import Exposure
from l402_settler.ledger import Balance, Phase, Transfer

T = TypeVar("T")
DAY_MS = 86_400_000
INBOX_MS = 8 * DAY_MS
"""Longer than any stream keeps a message."""


def to_json(document: msgspec.Struct) -> str:
    """A document as a column keeps it."""
    return msgspec.json.encode(document).decode()


def from_json(text: str | None, kind: type[T]) -> T | None:
    """A document from its column."""
    return None if text is None else msgspec.json.decode(text, type=kind)


# --- the ledger -------------------------------------------------------------------------------------------------------


def post(tx: Transaction, *lines: Transfer, now_ms: int) -> bool:
    """Write lines, each once. False when they all stand there already. Raises Contradiction when another does."""
    known = {
        row.id: row for row in tx.rows(q.transfers_of(len(lines)), **{f"b_{n}": one.id for n, one in enumerate(lines)})
    }
    for line in lines:
        row = known.get(line.id)
        if row is not None and (row.debit, row.credit, row.amount_msat, row.phase) != (
            line.debit, line.credit, line.amount_msat, line.phase,
        ):  # fmt: skip
            raise Contradiction("ledger", f"transfer {line.id} is already in the books with other contents")
    common = {"trace_id": telemetry.trace_id(), "at_ms": now_ms}
    fresh = [line for line in lines if line.id not in known]
    values = {
        f"b_{number}_{name}": value
        for number, line in enumerate(fresh)
        for name, value in {**msgspec.structs.asdict(line), "phase": str(line.phase), **common}.items()
    }
    if fresh:
        tx.execute(q.add_transfers(len(fresh)), values)
    return bool(fresh)


def all_transfers(tx: Transaction) -> list[Transfer]:
    """The whole journal, in order of time."""
    columns = [transfers.c[name] for name in Transfer.__struct_fields__]
    return [
        Transfer(**{**row._asdict(), "phase": Phase(row.phase)})
        for row in tx.rows(sa.select(*columns).order_by(transfers.c.at_ms, transfers.c.id))
    ]


def balances(tx: Transaction) -> dict[str, Balance]:
    """The trial balance, from the sums that the database keeps."""
    return {
        row.name: Balance(**{name: getattr(row, name) for name in Balance.__struct_fields__})
        for row in tx.rows(sa.select(accounts).order_by(accounts.c.name))
    }


def locked_since(tx: Transaction, since_ms: int) -> int:
    """What was locked in rewards since then or a little longer (the slots are ten minutes), whether or not it came back."""
    query = sa.select(sa.func.coalesce(sa.func.sum(locked.c.amount_msat), 0)).where(
        locked.c.slot >= since_ms // SLOT_MS
    )
    return int(tx.scalar(query))


def has_opening(tx: Transaction) -> bool:
    """Whether the first line stands."""
    return tx.row(sa.select(transfers.c.id).where(transfers.c.id == "opening")) is not None


# --- the inbox --------------------------------------------------------------------------------------------------------


def is_first(tx: Transaction, consumer: str, event: Event, *, now_ms: int) -> bool:
    """Whether this consumer has not taken this message yet; from the commit on it has.

    A message is what it says: one that says another thing under the same id is another message, and the state decides.
    """
    return tx.execute(q.TAKE, {"b_consumer": consumer, "b_message": message_key(event), "b_at_ms": now_ms}) == 1


def forget_taken(tx: Transaction, *, now_ms: int) -> None:
    """Messages that no stream can tell again."""
    tx.execute(q.FORGET, {"b_before_ms": now_ms - INBOX_MS})


def message_key(event: Event) -> str:
    """Which message this is: its id, and what it says."""
    said = msgspec.json.encode(msgspec.structs.replace(event, id="", occurred_at_ms=0))
    return f"{event.message_id}:{hashlib.sha256(said).hexdigest()[:16]}"


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


def submissions_of(tx: Transaction, round_: int) -> list[sa.Row[Any]]:
    """A round's submissions in order of their numbers."""
    return tx.rows(sa.select(submissions).where(submissions.c.round == round_).order_by(submissions.c.seq))


def exposure(tx: Transaction, *, peer: str = "", payee: str = "") -> Exposure:
    """What is out to a peer or to a payee's node, or promised: open rungs, and ladders that nobody has made yet."""
    queries, whose = q.EXPOSED["peer" if peer else "payee"], peer or payee
    out, promised = (tx.row(query, b_whose=whose) for query in queries)
    assert out is not None
    assert promised is not None
    rungs_promised = int(promised.rungs)
    return Exposure(
        msat=int(out.msat) + int(promised.msat), rungs=int(out.rungs) + rungs_promised,
        promised_rungs=int(out.unsent) + rungs_promised,
    )  # fmt: skip


def payees_of(tx: Transaction, peer: str) -> frozenset[str]:
    """The nodes that a peer's open submissions are paid to."""
    return frozenset(row.payee for row in tx.rows(q.PAYEES_OF, b_whose=peer))


def owed_waiting(tx: Transaction) -> tuple[int, int]:
    """What is owed and on no ladder yet, in all rounds: msat and rungs."""
    row = tx.row(q.OWED_WAITING)
    assert row is not None
    return int(row.msat), int(row.rungs)


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
    return {row.payment_hash: row.commitment for row in tx.rows(q.OWNERS, b_hashes=list(payment_hashes))}


def rungs_after(tx: Transaction, after: str, at_most: int) -> list[sa.Row[Any]]:
    """The next rungs in order of their hashes, without their invoices."""
    return tx.rows(q.RUNGS_AFTER, b_after=after, b_limit=at_most)


def fees_after(tx: Transaction, after: str, at_most: int) -> dict[str, int]:
    """The next fees that arrived, in order of their hashes: payment hash to msat."""
    return {row.payment_hash: row.amount_msat for row in tx.rows(q.FEES_AFTER, b_after=after, b_limit=at_most)}


def open_rungs(tx: Transaction) -> list[sa.Row[Any]]:
    """Every rung whose end is not known."""
    return tx.rows(q.OPEN_RUNGS)


def move_rungs(
    tx: Transaction, payment_hashes: Sequence[str], before: Rung, after: Rung, *, expiry_height: int, failure: str = ""
) -> None:
    """Compare-and-set the state of these; `failure` is LND's word of why they came back. Raises Contradiction."""
    values: dict[str, Any] = {"state": after}
    if expiry_height:
        values["expiry_height"] = expiry_height
    if failure:
        values["failure"] = failure[:80]
    which = {f"b_{number}": payment_hash for number, payment_hash in enumerate(payment_hashes)}
    if tx.execute(q.move_rungs(len(payment_hashes)), {**which, "b_state": before, **values}) != len(payment_hashes):
        raise Contradiction("lost_update", f"a rung of {payment_hashes[0][:16]}… and so on is no longer {before}")


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


# --- tokens, fees, credits --------------------------------------------------------------------------------------------


def token(tx: Transaction, token_id: str) -> sa.Row[Any] | None:
    """What a token was spent on."""
    return tx.row(q.TOKEN, b_token=token_id)


def spend_token(tx: Transaction, **values: Any) -> None:
    """Consume a token id, once."""
    tx.execute(q.SPEND_TOKEN, values)


def add_fee(tx: Transaction, payment_hash: str, amount_msat: int, settle_index: int) -> bool:
    """A paid fee; False when it is known."""
    if fee(tx, payment_hash) is not None:
        return False
    tx.execute(q.ADD_FEE, {"payment_hash": payment_hash, "amount_msat": amount_msat, "settle_index": settle_index})
    return True


def fee(tx: Transaction, payment_hash: str) -> sa.Row[Any] | None:
    """A fee that arrived."""
    return tx.row(q.FEE, b_hash=payment_hash)


def add_credit(tx: Transaction, **values: Any) -> None:
    """A credit over a paid payment hash; one per hash for all time."""
    tx.execute(sa.insert(credits_), values)


def credit(tx: Transaction, payment_hash: str) -> sa.Row[Any] | None:
    """The credit that stands for a fee."""
    return tx.row(q.CREDIT, b_hash=payment_hash)


def times_returned(tx: Transaction, payment_hash: str) -> int:
    """How many submissions of this one fee have failed through our fault."""
    where = (submissions.c.payment_hash == payment_hash) & submissions.c.credit_due
    return int(tx.scalar(sa.select(sa.func.count()).select_from(submissions).where(where)))


def spend_credit(tx: Transaction, payment_hash: str, token_id: str, commitment: str) -> bool:
    """Use an open credit; False when there is none, or it is spent."""
    statement = sa.update(credits_).where(
        credits_.c.payment_hash == payment_hash, credits_.c.token_id == token_id, credits_.c.spent_on.is_(None)
    )
    return tx.execute(statement.values(spent_on=commitment)) == 1


def name_credit(tx: Transaction, payment_hash: str, token_id: str) -> None:
    """Bind a credit to its token id; the first one stays."""
    statement = sa.update(credits_).where(credits_.c.payment_hash == payment_hash, credits_.c.token_id.is_(None))
    tx.execute(statement.values(token_id=token_id))


def rename_credit(tx: Transaction, payment_hash: str, before: str, after: str) -> None:
    """Compare-and-set an open credit's token id: the one before opens nothing from here on."""
    statement = sa.update(credits_).where(
        credits_.c.payment_hash == payment_hash, credits_.c.token_id == before, credits_.c.spent_on.is_(None)
    )
    tx.execute(statement.values(token_id=after))


def reopen_credit(tx: Transaction, payment_hash: str, reason: str) -> None:
    """A spent credit could not be served: it is open again, and will be bound to a fresh token id."""
    statement = sa.update(credits_).where(credits_.c.payment_hash == payment_hash)
    tx.execute(statement.values(spent_on=None, token_id=None, reason=reason))
