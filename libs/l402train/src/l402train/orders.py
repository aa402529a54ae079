"""What an operator orders of a running network, and what came of it. The services decide; it only asks and tells."""

import json
from typing import Any

import msgspec
from l402core.events import Freeze, FreezeView, SaidAgain, SayAgain, Thaw
from rich.console import Console

from l402train import asking
from l402train.exits import Exit


async def freeze(out: Console, nats_url: str, order: Freeze, *, as_json: bool) -> Exit:
    """Stop everything about one submission or tranche. Raises Stop."""
    return _told(out, await asking.ask(nats_url, order, FreezeView), _frozen, as_json=as_json)


async def thaw(out: Console, nats_url: str, order: Thaw, *, as_json: bool) -> Exit:
    """Let it go on. Raises Stop, also where what is held still cannot be true."""
    view = await asking.ask(nats_url, order, FreezeView)
    return _told(out, view, lambda one: _thawed(one, dropped=order.drop_held), as_json=as_json)


async def again(out: Console, nats_url: str, *, as_json: bool) -> Exit:
    """Have the oracle say again what its rounds wait for. Raises Stop."""
    told = await asking.ask(nats_url, SayAgain(), SaidAgain)
    return _told(out, told, lambda one: "\n".join(one.said) or "No round waits for anything.", as_json=as_json)


def _told(out: Console, view: Any, sentence: Any, *, as_json: bool) -> Exit:
    if as_json:
        out.print_json(json.dumps(msgspec.to_builtins(view)))
    else:
        out.print(sentence(view), soft_wrap=True)
    return Exit.FINE


def _frozen(view: FreezeView) -> str:
    stops = "nothing that moves or promises money happens about it"
    return f"{view.what} {view.about} is frozen in the state {view.state}: {stops}"


def _thawed(view: FreezeView, *, dropped: bool) -> str:
    held = f"; {'dropped' if dropped else 'taken'}: {', '.join(view.held)}" if view.held else ""
    state = f", now {view.state}" if view.state else ""
    return f"{view.what} {view.about} goes on{state}{held}"
