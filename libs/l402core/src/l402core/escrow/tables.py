"""Every rule of an escrow's life and of a rung's, in two tables. Pure: it decides where, and refuses to know how.

`MOVES` says which trigger leads from which state where. `IGNORED` says which are answered with silence, because they
are redeliveries or lost races. Anything else raises `Contradiction`: freeze, and wake someone. A repeated request never
comes this far: the desk answers it from the books.
"""

from l402core.errors import Contradiction
from l402core.escrow.states import Again, AskAgain, Escrow, Rung, Sight, Trigger

E, T, R, S, A, Q = Escrow, Trigger, Rung, Sight, Again, AskAgain

MOVES: dict[tuple[Escrow, Trigger], Escrow] = {
    (E.OPENED, T.OFFER_MADE): E.OFFERED,
    (E.OPENED, T.DEADLINE): E.FAILED,
    (E.OFFERED, T.LOCKS_REGISTERED): E.LOCKING,
    (E.OFFERED, T.DEADLINE): E.FAILED,
    (E.LOCKING, T.BOTH_ENDS_SEEN): E.LOCKED,
    (E.LOCKING, T.LOCK_FAILED): E.FAILED,
    (E.LOCKING, T.DEADLINE): E.FAILED,
    (E.LOCKED, T.UPLOADED): E.UPLOADED,
    (E.LOCKED, T.DEADLINE): E.FAILED,
    (E.UPLOADED, T.SCORED): E.SCORED,
    (E.UPLOADED, T.DEADLINE): E.FAILED,
    (E.FAILED, T.SCORED): E.SCORED,  # decided before our deadline came: its one decision stands, and money is owed
    (E.SCORED, T.RUNGS_TERMINAL): E.ENDED,
    (E.FAILED, T.RUNGS_TERMINAL): E.ENDED,
    # Decided, and not to be revealed for this ladder any more: what is earned is owed, whenever we hear of it.
    (E.UPLOADED, T.WITHHELD): E.OWED,
    (E.FAILED, T.WITHHELD): E.OWED,
    (E.ENDED, T.WITHHELD): E.OWED,
    (E.OWED, T.RUNGS_TERMINAL): E.DUE,
    (E.OWED, T.UNCLAIMED): E.ENDED,
    (E.DUE, T.OFFER_MADE): E.REOFFERED,
    (E.REOFFERED, T.LOCKS_REGISTERED): E.RELOCKING,
    (E.REOFFERED, T.DEADLINE): E.OWED,
    (E.RELOCKING, T.BOTH_ENDS_SEEN): E.RELOCKED,
    (E.RELOCKING, T.LOCK_FAILED): E.OWED,
    (E.RELOCKING, T.DEADLINE): E.OWED,
    (E.RELOCKED, T.SCORED): E.SCORED,
    (E.RELOCKED, T.WITHHELD): E.OWED,
    (E.RELOCKED, T.RUNGS_TERMINAL): E.OWED,  # the oracle was silent until the rungs were back
    (E.OWED, T.SCORED): E.SCORED,  # it was not silent, we heard it late: revealed is revealed
    (E.DUE, T.SCORED): E.SCORED,
}
IGNORED: frozenset[tuple[Escrow, Trigger]] = frozenset(
    # The bus tells an offer again, and one that comes late finds an escrow that has failed meanwhile.
    {(state, T.OFFER_MADE) for state in E if state not in (E.OPENED, E.DUE)}
    # The decision comes when the rungs of a failed escrow are back: they were revealed, and not collected.
    | {(E.ENDED, T.SCORED)}
    # We had given the offer up when the word came that the oracle does too.
    | {(E.OWED, T.WITHHELD)}
)
RECOVER: dict[Escrow, tuple[Again, ...]] = {
    E.OPENED: (A.ASK_OFFER,),
    E.OFFERED: (),
    E.LOCKING: (A.ASK_LOCK,),
    E.LOCKED: (A.TELL_LOCKED,),
    E.UPLOADED: (A.TELL_LOCKED, A.TELL_UPLOADED),
    E.SCORED: (A.ASK_CANCEL, A.GO_ON),
    E.FAILED: (A.ASK_CANCEL, A.GO_ON),
    E.OWED: (A.ASK_CANCEL, A.GO_ON),
    E.DUE: (A.ASK_OFFER,),
    E.REOFFERED: (),
    E.RELOCKING: (A.ASK_LOCK,),
    E.RELOCKED: (A.TELL_LOCKED, A.GO_ON),
    E.ENDED: (),
}

RUNG_MOVES: dict[tuple[Rung, Sight], Rung] = {
    (R.REGISTERED, S.IN_FLIGHT): R.IN_FLIGHT,
    (R.REGISTERED, S.SUCCEEDED): R.SETTLED,
    (R.REGISTERED, S.FAILED): R.RETURNED,
    (R.REGISTERED, S.NEVER_SENT): R.UNSENT,
    (R.IN_FLIGHT, S.SUCCEEDED): R.SETTLED,
    (R.IN_FLIGHT, S.FAILED): R.RETURNED,
}
RUNG_IGNORED: frozenset[tuple[Rung, Sight]] = frozenset(
    # Our node tells every payment again when its stream is taken up.
    {(R.IN_FLIGHT, S.IN_FLIGHT), (R.SETTLED, S.SUCCEEDED), (R.RETURNED, S.FAILED), (R.UNSENT, S.NEVER_SENT)}
    # A look that began before the end was recorded comes back after it.
    | {(R.SETTLED, S.IN_FLIGHT), (R.RETURNED, S.IN_FLIGHT), (R.RETURNED, S.NEVER_SENT)}
)
RUNG_RECOVER: dict[Rung, tuple[AskAgain, ...]] = {
    R.REGISTERED: (Q.LOOK_UP, Q.GIVE_UP),
    R.IN_FLIGHT: (Q.LOOK_UP,),
    R.SETTLED: (),
    R.RETURNED: (),
    R.UNSENT: (),
}
OPEN_RUNG = tuple(state for state, due in RUNG_RECOVER.items() if due)
"""What a rung is until it is terminal."""


def move(state: Escrow, trigger: Trigger) -> Escrow | None:
    """Where the trigger leads; None when it is to be ignored. Raises Contradiction."""
    target = MOVES.get((state, trigger))
    if target is None and (state, trigger) not in IGNORED:
        raise Contradiction("escrow_impossible", f"'{trigger}' cannot happen to an escrow that is {state}")
    return target


def see(state: Rung, sight: Sight) -> Rung | None:
    """Where the sight leads; None when it is to be ignored. Raises Contradiction."""
    target = RUNG_MOVES.get((state, sight))
    if target is None and (state, sight) not in RUNG_IGNORED:
        raise Contradiction("rung_impossible", f"a rung that is {state} was seen {sight} at our node")
    return target
