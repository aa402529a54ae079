"""Rounds turn, whatever one escrow is in."""

import pytest
from l402_settler import turning
from l402_settler.adapters import books
from l402core.errors import Contradiction
from l402core.escrow import Escrow, Rung
from l402core.events import SubmissionExpired
from l402core.lnd.port import PaymentStatus

from tests.support.settler import Stage, sha

LATE_MS = 30_000


async def state_of(stage: Stage, name: str) -> tuple[str, bool]:
    """A submission's state, and whether it is frozen."""
    row = await stage.database.read(lambda tx: books.submission(tx, sha(name)))
    assert row is not None
    return row.state, row.frozen


async def test_a_decision_that_the_peer_heard_first_is_waited_for(stage: Stage) -> None:
    """It took its preimages at the attestor's own door: the paid rung is no contradiction, and the round turns."""
    await stage.open_round()
    await stage.uploaded("a")
    await stage.seen("a", 0, PaymentStatus.SETTLED)
    for index in range(1, 6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    await stage.turn(now_ms=stage.terms().judge_by_ms + LATE_MS)
    assert await state_of(stage, "a") == (Escrow.UPLOADED, False)
    await stage.settler.on_scored(stage.decision("a", 1))
    assert await state_of(stage, "a") == (Escrow.ENDED, False)
    assert await stage.pending_msat() == 0


async def test_an_escrow_that_cannot_be_true_freezes_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its turn did is undone, events included, and it is left to a person; the others' deadlines pass."""
    await stage.open_round()
    await stage.uploaded("a")

    def impossible(office: object, tx: object, commitment: str) -> None:
        if commitment == sha("a"):
            raise Contradiction("impossible", "as a test says")

    monkeypatch.setattr(turning, "end_escrow_if_over", impossible)
    await stage.turn(now_ms=stage.terms().judge_by_ms + LATE_MS)
    monkeypatch.undo()
    assert await state_of(stage, "a") == (Escrow.UPLOADED, True)
    assert stage.said(SubmissionExpired) == []
    await stage.turn(now_ms=stage.terms().judge_by_ms + 2 * LATE_MS)
    assert await state_of(stage, "a") == (Escrow.UPLOADED, True)
    assert Rung.IN_FLIGHT in {row.state for row in await stage.database.read(books.open_rungs)}
