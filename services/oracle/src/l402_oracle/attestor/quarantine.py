"""Peers whose payloads workers did not survive: for some rounds they get no offer. It keeps no fee.

Whose fault a death is cannot be told: the payload may be meant so, or meet a fault of ours. Keeping the fee would
punish honest work, giving it back again and again would let anybody burn the oracle's time for nothing.
"""

import structlog
from l402core.events import GradientMeasured, GradientScreened, OfferMake
from l402core.outbox import Transaction

from l402_oracle.adapters import decisions as books
from l402_oracle.adapters import isolations
from l402_oracle.failures import ISOLATED

log = structlog.get_logger()
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


def gets_no_offer(tx: Transaction, event: OfferMake) -> bool:
    """Whether its peer is held back, which is remembered: nobody waits for this offer. What is owed is offered all the same."""
    since = isolations.last_isolated(tx, event.peer) if event.attempt == 1 else 0
    if not since or event.round - since > ROUNDS:
        return False
    isolations.refuse(tx, event.commitment, event.round)
    log.error("offer.refused", commitment=event.commitment, round=event.round, peer=event.peer, isolated=since)
    return True
