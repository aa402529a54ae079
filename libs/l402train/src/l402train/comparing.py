"""`l402-train reconcile`: the books against the coordinator's node. It asks the running settler, and compares nothing."""

from l402core.events import Reconcile, Reconciled
from l402core.money import show_sat
from rich.console import Console
from rich.table import Table

from l402train import asking
from l402train.exits import Exit
from l402train.screen import show_json


async def ask(nats_url: str) -> Reconciled:
    """The settler's comparison, made now. Raises Stop when nobody answers."""
    return await asking.ask(nats_url, Reconcile(), Reconciled)


async def reconcile(out: Console, nats_url: str, *, as_json: bool) -> Exit:
    """Compare, tell, and judge: only a lag or what the chain has still to tell is fine, for it joins by itself."""
    found = await ask(nats_url)
    if as_json:
        show_json(out, found)
    else:
        out.print(sentence(found), style="bold", soft_wrap=True)
        if found.differences:
            out.print(_table(found))
    return Exit.UNTRUE if contradicts(found) else Exit.FINE


def contradicts(found: Reconciled) -> bool:
    """Whether anything differs that will not join by itself."""
    return any(one.weight not in ("lag", "undecided", "explained") for one in found.differences)


def sentence(found: Reconciled) -> str:
    """One line for people."""
    compared = f"{found.rungs} rungs, {found.fees} fees and {found.tranches} tranches"
    if not found.differences:
        return f"The books and the node's own lists agree on {compared}."
    return f"The books and the node's own lists differ in {len(found.differences) + found.untold} of {compared}:"


def _table(found: Reconciled) -> Table:
    table = Table("weight", "what", "payment hash", "books say", "node says", "amount", box=None, pad_edge=False)
    for one in found.differences:
        table.add_row(one.weight, one.what, f"{one.payment_hash[:16]}…", one.books, one.lnd, show_sat(one.amount_msat))
    return table
