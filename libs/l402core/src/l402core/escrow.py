"""The life of an escrow and of its rungs, as two tables each on one screen. Pure: no clock, no database, no LND.

`MOVES` says which trigger takes which state where. `IGNORED` says which triggers are answered with silence in a state,
because they are redeliveries or lost races. Anything else raises `Contradiction`: freeze, and wake someone.
`RECOVER` says for every state what a restarted settler does about it.
"""

from enum import StrEnum

from l402core.errors import Contradiction


class Escrow(StrEnum):
    """A submission's escrow, as the settler's books have it."""

    OPENED = "opened"  # paid, place and budget reserved, waiting for the oracle's offer
    OFFERED = "offered"  # the offer is signed, waiting for the peer's invoices
    LOCKING = "locking"  # intent to lock recorded, the invoicer pays
    LOCKED = "locked"  # accepted at the peer's node and in flight at ours
    UPLOADED = "uploaded"  # the payload lies in the store
    SCORED = "scored"  # decided once; preimages sealed to the peer
    FAILED = "failed"  # will earn nothing; rungs, if any, are on their way back
    ENDED = "ended"  # every rung is terminal and the books are closed


class Trigger(StrEnum):
    """What can happen to an escrow."""

    OFFER_MADE = "offer made"
    LOCKS_REGISTERED = "locks registered"
    BOTH_ENDS_SEEN = "both ends seen"
    LOCK_FAILED = "lock failed"
    UPLOADED = "uploaded"
    SCORED = "scored"
    DEADLINE = "deadline"
    RUNGS_TERMINAL = "rungs terminal"


E, T = Escrow, Trigger

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
    (E.SCORED, T.RUNGS_TERMINAL): E.ENDED,
    (E.FAILED, T.RUNGS_TERMINAL): E.ENDED,
    # The oracle decided before our deadline reached it: its one decision stands, and the sealed preimages are the
    # peer's. Not to record it would be to owe money that the books do not know.
    (E.FAILED, T.SCORED): E.SCORED,
}

IGNORED: frozenset[tuple[Escrow, Trigger]] = frozenset(
    {(state, T.OFFER_MADE) for state in E if state is not E.OPENED}
    | {(state, T.LOCKS_REGISTERED) for state in (E.LOCKING, E.LOCKED, E.UPLOADED, E.SCORED, E.FAILED, E.ENDED)}
    | {(state, T.BOTH_ENDS_SEEN) for state in (E.LOCKED, E.UPLOADED, E.SCORED, E.FAILED, E.ENDED)}
    # A peer that gives up a rung once it is locked hurts only itself: the decision comes, that rung is not collected.
    | {(state, T.LOCK_FAILED) for state in (E.LOCKED, E.UPLOADED, E.SCORED, E.FAILED, E.ENDED)}
    | {(state, T.UPLOADED) for state in (E.UPLOADED, E.SCORED, E.FAILED, E.ENDED)}
    | {(state, T.SCORED) for state in (E.SCORED, E.ENDED)}
    | {(state, T.DEADLINE) for state in (E.SCORED, E.FAILED, E.ENDED)}
    | {(E.ENDED, T.RUNGS_TERMINAL)}
)

RECOVER: dict[Escrow, str] = {
    E.OPENED: "publish offer.make again",
    E.OFFERED: "wait for the peer until lock_by",
    E.LOCKING: "publish escrow.lock again; track every rung by hash",
    E.LOCKED: "wait for the upload until upload_until; track every rung",
    E.UPLOADED: "wait for the decision until judge_by; track every rung",
    E.SCORED: "offer the sealed preimages; track every rung",
    E.FAILED: "ask the peer to cancel; track every rung",
    E.ENDED: "nothing",
}


class Rung(StrEnum):
    """One hold invoice of a ladder, as the settler's books have it."""

    REGISTERED = "registered"  # intent recorded, pending in the ledger; LND may not have seen it
    IN_FLIGHT = "in flight"  # LND has an HTLC out
    SETTLED = "settled"  # LND SUCCEEDED, ledger posted
    RETURNED = "returned"  # LND FAILED or never sent, ledger voided


class Sight(StrEnum):
    """What was seen of a rung at our node."""

    IN_FLIGHT = "in flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NEVER_SENT = "never sent"


R, S = Rung, Sight

RUNG_MOVES: dict[tuple[Rung, Sight], Rung] = {
    (R.REGISTERED, S.IN_FLIGHT): R.IN_FLIGHT,
    (R.REGISTERED, S.SUCCEEDED): R.SETTLED,
    (R.REGISTERED, S.FAILED): R.RETURNED,
    (R.REGISTERED, S.NEVER_SENT): R.RETURNED,
    (R.IN_FLIGHT, S.SUCCEEDED): R.SETTLED,
    (R.IN_FLIGHT, S.FAILED): R.RETURNED,
}

RUNG_IGNORED: frozenset[tuple[Rung, Sight]] = frozenset(
    {
        (R.IN_FLIGHT, S.IN_FLIGHT),
        (R.SETTLED, S.IN_FLIGHT),
        (R.SETTLED, S.SUCCEEDED),
        (R.RETURNED, S.IN_FLIGHT),
        (R.RETURNED, S.FAILED),
        (R.RETURNED, S.NEVER_SENT),
        (R.IN_FLIGHT, S.NEVER_SENT),
    }
)


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
