"""One submission's whole story from the books: what was offered, locked, decided, paid, and why this amount.

It reads, and refuses to judge: the numbers are those that the oracle signed and the journal holds.
"""

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from l402core import explanation
from l402core.documents import Accepted, Locked, Offer, Receipt, Terms
from l402core.events import GradientScored
from l402core.explanation import Explanation
from l402core.money import show_sat
from l402core.signing import Signed

from l402train.books import Line, journal, opened
from l402train.exits import Exit, Stop

T = TypeVar("T", bound=msgspec.Struct)
_FIND = """
    select distinct s.commitment from submissions s left join rungs r on r.commitment = s.commitment
    where s.commitment like :begins or s.payment_hash like :begins or s.traceparent like :trace
       or r.payment_hash like :begins
    order by s.commitment limit 6
"""
_LATEST = "select commitment from submissions order by scored is null, opened_at_ms desc, seq desc limit 1"
SHORTEST = 4
HEX = frozenset("0123456789abcdef")


class RungStory(msgspec.Struct, frozen=True, kw_only=True):
    """One hold invoice."""

    attempt: int
    index: int
    amount_msat: int
    state: str
    decided: bool
    payment_hash: str
    expiry_height: int


class FreezeStory(msgspec.Struct, frozen=True, kw_only=True):
    """One freeze or thaw, by whom and why."""

    at_ms: int
    action: str
    by: str
    code: str
    reason: str


