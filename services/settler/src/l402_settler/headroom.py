"""What may still be promised beside all that is out or promised: to one peer and payee, of the day, of our node.

It makes no promise itself. Whoever does asks here in the same transaction, so that promises are added up.
"""

import msgspec
from l402core.errors import Exhausted, L402Error
from l402core.outbox import Transaction

from l402_settler.adapters import books, journal
from l402_settler.exposure import over_cap
from l402_settler.office import Office


class Need(msgspec.Struct, frozen=True):
    """What one more ladder takes."""

    msat: int
    rungs: int


def exposed(
    office: Office, tx: Transaction, peer: str, payees: frozenset[str], need: Need, *, ladder_msat: int,
    debts: bool = True,
) -> L402Error | None:  # fmt: skip
    """Why no more may be promised to this peer, on these nodes: what they leave hanging counts.

    Without `debts` what is owed and not offered does not count: debts that all waited for one another would wait for ever.
    """
    caps, slots = office.config.exposure_caps(ladder_msat), office.sight.slots_to
    refusal = over_cap("peer", books.exposure(tx, peer=peer, debts=debts), caps.peer, need.msat, need.rungs)
    for payee in sorted(payees):
        held = books.exposure(tx, payee=payee, debts=debts)
        refusal = refusal or over_cap("payee", held, caps.payee, need.msat, need.rungs)
        if refusal is None and payee in slots and slots[payee] - held.promised_rungs < need.rungs:
            refusal = Exhausted("channel_slots", "the channels to this payee's node are short of HTLC slots")
    return refusal


def no_room_for_debt(office: Office, tx: Transaction, need: Need) -> L402Error | None:
    """Why what is owed cannot be offered now, if so: the day and our node have room for it beside all that was offered."""
    sight, offered = office.sight, books.offered(tx)
    if sight.trouble:
        return Exhausted("node", sight.trouble)
    locked_msat = journal.locked_since(tx, office.now_ms() - journal.DAY_MS)
    if locked_msat + offered.unregistered_msat + need.msat > office.config.day_cap_msat:
        return Exhausted("day_cap", "the day's cap is for what is owed as for anything else")
    if sight.liquidity_msat - offered.msat < need.msat:
        return Exhausted("liquidity", "the coordinator's node is short of outbound liquidity")
    if sight.slots - offered.rungs < need.rungs:
        return Exhausted("slots", "the coordinator's channels are short of HTLC slots")
    return None
