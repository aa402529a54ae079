"""The network at a glance, for whoever looks: rounds and their peers, what is open, one submission's life. It only looks."""

from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa
from l402core.documents import Locked, UploadReceipt
from l402core.errors import NotFound
from l402core.escrow import Escrow
from l402core.events import (
    EscrowLine,
    GradientScored,
    LineupView,
    PeerLine,
    ReadLineup,
    ReadStatus,
    ReadStory,
    RoundLine,
    StatusView,
    StoryLine,
    StoryView,
    SubmissionLine,
)
from l402core.outbox import Transaction
from l402core.parts import Answers
from l402core.signing import Signed

from l402_settler import ledger
from l402_settler.adapters import books, status_books
from l402_settler.office import Office
from l402_settler.rounds import DONE

ROUNDS_TOLD = 48
PEERS_TOLD = 100
LINEUP_TOLD = 500
"""An answer has to fit into one message."""


class _Decided(msgspec.Struct):
    """All that is read of a decision here."""

    verdict: str
    reward_msat: int


class Status:
    """Answers from the books. Rounds that are over do not change, and are read once."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._over: dict[int, tuple[SubmissionLine, ...]] = {}

    def register(self, bus: Answers) -> None:
        """Answer on this bus. Call before it starts."""
        bus.answer(ReadStatus, self.read)
        bus.answer(ReadLineup, self.lineup)
        bus.answer(ReadStory, self.story)

    async def read(self, _question: ReadStatus) -> StatusView:
        """The whole at a glance."""
        over, now_ms = self._over, self._office.now_ms()
        view, self._over = await self._office.database.read(lambda tx: _status(tx, over, now_ms=now_ms))
        return view

    async def lineup(self, question: ReadLineup) -> LineupView:
        """A round's submissions. Raises NotFound."""

        def work(tx: Transaction) -> LineupView:
            row = books.round_row(tx, question.round) if question.round else books.current_round(tx)
            if row is None:
                raise NotFound("round_unknown", "no such round was opened")
            lines, opened = _lineup(tx, row.round), books.counts(tx, row.round).opened
            return LineupView(round=row.round, submissions=lines, untold=int(opened) - len(lines))

        return await self._office.database.read(work)

    async def story(self, question: ReadStory) -> StoryView:
        """One submission's life. Raises NotFound."""

        def work(tx: Transaction) -> StoryView:
            row = books.submission(tx, question.commitment)
            if row is None or row.round != question.round:
                raise NotFound("submission_unknown", "no submission of this commitment was opened in this round")
            lines = [_line(line) for line in status_books.lines_of(tx, row.commitment, row.payment_hash)]
            return StoryView(
                round=row.round, commitment=row.commitment, peer=row.peer, state=row.state,
                trace_id=row.traceparent.split("-")[1] if row.traceparent else "",
                lines=tuple(sorted([*lines, *_dates(row)], key=lambda one: (one.first_ms, one.last_ms))),
            )  # fmt: skip

        return await self._office.database.read(work)


def _status(
    tx: Transaction, over: dict[int, tuple[SubmissionLine, ...]], *, now_ms: int
) -> tuple[StatusView, dict[int, tuple[SubmissionLine, ...]]]:
    """The answer, and the lines of rounds that are over, for the next time."""
    newest = books.current_round(tx)
    after = max(0, newest.round - ROUNDS_TOLD) if newest is not None else 0
    rows = status_books.rounds_after(tx, after, ROUNDS_TOLD)
    live = {row.round for row in books.live_rounds(tx)}
    lines = {row.round: over[row.round] if _kept(row, over, live) else _lineup(tx, row.round) for row in rows}
    paid = status_books.sponsored(tx, after)
    peers = peer_lines(lines)
    view = StatusView(
        at_ms=now_ms, rounds=tuple(_round_line(row, lines[row.round], paid.get(row.round, 0)) for row in rows),
        peers=peers[:PEERS_TOLD], peers_untold=max(0, len(peers) - PEERS_TOLD), escrows=escrow_lines(tx),
        fees_msat=status_books.account(tx, ledger.EARNED).owed_msat,
        rewards_msat=-status_books.account(tx, ledger.REWARDS).owed_msat,
        sponsored_msat=status_books.accounts_under(tx, ledger.SPONSORS).owed_msat,
        owed_msat=status_books.accounts_under(tx, ledger.OWED).owed_msat,
        credits_msat=status_books.accounts_under(tx, ledger.CREDITS).owed_msat,
    )  # fmt: skip
    return view, {row.round: lines[row.round] for row in rows if row.phase == DONE and row.round not in live}