class WriteOffStory(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has explained for good."""

    at_ms: int
    payment_hash: str
    books: str
    lnd: str
    amount_msat: int
    """What it cost; negative where our node has more."""
    by: str
    reason: str

    def sentence(self) -> str:
        """For a screen, without its time."""
        differs = f"the books {self.books}, our node {self.lnd}"
        cost = f", {show_sat(self.amount_msat)} lost" if self.amount_msat else ""
        return f"by {self.by}: {self.reason} ({self.payment_hash[:16]}…: {differs}{cost})"


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one submission."""

    commitment: str
    round: int
    seq: int
    peer: str
    state: str
    why: str
    """In one sentence, why this amount."""
    trace_id: str
    fee_msat: int
    fee_payment_hash: str
    fee_outcome: str
    offer: Offer | None
    """The present one; `attempt` counts from 1."""
    rungs: tuple[RungStory, ...]
    accepted: Accepted | None
    locked: Locked | None
    receipt: Receipt | None
    decided_msat: int
    collected_msat: int
    returned_msat: int
    forfeited_msat: int
    frozen: bool
    """It waits for a person: nothing that moves or promises money happens about it."""
    freezes: tuple[FreezeStory, ...]
    held: tuple[str, ...]
    """Messages that wait for the thaw."""
    written_off: tuple[WriteOffStory, ...]
    lines: tuple[Line, ...]
    explanation: Explanation | None = None
    """Its place in the round, and what would have earned more, once it is judged."""


def explain(where: Path | str, wanted: str) -> Story:
    """By a commitment, the fee's or a rung's payment hash, a trace id, the beginning of one, or `latest`. Raises Stop."""
    with opened(where) as books:
        commitment = _find(books, wanted.lower())
        row = books.execute(sa.text("select * from submissions where commitment = :c"), {"c": commitment}).one()
        rungs = books.execute(
            sa.text("select * from rungs where commitment = :c order by attempt, rung"), {"c": commitment}
        ).all()
        credit = books.execute(
            sa.text("select * from credits where payment_hash = :h"), {"h": row.payment_hash}
        ).first()
        terms = books.execute(sa.text("select terms from rounds where round = :r"), {"r": row.round}).scalar_one()
        lines = tuple(journal(books, commitment=commitment))
        freezes, held = freezes_of(books, commitment)
        written_off = written_off_of(books, commitment, row.payment_hash)
        scored = books.execute(sa.text("select scored from submissions where round = :r"), {"r": row.round}).scalars()
        others = [receipt for text in scored if (receipt := _receipt(text))]
    known = signed(terms, Terms)
    story = _story(row, rungs, credit, known, lines)
    told = explanation.explain(story.receipt, known, others) if story.receipt and known else None
    return msgspec.structs.replace(
        story, frozen=bool(row.frozen), freezes=freezes, held=held, written_off=written_off, explanation=told
    )


def freezes_of(books: sa.Connection, about: str) -> tuple[tuple[FreezeStory, ...], tuple[str, ...]]:
    """What was frozen and thawed of a submission or tranche, and the messages that wait."""
    columns = 'select at_ms, action, "by", code, reason from freezes where about = :a order by id'
    rows = books.execute(sa.text(columns), {"a": about})
    freezes = tuple(FreezeStory(**row._mapping) for row in rows)
    held = books.execute(sa.text("select event from held where about = :a order by id"), {"a": about}).scalars()
    return freezes, tuple(held)


def written_off_of(books: sa.Connection, about: str, fee_hash: str = "") -> tuple[WriteOffStory, ...]:
    """What was explained of a submission and its fee, or of a tranche."""
    columns = 'select at_ms, payment_hash, books, lnd, amount_msat, "by", reason from explained where about in (:a, :f)'
    rows = books.execute(sa.text(f"{columns} order by at_ms, payment_hash"), {"a": about, "f": fee_hash or about})
    return tuple(WriteOffStory(**row._mapping) for row in rows)


def _receipt(text: str | None) -> Receipt | None:
    scored = msgspec.json.decode(text, type=GradientScored) if text else None
    return msgspec.json.decode(scored.receipt.body, type=Receipt) if scored else None


def _find(books: sa.Connection, wanted: str) -> str:
    if wanted == "latest":
        found = [str(row.commitment) for row in books.execute(sa.text(_LATEST))]
        if not found:
            raise Stop(Exit.NOT_FOUND, "no submission was ever opened in these books")
        return found[0]
    if len(wanted) < SHORTEST or not set(wanted) <= HEX:
        raise Stop(
            Exit.USAGE,
            f"{wanted!r} is not `latest`, nor at least {SHORTEST} hex digits of a commitment, payment hash or trace id",
        )
    asked = {"begins": f"{wanted}%", "trace": f"00-{wanted}%"}
    found = [str(row.commitment) for row in books.execute(sa.text(_FIND), asked)]
    if len(found) > 1:
        raise Stop(Exit.NOT_FOUND, f"{wanted} fits several: {', '.join(one[:16] + '…' for one in found)}")
    if not found:
        raise Stop(
            Exit.NOT_FOUND, f"no submission has a commitment, payment hash or trace id that begins with {wanted}"
        )
    return found[0]


def _story(row: Any, rungs: Any, credit: Any, terms: Terms | None, lines: tuple[Line, ...]) -> Story:
    scored = msgspec.json.decode(row.scored, type=GradientScored) if row.scored else None
    receipt = msgspec.json.decode(scored.receipt.body, type=Receipt) if scored else None
    mask = scored.mask if scored else 0

    def moved(*starts: str) -> int:
        return sum(line.amount_msat for line in lines if line.id.startswith(starts) and line.phase != "void")

    story = Story(
        commitment=row.commitment, round=row.round, seq=row.seq, peer=row.peer, state=row.state, why="",
        trace_id=row.traceparent.split("-")[1] if row.traceparent else "", fee_msat=row.fee_msat,
        fee_payment_hash=row.payment_hash, fee_outcome=_fee_outcome(row, credit), offer=signed(row.offer, Offer),
        rungs=tuple(
            RungStory(
                attempt=one.attempt, index=one.rung, amount_msat=one.amount_msat, state=one.state,
                decided=bool(mask >> one.rung & 1), payment_hash=one.payment_hash, expiry_height=one.expiry_height,
            )
            for one in rungs
        ),
        accepted=signed(row.accepted, Accepted), locked=signed(row.locked, Locked), receipt=receipt,
        decided_msat=scored.reward_msat if scored else 0, collected_msat=moved("end:"),
        returned_msat=sum(line.amount_msat for line in lines if line.phase == "void"), forfeited_msat=moved("forfeit:"),
        frozen=False, freezes=(), held=(), written_off=(), lines=lines,
    )  # fmt: skip
    return msgspec.structs.replace(story, why=_why(story, row.failure, terms))


def _fee_outcome(row: Any, credit: Any) -> str:
    if not row.credit_due:
        return "kept: it opened this submission"
    if credit is None:
        return "to become a credit when every rung has ended"
    return f"a credit, used on {credit.spent_on[:16]}…" if credit.spent_on else "a credit that waits to be used"


def _why(story: Story, failure: str, terms: Terms | None) -> str:
    receipt, fee = story.receipt, f"the fee of {show_sat(story.fee_msat)} is {story.fee_outcome.split(':')[0]}"
    if receipt is None:
        if story.state in ("failed", "ended"):
            return f"Nothing was earned, because {failure or 'no decision was made'}; {fee}."
        return f"Nothing is decided yet: the submission is {story.state}."
    if receipt.verdict != "accepted" or not story.decided_msat:
        reasons = "; ".join(receipt.reasons) or "it earned no whole unit"
        return f"Nothing was earned, because the gradient was {receipt.verdict} ({reasons}); {fee}."
    unit = f" of {show_sat(terms.unit_msat)}" if terms else ""
    ends = [f"{show_sat(story.collected_msat)} collected"]
    ends += (
        [f"{show_sat(story.forfeited_msat)} forfeited, revealed and never collected"] if story.forfeited_msat else []
    )
    open_msat = story.decided_msat - story.collected_msat - story.forfeited_msat
    ends += [f"{show_sat(open_msat)} still to be collected"] if open_msat > 0 else []
    return (
        f"It lowered the hidden loss by {receipt.drop_mean * 1e-9:.4f} nats per token where the round's reference was "
        f"{receipt.reference * 1e-9:.4f} and its floor {receipt.floor * 1e-9:.4f}: quality {receipt.quality_ppm / 1e6:.2f} "
        f"of at most 2, hence {receipt.units} units{unit}, {show_sat(story.decided_msat)}; {', '.join(ends)}."
    )


def signed(text: str | None, kind: type[T]) -> T | None:
    """A signed document from its column."""
    return None if text is None else msgspec.json.decode(msgspec.json.decode(text, type=Signed).body, type=kind)
