"""How often a round is looked at whole: when nothing is missing, and not at each of its many words."""

from pathlib import Path

import pytest
from l402_oracle.adapters import decisions as books
from l402_oracle.attestor.judgement import Submission
from l402core.events import GradientScored
from l402core.outbox import Transaction

from tests.support.oracle import UPLOAD_UNTIL_MS, Stage, commits_closed, locked, measured, round_closed


async def looks_of(folder: Path, peers: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often every submission of a round is read, from its opening to its decision."""
    looks = 0
    read = books.read_submissions

    def counted(tx: Transaction, commitments: tuple[str, ...]) -> list[Submission]:
        nonlocal looks
        looks += 1
        return read(tx, commitments)

    stage = Stage(folder)
    names = [f"peer {number}" for number in range(peers)]
    await stage.announce()
    await stage.hear(stage.round_opened())
    for seq, name in enumerate(names):
        await stage.hear(locked(await stage.offer(name, seq)), stage.uploaded(name))
    stage.now_ms = UPLOAD_UNTIL_MS
    monkeypatch.setattr(books, "read_submissions", counted)
    await stage.hear(commits_closed(*names), round_closed(*names))
    await stage.hear(*(stage.screened(name) for name in names))
    await stage.hear(*(measured(name, 0.5) for name in names))
    assert len(stage.ears.all(GradientScored)) == peers
    monkeypatch.undo()
    stage.database.close()
    return looks


async def test_more_peers_are_no_more_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look reads every submission: as many looks as peers would be the square of them."""
    for folder in ("few", "many"):
        (tmp_path / folder).mkdir()
    few = await looks_of(tmp_path / "few", 2, monkeypatch)
    assert few == await looks_of(tmp_path / "many", 9, monkeypatch)
