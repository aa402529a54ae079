"""What an escrow and a rung can be, what can happen to them, and what a restart can do about it. Names, no rules."""

from enum import StrEnum


class Escrow(StrEnum):
    """A submission's escrow, as the settler's books have it."""

    OPENED = "opened"  # paid, place and budget reserved, waiting for the oracle's offer
    OFFERED = "offered"  # the offer is signed, waiting for the peer's invoices
    LOCKING = "locking"  # intent to lock recorded, the invoicer pays
    LOCKED = "locked"  # accepted at the peer's node and in flight at ours
    UPLOADED = "uploaded"  # the payload lies in the store
    SCORED = "scored"  # decided once; preimages sealed to the peer
    FAILED = "failed"  # will earn nothing; rungs, if any, are on their way back
    OWED = "owed"  # decided, but too late for this ladder: its rungs are on their way back, the sum is owed
    DUE = "due"  # those rungs are terminal, waiting for the oracle's new offer of what is owed
    REOFFERED = "reoffered"  # the new offer is signed, waiting for the peer's invoices
    RELOCKING = "relocking"  # intent to lock what is owed recorded, the invoicer pays
    RELOCKED = "relocked"  # both ends hold what is owed, waiting for the oracle to reveal
    ENDED = "ended"  # every rung is terminal and the books are closed


class Trigger(StrEnum):
    """What can happen to an escrow."""

    OFFER_MADE = "offer made"
    LOCKS_REGISTERED = "locks registered"
    BOTH_ENDS_SEEN = "both ends seen"
    LOCK_FAILED = "lock failed"
    UPLOADED = "uploaded"
    SCORED = "scored"
    WITHHELD = "withheld"
    UNCLAIMED = "unclaimed"
    DEADLINE = "deadline"
    RUNGS_TERMINAL = "rungs terminal"


class Again(StrEnum):
    """What a restarted settler does about one escrow. Whoever hears it twice does nothing twice."""

    ASK_OFFER = "ask the oracle for the offer"
    ASK_LOCK = "ask the invoicer to pay the ladder"
    TELL_LOCKED = "tell the oracle that it is locked"
    TELL_UPLOADED = "tell where the payload lies"
    ASK_CANCEL = "ask the peer to cancel"
    GO_ON = "go on if every rung is terminal"


class Rung(StrEnum):
    """One hold invoice of a ladder, as the settler's books have it."""

    REGISTERED = "registered"  # intent recorded, pending in the ledger; LND may not have seen it
    IN_FLIGHT = "in flight"  # LND has an HTLC out
    SETTLED = "settled"  # LND SUCCEEDED, ledger posted
    RETURNED = "returned"  # LND FAILED, ledger voided
    UNSENT = "unsent"  # LND had never heard of it long after its last moment, ledger voided


class AskAgain(StrEnum):
    """What a restarted settler does about one rung. It asks our node, and tells it nothing."""

    LOOK_UP = "look its payment up at our node by its hash"
    GIVE_UP = "give it up where our node has not heard of it long after its last moment"


class Sight(StrEnum):
    """What was seen of a rung at our node."""

    IN_FLIGHT = "in flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NEVER_SENT = "never sent"
