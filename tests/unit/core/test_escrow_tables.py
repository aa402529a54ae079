"""The escrow's two tables: laws that hold for all of it, stories, contradictions, and a golden matrix."""

import itertools

import pytest
from l402core.errors import Contradiction
from l402core.escrow import (
    IGNORED,
    MOVES,
    RECOVER,
    RUNG_IGNORED,
    RUNG_MOVES,
    Escrow,
    Rung,
    Sight,
    Trigger,
    move,
    see,
)

E, T = Escrow, Trigger


def test_no_trigger_is_both_followed_and_ignored() -> None:
    """A pair stands in one table at most."""
    assert not set(MOVES) & IGNORED
    assert not set(RUNG_MOVES) & RUNG_IGNORED


def test_every_state_knows_what_to_do_after_a_restart() -> None:
    """A restart is ordinary in every state."""
    assert set(RECOVER) == set(Escrow)


def test_ended_is_final_and_terminal_rungs_stay() -> None:
    """Nothing moves an ended escrow, or a rung that is settled or returned."""
    assert not [pair for pair in MOVES if pair[0] is E.ENDED]
    assert not [pair for pair in RUNG_MOVES if pair[0] in (Rung.SETTLED, Rung.RETURNED)]


def test_every_state_can_reach_the_end() -> None:
    """From anywhere a path leads to ENDED: no escrow can be stuck by design."""
    reach = {E.ENDED}
    for _ in Escrow:
        reach |= {state for (state, _), target in MOVES.items() if target in reach}
    assert reach == set(Escrow)


def test_a_deadline_moves_every_escrow_that_waits_for_somebody() -> None:
    """Whatever waits has a deadline, and whatever is decided ignores it."""
    waiting = {state for (state, trigger) in MOVES if trigger is T.DEADLINE}
    assert waiting == {E.OPENED, E.OFFERED, E.LOCKING, E.LOCKED, E.UPLOADED}


@pytest.mark.parametrize(
    ("story", "end"),
    [
        ([T.OFFER_MADE, T.LOCKS_REGISTERED, T.BOTH_ENDS_SEEN, T.UPLOADED, T.SCORED, T.RUNGS_TERMINAL], E.ENDED),
        ([T.OFFER_MADE, T.LOCKS_REGISTERED, T.LOCK_FAILED, T.RUNGS_TERMINAL], E.ENDED),
        ([T.OFFER_MADE, T.LOCKS_REGISTERED, T.BOTH_ENDS_SEEN, T.DEADLINE], E.FAILED),
        ([T.OFFER_MADE, T.LOCKS_REGISTERED, T.BOTH_ENDS_SEEN, T.UPLOADED, T.DEADLINE, T.SCORED], E.SCORED),
        ([T.DEADLINE, T.OFFER_MADE, T.RUNGS_TERMINAL], E.ENDED),
    ],
)
def test_stories_end_where_they_should(story: list[Trigger], end: Escrow) -> None:
    """Paid, not lockable, never uploaded, decided after our deadline, never offered."""
    state = E.OPENED
    for trigger in story:
        state = move(state, trigger) or state
    assert state is end


@pytest.mark.parametrize("trigger", [T.SCORED, T.UPLOADED, T.BOTH_ENDS_SEEN])
def test_what_cannot_be_raises(trigger: Trigger) -> None:
    """A decision, an upload or a lock for an escrow that was never offered is a contradiction."""
    with pytest.raises(Contradiction):
        move(E.OPENED, trigger)


def test_paid_and_returned_contradict_each_other() -> None:
    """LND cannot say SUCCEEDED of what it said FAILED, or the reverse."""
    for state, sight in (
        (Rung.RETURNED, Sight.SUCCEEDED),
        (Rung.SETTLED, Sight.FAILED),
        (Rung.SETTLED, Sight.NEVER_SENT),
    ):
        with pytest.raises(Contradiction):
            see(state, sight)


GOLDEN = """
          offer locks both  fail  up    score dead  term
opened    >off  !     !     !     !     !     >fai  !
offered   .     >loc  !     !     !     !     >fai  !
locking   .     .     >loc  >fai  !     !     >fai  !
locked    .     .     .     .     >upl  !     >fai  !
uploaded  .     .     .     .     .     >sco  >fai  !
scored    .     .     .     .     .     .     .     >end
failed    .     .     .     .     .     >sco  .     >end
ended     .     .     .     .     .     .     .     .
"""


def test_the_whole_matrix_is_as_it_was_agreed() -> None:
    """Every pair: '>' moves, '.' is ignored, '!' is a contradiction. Change it on purpose or not at all."""
    drawn = {line.split()[0]: line.split()[1:] for line in GOLDEN.strip().splitlines()[1:]}
    for state, (index, trigger) in itertools.product(Escrow, enumerate(T)):
        pair = (state, trigger)
        seen = f">{MOVES[pair][:3]}" if pair in MOVES else "." if pair in IGNORED else "!"
        assert drawn[state][index] == seen, pair