def _kept(row: sa.Row[Any], over: dict[int, tuple[SubmissionLine, ...]], live: set[int]) -> bool:
    return row.round in over and row.round not in live


def _lineup(tx: Transaction, round_: int) -> tuple[SubmissionLine, ...]:
    return tuple(_submission_line(row) for row in status_books.lineup(tx, round_, LINEUP_TOLD))


def _submission_line(row: sa.Row[Any]) -> SubmissionLine:
    decided = books.from_json(row.scored, _Decided)
    return SubmissionLine(
        commitment=row.commitment, seq=row.seq, peer=row.peer, state=row.state, fee_msat=row.fee_msat,
        fee_kept=not row.credit_due, verdict=decided.verdict if decided else "",
        reward_msat=decided.reward_msat if decided else 0,
    )  # fmt: skip


def _round_line(row: sa.Row[Any], lines: tuple[SubmissionLine, ...], sponsored_msat: int) -> RoundLine:
    return RoundLine(
        round=row.round, phase=row.phase, submissions=len(lines), sponsored_msat=sponsored_msat,
        accepted=sum(one.verdict == "accepted" for one in lines),
        rejected=sum(one.verdict == "rejected" for one in lines),
        fees_msat=sum(one.fee_msat for one in lines if one.fee_kept),
        rewards_msat=sum(one.reward_msat for one in lines),
    )  # fmt: skip


def peer_lines(rounds: dict[int, tuple[SubmissionLine, ...]]) -> tuple[PeerLine, ...]:
    """Every peer of these rounds, who earned most after fees first."""
    by_peer: dict[str, list[tuple[int, SubmissionLine]]] = {}
    for round_, lines in rounds.items():
        for one in lines:
            by_peer.setdefault(one.peer, []).append((round_, one))
    found = [_peer_line(peer, mine) for peer, mine in by_peer.items()]
    return tuple(sorted(found, key=lambda one: (one.fees_msat - one.rewards_msat, one.peer)))


def _peer_line(peer: str, mine: Iterable[tuple[int, SubmissionLine]]) -> PeerLine:
    pairs = list(mine)
    lines = [one for _, one in pairs]
    return PeerLine(
        peer=peer, submissions=len(lines), accepted=sum(one.verdict == "accepted" for one in lines),
        fees_msat=sum(one.fee_msat for one in lines if one.fee_kept),
        rewards_msat=sum(one.reward_msat for one in lines), last_round=max(round_ for round_, _ in pairs),
    )  # fmt: skip


def escrow_lines(tx: Transaction) -> tuple[EscrowLine, ...]:
    """What is open, in the order in which an escrow comes by its states."""
    locked = status_books.locked(tx)
    order = list(Escrow)
    return tuple(
        EscrowLine(
            state=row.state,
            escrows=int(row.escrows),
            locked_msat=locked.get(row.state, 0),
            oldest_ms=int(row.oldest_ms),
        )
        for row in sorted(status_books.escrows(tx), key=lambda row: order.index(Escrow(row.state)))
    )


def _line(row: sa.Row[Any]) -> StoryLine:
    return StoryLine(
        what=f"{row.kind} {row.phase}" if row.phase != ledger.Phase.SINGLE else row.kind, first_ms=row.first_ms,
        last_ms=row.last_ms, times=int(row.times), amount_msat=int(row.amount_msat),
    )  # fmt: skip


def _dates(row: sa.Row[Any]) -> list[StoryLine]:
    """What its documents date. Of a lock that was made anew only the newest is there."""
    locked = books.from_json(row.locked, Signed)
    upload = books.from_json(row.upload, Signed)
    scored = books.from_json(row.scored, GradientScored)
    dates = {
        "opened": (int(row.opened_at_ms), row.fee_msat),
        "locked": (msgspec.json.decode(locked.body, type=Locked).locked_at_ms, row.reserved_msat) if locked else None,
        "uploaded": (msgspec.json.decode(upload.body, type=UploadReceipt).uploaded_at_ms, 0) if upload else None,
        "decided": (scored.occurred_at_ms, scored.reward_msat) if scored else None,
    }
    return [
        StoryLine(what=what, first_ms=date[0], last_ms=date[0], times=1, amount_msat=date[1])
        for what, date in dates.items()
        if date is not None
    ]
