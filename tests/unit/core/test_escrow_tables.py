"""The escrow's two tables: laws that hold for all of it, stories, contradictions, and a golden matrix.

The matrix is a file that a person reads, `golden/escrow.txt`; nothing here is derived from the tables themselves.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from l402core.errors import Contradiction
from l402core.escrow import (
    IGNORED,
    MOVES,
    OPEN_RUNG,
    RECOVER,
    RUNG_IGNORED,
    RUNG_MOVES,
    RUNG_RECOVER,
    Again,
    AskAgain,
    Escrow,
    Rung,
    Sight,
    Trigger,
    move,
    see,
)

E, T, R, S = Escrow, Trigger, Rung, Sight
GOLDEN = Path(__file__).with_name("golden") / "escrow.txt"


# Laws.


def test_no_trigger_is_both_followed_and_ignored() -> None:
    """A pair stands in one table at most."""
    assert not set(MOVES) & IGNORED
    assert not set(RUNG_MOVES) & RUNG_IGNORED


def test_every_state_knows_what_to_do_after_a_restart() -> None:
    """A restart is ordinary in every state, and every way to go on is used by one."""
    assert set(RECOVER) == set(Escrow)
    assert {again for steps in RECOVER.values() for again in steps} == set(Again)


def test_every_rung_knows_too_and_what_can_still_move_is_asked_about() -> None:
    """A rung is looked up exactly where a sight may still move it, and given up only where that is a move."""
    assert set(RUNG_RECOVER) == set(Rung)
    assert {due for steps in RUNG_RECOVER.values() for due in steps} == set(AskAgain)
    moving = {state for state, _ in RUNG_MOVES}
    assert {state for state, due in RUNG_RECOVER.items() if AskAgain.LOOK_UP in due} == moving == set(OPEN_RUNG)
    given_up = {state for state, sight in RUNG_MOVES if sight is S.NEVER_SENT}
    assert {state for state, due in RUNG_RECOVER.items() if AskAgain.GIVE_UP in due} == given_up


def test_ended_is_final_and_terminal_rungs_stay() -> None:
    """Nothing moves an ended escrow but a debt that we hear of late, nor a rung that is settled, returned or unsent."""
    assert {trigger for state, trigger in MOVES if state is E.ENDED} == {T.WITHHELD}
    assert {state for state, _ in RUNG_MOVES} == {R.REGISTERED, R.IN_FLIGHT}


def test_every_state_can_reach_the_end_and_be_reached() -> None:
    """From anywhere a path leads to ENDED, and to anywhere one leads from OPENED: nothing is stuck or idle by design."""
    ends, begins = {E.ENDED}, {E.OPENED}
    for _ in Escrow:
        ends |= {state for (state, _), target in MOVES.items() if target in ends}
        begins |= {target for (state, _), target in MOVES.items() if state in begins}
    assert ends == set(Escrow) == begins


def test_a_deadline_moves_every_escrow_that_waits_for_somebody() -> None:
    """Whatever waits has a deadline, and whatever is decided knows none."""
    waiting = {state for (state, trigger) in MOVES if trigger is T.DEADLINE}
    assert waiting == {E.OPENED, E.OFFERED, E.LOCKING, E.LOCKED, E.UPLOADED, E.REOFFERED, E.RELOCKING}


def test_what_is_owed_is_never_lost_on_the_way() -> None:
    """From OWED on every state leads only to its payment, or back to OWED: none to FAILED, and to ENDED only unclaimed."""
    lap = {E.OWED, E.DUE, E.REOFFERED, E.RELOCKING, E.RELOCKED}
    leaving = {
        (state, trigger, target) for (state, trigger), target in MOVES.items() if state in lap and target not in lap
    }
    assert {target for _, _, target in leaving} == {E.SCORED, E.ENDED}
    assert {(state, trigger) for state, trigger, target in leaving if target is E.ENDED} == {(E.OWED, T.UNCLAIMED)}


def test_a_payload_is_taken_only_for_what_is_locked() -> None:
    """One way leads to UPLOADED: offer, invoices, both ends, payload."""
    assert _ways(E.OPENED, E.UPLOADED) == [[T.OFFER_MADE, T.LOCKS_REGISTERED, T.BOTH_ENDS_SEEN, T.UPLOADED]]


def test_a_decision_is_never_taken_back() -> None:
    """From SCORED the one way leads to the end, once every rung is terminal."""
    assert {(trigger, target) for (state, trigger), target in MOVES.items() if state is E.SCORED} == {
        (T.RUNGS_TERMINAL, E.ENDED)
    }


def test_only_what_lnd_says_ends_a_rung_as_paid() -> None:
    """SETTLED comes of SUCCEEDED alone, and of it comes nothing else."""
    assert {sight for (_, sight), target in RUNG_MOVES.items() if target is R.SETTLED} == {S.SUCCEEDED}
    assert {target for (_, sight), target in RUNG_MOVES.items() if sight is S.SUCCEEDED} == {R.SETTLED}


# Stories.

TO_OWED = (T.OFFER_MADE, T.LOCKS_REGISTERED, T.BOTH_ENDS_SEEN, T.UPLOADED, T.WITHHELD)
ANOTHER_LAP = (T.RUNGS_TERMINAL, T.OFFER_MADE, T.LOCKS_REGISTERED, T.BOTH_ENDS_SEEN)


@pytest.mark.parametrize(
    ("story", "end"),
    [
        ([T.OFFER_MADE, T.LOCKS_REGISTERED, T.BOTH_ENDS_SEEN, T.UPLOADED, T.SCORED, T.RUNGS_TERMINAL], E.ENDED),
        ([T.OFFER_MADE, T.LOCKS_REGISTERED, T.LOCK_FAILED, T.RUNGS_TERMINAL], E.ENDED),
        ([T.OFFER_MADE, T.LOCKS_REGISTERED, T.BOTH_ENDS_SEEN, T.DEADLINE], E.FAILED),
        ([T.OFFER_MADE, T.LOCKS_REGISTERED, T.BOTH_ENDS_SEEN, T.UPLOADED, T.DEADLINE, T.SCORED], E.SCORED),
        ([T.DEADLINE, T.OFFER_MADE, T.RUNGS_TERMINAL], E.ENDED),
        ([*TO_OWED, *ANOTHER_LAP, T.SCORED, T.RUNGS_TERMINAL], E.ENDED),
        ([*TO_OWED, *ANOTHER_LAP, T.WITHHELD, *ANOTHER_LAP, T.SCORED], E.SCORED),
        ([*TO_OWED, T.RUNGS_TERMINAL, T.OFFER_MADE, T.DEADLINE, T.UNCLAIMED], E.ENDED),
        ([*TO_OWED, *ANOTHER_LAP, T.RUNGS_TERMINAL, T.SCORED], E.SCORED),
    ],
)
def test_stories_end_where_they_should(story: list[Trigger], end: Escrow) -> None:
    """Paid, not lockable, never uploaded, decided after our deadline, never offered; owed and paid, owed twice,

    owed and never fetched, revealed while we believed that it was not.
    """
    state = E.OPENED
    for trigger in story:
        state = move(state, trigger) or state
    assert state is end


@pytest.mark.parametrize(
    ("story", "end"),
    [
        ([S.IN_FLIGHT, S.IN_FLIGHT, S.SUCCEEDED, S.IN_FLIGHT], R.SETTLED),
        ([S.FAILED, S.IN_FLIGHT, S.FAILED], R.RETURNED),
        ([S.SUCCEEDED, S.SUCCEEDED], R.SETTLED),
        ([S.NEVER_SENT, S.NEVER_SENT], R.UNSENT),
    ],
)
def test_a_rung_ends_once_whatever_is_told_again(story: list[Sight], end: Rung) -> None:
    """Told twice, told late, never seen in flight, never sent."""
    state = R.REGISTERED
    for sight in story:
        state = see(state, sight) or state
    assert state is end


# Contradictions.


@pytest.mark.parametrize("trigger", [T.SCORED, T.UPLOADED, T.BOTH_ENDS_SEEN, T.LOCK_FAILED, T.RUNGS_TERMINAL])
def test_what_cannot_be_raises(trigger: Trigger) -> None:
    """A decision, an upload or a lock for an escrow that was never offered is a contradiction."""
    with pytest.raises(Contradiction):
        move(E.OPENED, trigger)


@pytest.mark.parametrize(
    ("state", "trigger"),
    [
        (E.SCORED, T.LOCK_FAILED),  # nothing is being locked any more
        (E.SCORED, T.SCORED),  # the desk answers a decision that is known before it comes here
        (E.SCORED, T.DEADLINE),  # a decision has no deadline, and is not given up
        (E.LOCKING, T.LOCKS_REGISTERED),  # a second ladder would be paid beside the first
        (E.LOCKED, T.SCORED),  # judged without a payload
        (E.FAILED, T.UPLOADED),
        (E.ENDED, T.RUNGS_TERMINAL),
        (E.SCORED, T.WITHHELD),  # revealed and withheld: the oracle decides that once
        (E.REOFFERED, T.SCORED),  # two offers of one reward, and the former one revealed
        (E.RELOCKED, T.DEADLINE),  # the money waits at both ends: given up only when it is back
    ],
)
def test_what_looks_like_a_redelivery_and_is_none_raises(state: Escrow, trigger: Trigger) -> None:
    """No message that is told again can cause these: whoever does has a bug, and money depends on it."""
    with pytest.raises(Contradiction):
        move(state, trigger)


@pytest.mark.parametrize(
    ("state", "sight"),
    [
        (R.RETURNED, S.SUCCEEDED),  # LND cannot say SUCCEEDED of what it said FAILED, or the reverse
        (R.SETTLED, S.FAILED),
        (R.SETTLED, S.NEVER_SENT),
        (R.IN_FLIGHT, S.NEVER_SENT),  # LND knew it before, and forgets nothing that is in flight
        (R.UNSENT, S.IN_FLIGHT),  # voided in the books, and sent after its last moment
        (R.UNSENT, S.SUCCEEDED),
        (R.UNSENT, S.FAILED),
    ],
)
def test_what_our_node_says_and_takes_back_raises(state: Rung, sight: Sight) -> None:
    """The books would say otherwise than LND about money: a person has to look."""
    with pytest.raises(Contradiction):
        see(state, sight)


# The golden matrix.


def drawn(step: Callable[[StrEnum, StrEnum], StrEnum | None], states: type[StrEnum], triggers: type[StrEnum]) -> str:
    """Every pair as the code answers it: where it leads, '.' where it is ignored, '!' where it raises."""

    def cell(state: StrEnum, trigger: StrEnum) -> str:
        try:
            return step(state, trigger) or "."
        except Contradiction:
            return "!"

    rows = [["", *triggers], *([state, *(cell(state, trigger) for trigger in triggers)] for state in states)]
    width = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        " | ".join(text.ljust(size) for text, size in zip(row, width, strict=True)).rstrip() for row in rows
    )


def due(recover: Mapping[Any, tuple[StrEnum, ...]], states: type[StrEnum]) -> str:
    """What a restart does in each state, a line for each."""
    return "\n".join(f"{state:<10} | {'; '.join(recover[state])}".rstrip() for state in states)


def test_the_whole_matrix_is_as_it_was_agreed() -> None:
    """Every state and trigger, and what a restart does, in a file that is reviewed by a person. Change it on purpose or not
    at all."""
    parts = (
        drawn(move, Escrow, Trigger), drawn(see, Rung, Sight),  # type: ignore[arg-type]  # any of their states
        due(RECOVER, Escrow), due(RUNG_RECOVER, Rung),
    )  # fmt: skip
    assert "\n\n".join(parts) + "\n" == GOLDEN.read_text()


def _ways(start: Escrow, end: Escrow, seen: tuple[Escrow, ...] = ()) -> list[list[Trigger]]:
    """Every way that visits no state twice."""
    if start is end:
        return [[]]
    return [
        [trigger, *rest]
        for (state, trigger), target in MOVES.items()
        if state is start and target not in seen
        for rest in _ways(target, end, (*seen, start))
    ]
