"""Peers whose payloads workers did not survive: for some rounds they get no offer. It keeps no fee.

Whose fault a death is cannot be told: the payload may be meant so, or meet a fault of ours. Keeping the fee would
punish honest work, giving it back again and again would let anybody burn the oracle's time for nothing.
"""

import re

import structlog
from l402core.errors import Conflict, Malformed, NotFound
from l402core.events import GradientMeasured, GradientScreened, OfferMake, Pardon, Pardoned
from l402core.ordered import checked_order
from l402core.outbox import Transaction

from l402_oracle.adapters import decisions as books
from l402_oracle.adapters import isolations
from l402_oracle.attestor.parts import Parts
from l402_oracle.failures import ISOLATED

log = structlog.get_logger()
PEER = re.compile("[0-9a-f]{8,64}", re.ASCII)
ROUNDS = 32
"""How long, counted from the round of the payload."""


def note(tx: Transaction, answer: GradientScreened | GradientMeasured) -> None:
    """Remember an answer that says that workers did not survive; whatever else it is used for."""
    code = answer.code if isinstance(answer, GradientScreened) else answer.failure.partition(": ")[0]
    if code != ISOLATED:
        return
    for offer in books.offers_of(tx, answer.commitment)[:1]:
        if isolations.isolate(tx, offer):
            log.error("payload.isolated", commitment=offer.commitment, round=offer.round, peer=offer.peer)


async def pardon(parts: Parts, order: Pardon) -> Pardoned:
    """Forgive a peer what came of it so far; once. Raises Malformed, NotFound, Conflict."""
    by, reason = checked_order(order.by, order.reason)
    if not PEER.fullmatch(order.peer):
        raise Malformed("peer", "a peer is named by its key or the beginning of it: 8 to 64 hex digits")

    def work(tx: Transaction) -> Pardoned:
        found = isolations.newest_unforgiven(tx, order.peer, rounds_back=ROUNDS)
        if not found:
            raise NotFound("peer", f"no peer is held back whose key begins with {order.peer}")
        if len(found) > 1:
            raise Conflict(
                "ambiguous", f"{len(found)} peers that are held back have a key that begins with {order.peer}"
            )
        newest = found[0]
        isolations.forgive(tx, newest.peer, newest.round, at_ms=parts.now_ms(), by=by, reason=reason)
        return Pardoned(peer=newest.peer, round=newest.round, commitment=newest.commitment)

    told = await parts.database.transact(work)
    log.warning("peer.pardoned", peer=told.peer, round=told.round, by=by, reason=reason)
    return told


def gets_no_offer(tx: Transaction, event: OfferMake) -> bool:
    """Whether its peer is held back, which is remembered: nobody waits for this offer. What is owed is offered all the same."""
    since = isolations.last_isolated(tx, event.peer) if event.attempt == 1 else 0
    if not since or event.round - since > ROUNDS:
        return False
    isolations.refuse(tx, event.commitment, event.round)
    log.error("offer.refused", commitment=event.commitment, round=event.round, peer=event.peer, isolated=since)
    return True
