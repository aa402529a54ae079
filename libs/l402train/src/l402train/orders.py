"""What an operator orders of a running network, and what came of it. The services decide; it only asks and tells."""

from datetime import UTC, datetime
from typing import Any

from l402core.events import (
    EndRound,
    Freeze,
    FreezeView,
    OwedSettle,
    OwedSettled,
    Pardon,
    Pardoned,
    RoundEnded,
    SaidAgain,
    SayAgain,
    Thaw,
    WriteOff,
    WrittenOff,
)
from l402core.money import show_sat
from rich.console import Console
from rich.table import Table

from l402train import asking
from l402train.debts import Debt
from l402train.exits import Exit
from l402train.screen import sat, show_json


async def freeze(out: Console, nats_url: str, order: Freeze, *, as_json: bool) -> Exit:
    """Stop everything about one submission or tranche. Raises Stop."""
    return _told(out, await asking.ask(nats_url, order, FreezeView), _frozen, as_json=as_json)


async def thaw(out: Console, nats_url: str, order: Thaw, *, as_json: bool) -> Exit:
    """Let it go on. Raises Stop, also where what is held still cannot be true."""
    view = await asking.ask(nats_url, order, FreezeView)
    return _told(out, view, lambda one: _thawed(one, dropped=order.drop_held), as_json=as_json)


async def write_off(out: Console, nats_url: str, order: WriteOff, *, as_json: bool) -> Exit:
    """Explain a contradiction, or what is foreign, for good. Raises Stop where the settler finds neither."""
    told = await asking.ask(nats_url, order, WrittenOff)
    return _told(out, told, _written_off, as_json=as_json)


async def again(out: Console, nats_url: str, *, as_json: bool) -> Exit:
    """Have the oracle say again what its rounds wait for. Raises Stop."""
    told = await asking.ask(nats_url, SayAgain(), SaidAgain)
    return _told(out, told, lambda one: "\n".join(one.said) or "No round waits for anything.", as_json=as_json)


async def end_round(out: Console, nats_url: str, order: EndRound, *, as_json: bool) -> Exit:
    """End a frozen round. Raises Stop where it is not frozen."""
    told = await asking.ask(nats_url, order, RoundEnded)
    sentence = f"Round {told.round} is over, and nobody in it was judged ({told.trouble}). The next one opens."
    return _told(out, told, lambda _: sentence, as_json=as_json)


async def pardon(out: Console, nats_url: str, order: Pardon, *, as_json: bool) -> Exit:
    """Let a peer have offers again. Raises Stop where none is held back that is called so."""
    told = await asking.ask(nats_url, order, Pardoned)
    sentence = f"{told.peer[:16]}… gets offers again: what came of it up to round {told.round} is forgiven."
    return _told(out, told, lambda _: sentence, as_json=as_json)


async def settle(out: Console, nats_url: str, order: OwedSettle, *, as_json: bool) -> Exit:
    """Close the books of a debt. Raises Stop where the settler does not believe it."""
    told = await asking.ask(nats_url, order, OwedSettled)
    sentence = f"{told.commitment[:16]}…: {show_sat(told.amount_msat)} to {told.peer[:16]}… are owed no more"
    return _told(out, told, lambda _: sentence, as_json=as_json)


def tell_debts(out: Console, found: list[Debt], *, as_json: bool) -> Exit:
    """A table, the oldest first."""
    if as_json:
        show_json(out, found)
        return Exit.FINE
    if not found:
        out.print("Nothing is owed.")
        return Exit.FINE
    table = Table("since", "submission", "peer", "sat", "offers", "next", box=None, pad_edge=False)
    for one in found:
        since = datetime.fromtimestamp(one.since_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(
            since, f"{one.commitment[:16]}…", f"{one.peer[:16]}…", sat(one.amount_msat), str(one.offers), one.next
        )
    out.print(table)
    return Exit.FINE


def _told(out: Console, view: Any, sentence: Any, *, as_json: bool) -> Exit:
    if as_json:
        show_json(out, view)
    else:
        out.print(sentence(view), soft_wrap=True)
    return Exit.FINE


def _frozen(view: FreezeView) -> str:
    stops = "nothing that moves or promises money happens about it"
    return f"{view.what} {view.about} is frozen in the state {view.state}: {stops}"


def _written_off(told: WrittenOff) -> str:
    lost = show_sat(abs(told.lost_msat))
    if told.what in ("payment", "receipt") and told.lost_msat:
        way = "went outside" if told.lost_msat > 0 else "came from outside"
        return f"{told.what} {told.payment_hash} is explained: {lost} {way} of the protocol"
    cost = f"{lost} are written off" if told.lost_msat > 0 else f"{lost} more than the books said are there"
    return f"{told.what} {told.payment_hash} is explained: {cost if told.lost_msat else 'no money differs'}"


def _thawed(view: FreezeView, *, dropped: bool) -> str:
    held = f"; {'dropped' if dropped else 'taken'}: {', '.join(view.held)}" if view.held else ""
    state = f", now {view.state}" if view.state else ""
    return f"{view.what} {view.about} goes on{state}{held}"
