"""A peer gives its ladder back only on the oracle's word that nothing was decided, never on the coordinator's alone."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from l402_peer_agent.decision import UNREAD, UNSCORED, Decision, wait_for_decision
from l402core.errors import L402Error, NotFound, TooEarly, TooLate, Unavailable
from l402core.events import GradientScored, SubmissionView

JUDGE_BY_MS, GRACE_MS = 50_000, 20_000
TERMS = cast(Any, SimpleNamespace(judge_by_ms=JUDGE_BY_MS, round=1, attestor_url="http://attestor"))


class Doors:
    """A coordinator that knows of no decision, and an attestor that answers as the test says."""

    def __init__(self, attestor: L402Error | None, *, state: str = "uploaded", phase: str = "judge") -> None:
        self.attestor = attestor
        self.now_ms = 0
        self._view = SimpleNamespace(receipt=None, sealed_preimages=(), mask=0, phase=phase, state=state)

    async def submission(self, round_: int, commitment: str) -> SubmissionView:
        """No decision."""
        return cast(SubmissionView, self._view)

    async def decision(self, attestor_url: str, commitment: str) -> GradientScored:
        """As the test says."""
        assert self.attestor is not None
        raise self.attestor

    async def pause(self) -> None:
        """A second goes by."""
        self.now_ms += 1_000

    async def wait(self) -> Decision:
        """The peer's wait."""
        return await wait_for_decision(
            self, TERMS, "cc" * 32, grace_ms=GRACE_MS, now_ms=lambda: self.now_ms, pause=self.pause
        )


@pytest.mark.parametrize(("state", "phase"), [("uploaded", "judge"), ("ended", "done"), ("failed", "done")])
async def test_while_the_attestor_is_out_of_reach_the_rungs_stay(state: str, phase: str) -> None:
    """It may have decided: what is cancelled now would be forfeited."""
    doors = Doors(Unavailable("attestor", "cut off"), state=state, phase=phase)
    with pytest.raises(Unavailable) as caught:
        await doors.wait()
    assert caught.value.code == UNREAD


async def test_an_attestor_that_has_decided_nothing_ends_the_wait_at_its_deadline() -> None:
    """Then the rungs go back, and the fee is asked for as a credit."""
    doors = Doors(NotFound("decision", "nothing is decided"))
    with pytest.raises(TooLate) as caught:
        await doors.wait()
    assert caught.value.code == UNSCORED
    assert doors.now_ms >= JUDGE_BY_MS + GRACE_MS


async def test_an_attestor_asked_last_counts_over_one_that_answered_before() -> None:
    """It said that nothing was decided while it judged; since then it may have."""
    doors = Doors(NotFound("decision", "nothing is decided"))
    before = doors.pause

    async def pause() -> None:
        await before()
        if doors.now_ms > JUDGE_BY_MS - 10_000:
            doors.attestor = Unavailable("attestor", "cut off")

    doors.pause = pause  # type: ignore[method-assign]  # the world changes while the peer waits
    with pytest.raises(Unavailable) as caught:
        await doors.wait()
    assert caught.value.code == UNREAD


@pytest.mark.parametrize(("state", "phase"), [("uploaded", "judge"), ("ended", "done"), ("failed", "done")])
async def test_while_the_attestor_may_still_decide_no_rung_is_given_back(state: str, phase: str) -> None:
    """Not when the coordinator says that all is over, and not at the peer's own deadline: our node's auto-cancel ends it."""
    doors = Doors(TooEarly("undecided", "it still judges"), state=state, phase=phase)
    with pytest.raises(Unavailable) as caught:
        await doors.wait()
    assert caught.value.code == UNREAD
    assert doors.now_ms >= JUDGE_BY_MS + GRACE_MS


async def test_a_coordinator_that_gives_it_up_early_is_followed_once_the_attestor_says_so_too() -> None:
    """Not yet, not yet, never: then at once."""
    doors = Doors(TooEarly("undecided", "it still judges"), state="failed", phase="done")
    before = doors.pause

    async def pause() -> None:
        await before()
        if doors.now_ms == 10_000:
            doors.attestor = NotFound("decision", "nothing is decided, and nothing will be")

    doors.pause = pause  # type: ignore[method-assign]  # the world changes while the peer waits
    with pytest.raises(TooLate) as caught:
        await doors.wait()
    assert (caught.value.code, doors.now_ms) == (UNSCORED, 10_000)
