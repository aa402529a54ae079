"""What may open, what may be locked, and whose fault a failure is. Pure: every fact is an argument."""

import re

import msgspec
from l402core.bolt11 import InvalidInvoice, Invoice, decode
from l402core.documents import Offer, Statement, Terms
from l402core.errors import Conflict, Exhausted, L402Error, Malformed, TooLate
from l402core.escrow import Escrow, Rung

from l402_settler.exposure import Left, Need
from l402_settler.rounds import COMMIT

ATTEMPTS = 3
"""Submissions of one peer in one round, failed ones included: a credit that fails must not turn for ever."""
_NODE = re.compile("0[23][0-9a-f]{64}", re.ASCII)
_KEY = re.compile("[0-9a-f]{64}", re.ASCII)


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What is left to sell in a round."""

    places: int
    budget_msat: int
    outside: Left
    """Of the day and of our node, whatever the round."""


def no_room(room: Room, terms: Terms) -> L402Error | None:
    """Why no place can be sold now, if so. Nothing is locked beyond what was reserved."""
    ladder = terms.ladder_msat()
    if room.outside.node_trouble:
        return Exhausted("node", room.outside.node_trouble)
    if room.places < 1:
        return Exhausted("places", f"all {terms.places} places of round {terms.round} are taken")
    if room.budget_msat < ladder:
        return Exhausted("budget", f"the round's budget has {room.budget_msat} msat left, a ladder needs {ladder}")
    return room.outside.refusal(Need(ladder, len(terms.rungs)))


def check_statement(statement: Statement) -> None:
    """What the reward needs later is in its form. Raises Malformed; the fee is not touched."""
    if not _KEY.fullmatch(statement.seal_to):
        raise Malformed("statement", "seal_to is an X25519 public key, 64 lower-case hex digits")
    if not _NODE.fullmatch(statement.payout_node):
        raise Malformed("statement", "payout_node is a node's public key, 66 lower-case hex digits")


def holds_place(state: str, *, is_scored: bool) -> bool:
    """Whether a submission counts against the round's places: all but those that failed."""
    return state != Escrow.FAILED and (state != Escrow.ENDED or is_scored)


def may_open(
    statement: Statement, terms: Terms, *, phase: str, room: Room, open_peers: frozenset[str], attempts: int,
    now_ms: int,
) -> L402Error | None:  # fmt: skip
    """Why a paid submission cannot open, if so. Its fee then becomes a credit."""
    if phase != COMMIT or now_ms >= terms.commit_until_ms:
        return TooLate("round_closed", f"round {terms.round} takes no more commitments")
    if statement.terms != terms.digest() or statement.checkpoint != terms.checkpoint.sha256:
        return Conflict("other_terms", "the statement names other terms or another checkpoint than the round's")
    if statement.peer in open_peers:
        return Conflict("peer_has_place", f"this peer already has a submission in round {terms.round}")
    if attempts >= ATTEMPTS:
        return Conflict("peer_attempts", f"{attempts} submissions of this peer failed in round {terms.round}")
    return no_room(room, terms)


def check_ladder(
    bolt11s: tuple[str, ...], offer: Offer, statement: Statement, terms: Terms, *, now_s: int, not_after_ms: int
) -> None:
    """Each invoice is the offer's rung, on the peer's own node, and lives until we may pay it last.

    Raises Malformed, naming the rung.
    """
    if len(bolt11s) != len(offer.reward_hashes):
        raise Malformed("ladder_length", f"{len(bolt11s)} invoices, expected {len(offer.reward_hashes)}")
    for index, text in enumerate(bolt11s):
        try:
            invoice = decode(text)
        except InvalidInvoice as error:
            raise Malformed("invoice_undecodable", f"rung {index}: {error.detail}") from error
        _check_rung(index, invoice, offer, statement, terms, now_s=now_s, not_after_ms=not_after_ms)


def _check_rung(
    index: int, invoice: Invoice, offer: Offer, statement: Statement, terms: Terms, *, now_s: int, not_after_ms: int
) -> None:
    wrong = _first_difference(
        ("network", invoice.network, terms.network),
        ("payment hash", invoice.payment_hash.hex(), offer.reward_hashes[index]),
        ("amount in msat", invoice.amount_msat, offer.amounts_msat[index]),
        ("payee", invoice.payee.hex(), statement.payout_node),
    )
    if wrong:
        raise Malformed("invoice_wrong", f"rung {index}: {wrong}")
    if invoice.expires_at_ms() < not_after_ms:
        left_s = invoice.timestamp + invoice.expiry - now_s
        raise Malformed("invoice_expiry", f"rung {index}: expires in {left_s} s, before the ladder must be locked")
    if invoice.expiry < terms.invoice_expiry_min_s:
        raise Malformed(
            "invoice_expiry", f"rung {index}: expiry {invoice.expiry} s, at least {terms.invoice_expiry_min_s}"
        )
    if not terms.cltv_min <= invoice.min_final_cltv <= terms.cltv_max:
        raise Malformed(
            "invoice_cltv",
            f"rung {index}: final CLTV {invoice.min_final_cltv}, expected {terms.cltv_min} to {terms.cltv_max} blocks",
        )


def _first_difference(*rows: tuple[str, object, object]) -> str:
    return next((f"{what} is {got}, expected {expected}" for what, got, expected in rows if got != expected), "")


PAYEE_REFUSED = "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS"
"""LND's name for a payment that its last hop, the payee's own node, turned away or cancelled."""


ON_THE_WAY = frozenset({"FAILURE_REASON_NO_ROUTE", "FAILURE_REASON_TIMEOUT", "FAILURE_REASON_ERROR"})
"""LND's names for a payment that did not get to the payee's node: whose affair that is cannot be seen from here."""
TURNS = 3
"""So often one fee comes back because no way was found; a peer out of reach would else hold places for nothing."""


def fault_is_ours(
    state: Escrow, rungs: tuple[Rung, ...], *, accepted: bool, lnd_failure: str = "", turns: int = 0
) -> bool:
    """Whether a fee becomes a credit when an escrow in this state fails. Fault is read at our node.

    No offer, or a rung that failed on the way or was never sent: ours. A rung that the payee's own node turned away, all
    in flight but not accepted in time, or locked and never uploaded: the peer's. Uploaded and never decided: ours.
    `turns` is how often this fee has come back before: what is not known by then to be our fault is not ours.
    """
    if lnd_failure == PAYEE_REFUSED or (lnd_failure in ON_THE_WAY and turns >= TURNS):
        return False
    if state in (Escrow.OPENED, Escrow.UPLOADED):
        return True
    if state is Escrow.LOCKING and not lnd_failure and not accepted and turns >= TURNS:
        return False  # still on the way at the deadline, once more: LND says nothing of whose affair that is
    if state is Escrow.LOCKING:
        return any(rung in (Rung.RETURNED, Rung.UNSENT, Rung.REGISTERED) for rung in rungs) or accepted
    return False
