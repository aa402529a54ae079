"""The life of a sponsor's tranche, as two tables on one screen. Pure: no clock, no database, no LND.

A tranche is one hold invoice at the coordinator's own node: we are its payee, so we alone settle it or cancel it.
`MOVES` says which trigger takes which state where, `IGNORED` which triggers are redeliveries or lost races; anything
else raises `Contradiction`. `RECOVER` says for every state what a restarted settler does about it.
"""

from enum import StrEnum

from l402core.errors import Contradiction


class Tranche(StrEnum):
    """One tranche, as the settler's books have it."""

    ANNOUNCED = "announced"  # the oracle has named its hash; no invoice yet
    MINTING = "minting"  # the invoicer is asked for the hold invoice
    MINTED = "minted"  # the invoice is out, waiting for the sponsor's payment until pay_by
    LOCKED = "locked"  # the sponsor's HTLC waits at our node, pending in the ledger; no round yet
    FUNDING = "funding"  # a round's signed terms name it
    SETTLING = "settling"  # earned: the sealed preimage is in the books, LND is to settle
    RETURNING = "returning"  # not earned, or not in time: LND is to cancel
    SETTLED = "settled"  # LND SETTLED, ledger posted
    RETURNED = "returned"  # LND CANCELED or never made, ledger voided


class Trigger(StrEnum):
    """What can happen to a tranche."""

    MINT_ASKED = "mint asked"
    MINTED = "minted"
    ACCEPTED = "accepted"
    ROUND_OPENED = "round opened"
    EARNED = "earned"
    GIVE_BACK = "give back"
    SEEN_SETTLED = "seen settled"
    SEEN_CANCELED = "seen canceled"


class Again(StrEnum):
    """What a restarted settler does about one tranche. Whoever hears it twice does nothing twice."""

    ASK_MINT = "ask the invoicer for the hold invoice"
    TELL_LOCKED = "tell the oracle that the money waits"
    LISTEN = "subscribe to the invoice"
    SETTLE = "settle it at our node"
    CANCEL = "cancel it at our node"


S, T, A = Tranche, Trigger, Again

MOVES: dict[tuple[Tranche, Trigger], Tranche] = {
    (S.ANNOUNCED, T.MINT_ASKED): S.MINTING,
    (S.ANNOUNCED, T.GIVE_BACK): S.RETURNED,
    (S.MINTING, T.MINTED): S.MINTED,
    (S.MINTING, T.GIVE_BACK): S.RETURNING,
    (S.MINTED, T.ACCEPTED): S.LOCKED,
    (S.MINTED, T.GIVE_BACK): S.RETURNING,
    (S.MINTED, T.SEEN_CANCELED): S.RETURNED,
    (S.LOCKED, T.ROUND_OPENED): S.FUNDING,
    (S.LOCKED, T.GIVE_BACK): S.RETURNING,
    (S.LOCKED, T.SEEN_CANCELED): S.RETURNED,
    (S.FUNDING, T.EARNED): S.SETTLING,
    (S.FUNDING, T.GIVE_BACK): S.RETURNING,
    (S.FUNDING, T.SEEN_CANCELED): S.RETURNED,
    (S.SETTLING, T.SEEN_SETTLED): S.SETTLED,
    # LND cancels by itself shortly before an HTLC expires. The sponsor has its money back, and we are the poorer.
    (S.SETTLING, T.SEEN_CANCELED): S.RETURNED,
    (S.RETURNING, T.SEEN_CANCELED): S.RETURNED,
}

IGNORED: frozenset[tuple[Tranche, Trigger]] = frozenset(
    {(state, T.MINT_ASKED) for state in S if state is not S.ANNOUNCED}
    | {(state, T.MINTED) for state in S if state not in (S.ANNOUNCED, S.MINTING)}
    | {(state, T.ACCEPTED) for state in S if state not in (S.ANNOUNCED, S.MINTING, S.MINTED)}
    | {(state, T.ROUND_OPENED) for state in (S.FUNDING, S.SETTLING, S.RETURNING, S.SETTLED, S.RETURNED)}
    # Judged after our deadline gave it back: the sponsor's luck.
    | {(state, T.EARNED) for state in (S.SETTLING, S.RETURNING, S.SETTLED, S.RETURNED)}
    | {(state, T.GIVE_BACK) for state in (S.SETTLING, S.RETURNING, S.SETTLED, S.RETURNED)}
    | {(S.SETTLED, T.SEEN_SETTLED), (S.RETURNED, T.SEEN_CANCELED)}
    # Our invoice is seen before the invoicer's word of it comes: the next look finds both.
    | {(S.MINTING, T.ACCEPTED), (S.MINTING, T.SEEN_CANCELED)}
)

RECOVER: dict[Tranche, tuple[Again, ...]] = {
    S.ANNOUNCED: (),
    S.MINTING: (A.ASK_MINT,),
    S.MINTED: (A.LISTEN,),
    S.LOCKED: (A.TELL_LOCKED, A.LISTEN),
    S.FUNDING: (A.TELL_LOCKED, A.LISTEN),
    S.SETTLING: (A.SETTLE,),
    S.RETURNING: (A.CANCEL,),
    S.SETTLED: (),
    S.RETURNED: (),
}

LIVE = (S.MINTING, S.MINTED, S.LOCKED, S.FUNDING, S.SETTLING, S.RETURNING)
"""States with an invoice that may still move at our node."""
PENDING = (S.LOCKED, S.FUNDING, S.SETTLING)
"""States that are pending in the ledger; RETURNING may be, if it was locked before."""


def move(state: Tranche, trigger: Trigger) -> Tranche | None:
    """Where the trigger leads; None when it is to be ignored. Raises Contradiction."""
    target = MOVES.get((state, trigger))
    if target is None and (state, trigger) not in IGNORED:
        raise Contradiction("tranche_impossible", f"'{trigger}' cannot happen to a tranche that is {state}")
    return target
