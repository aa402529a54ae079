"""What may still be promised beside all that is out or promised: to one peer and payee, of the day, of our node.

It makes no promise itself. Whoever does asks here in the same transaction, so that promises are added up.
"""

from l402core.errors import L402Error
from l402core.outbox import Transaction

from l402_settler.adapters import books, journal
from l402_settler.exposure import Left, Need, over_cap, over_channels
from l402_settler.office import Office


def exposed(
    office: Office, tx: Transaction, peer: str, payees: frozenset[str], need: Need, *, ladder_msat: int,
    debts: bool = True,
) -> L402Error | None:  # fmt: skip
    """Why no more may be promised to this peer, on these nodes: what they leave hanging counts.

    Without `debts` what is owed and not offered does not count: debts that all waited for one another would wait for ever.
    Nor does it matter then, where nothing else is promised to a node, what the channels to it can send: no time brings a
    balance back, and a debt that finds no way has its laps, and then a person.
    """
    caps, sight = office.config.exposure_caps(ladder_msat), office.sight
    refusal = over_cap("peer", books.exposure(tx, peer=peer, debts=debts), caps.peer, need.msat, need.rungs)
    for payee in sorted(payees):
        held = books.exposure(tx, payee=payee, debts=debts)
        refusal = refusal or over_cap("payee", held, caps.payee, need.msat, need.rungs)
        sendable_msat = sight.msat_to.get(payee) if debts or held.promised_msat else None
        refusal = refusal or over_channels(held, need, sendable_msat=sendable_msat, slots=sight.slots_to.get(payee))
    return refusal


def left(office: Office, tx: Transaction, *, debts: bool = True) -> Left:
    """Asked before a place is sold, and, without `debts`, before one of them is offered: as in `exposed`.

    A ladder that waits to be locked counts until our node has it; what our node has, its own channels tell.
    """
    sight, promised, fee_limit_msat = office.sight, books.promised(tx, debts=debts), office.config.fee_limit_msat
    locked_msat = journal.locked_since(tx, office.now_ms() - journal.DAY_MS)
    return Left(
        day_msat=office.config.day_cap_msat - locked_msat - promised.unregistered_msat,
        liquidity_msat=sight.liquidity_msat - Need(promised.msat, promised.rungs).routed_msat(fee_limit_msat),
        fee_limit_msat=fee_limit_msat, slots=sight.slots - promised.rungs, node_trouble=sight.trouble,
    )  # fmt: skip
