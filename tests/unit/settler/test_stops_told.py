"""What the settler answers an invoicer that may have missed a freeze or a thaw, on both databases."""

import pytest
from l402_settler import freezing
from l402core.errors import Unavailable
from l402core.events import ReadStops

from tests.support.settler import Stage, sha

A = sha("a")


async def stands(stage: Stage, *about: str) -> list[tuple[str, int, bool]]:
    """Commitment, revision, and whether it is frozen."""
    told = await stage.settler.read_stops(ReadStops(about=about))
    return [(one.commitment, one.revision, one.frozen) for one in told.stands]


async def test_it_tells_what_is_frozen_and_what_was_asked_about(stage: Stage) -> None:
    """Open ones that are frozen, and of those asked about also what was thawed; nothing of what was never frozen."""
    await stage.locked()
    assert await stands(stage) == await stands(stage, A, sha("nobody")) == []
    await stage.freeze(A)
    assert await stands(stage) == [(A, 1, True)]
    await stage.thaw(A)
    assert await stands(stage) == []
    assert await stands(stage, A) == [(A, 2, False)]
    await stage.freeze(A)
    assert await stands(stage, A) == [(A, 3, True)]


async def test_more_than_one_answer_can_hold_is_no_answer(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a list would say of the others that they may be sent."""
    await stage.locked()
    await stage.freeze(A)
    monkeypatch.setattr(freezing, "STANDS_MAX", 0)
    with pytest.raises(Unavailable) as many:
        await stands(stage)
    assert many.value.code == "stops_many"
