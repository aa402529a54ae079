"""What a person orders of a running network, and in which words: `freeze`, `thaw`, `write-off`, `again`, `owed`, and to the
oracle `end-round` and `pardon`.

It decides nothing.
"""

import getpass
from typing import Annotated, Literal

from cyclopts import App, Parameter
from l402core.events import EndRound, Freeze, OwedSettle, Pardon, Thaw, WriteOff

from l402train.exits import Exit, Stop
from l402train.options import DEMO_FOLDER, Books, Dir, Json, Nats, ask, books_at
from l402train.running import run, tell

# Each command imports its story when it is called, so that `--help` answers at once.
# ruff: noqa: PLC0415

Wanted = Annotated[
    str,
    Parameter(help="A commitment, a payment hash of a fee, rung or tranche, or the beginning of one, 8 hex digits."),
]
Reason = Annotated[str, Parameter(help="Why; it stands in the books for good.")]
By = Annotated[str, Parameter(help="Who orders it; by default your login name.")]


def freeze(
    wanted: Wanted,
    /,
    *,
    reason: Reason,
    by: By = "",
    folder: Dir = DEMO_FOLDER,
    nats: Nats = None,
    as_json: Json = False,
) -> int:
    """Stop everything that moves or promises money about one submission or tranche, until it is thawed."""
    from l402train import orders, screen

    order = Freeze(wanted=wanted.lower(), by=by or getpass.getuser(), reason=reason)
    out = screen.console()
    return ask(lambda bus: orders.freeze(out, bus, order, as_json=as_json), folder, nats, as_json=as_json)


def thaw(
    wanted: Wanted,
    /,
    *,
    reason: Reason,
    drop_held: Annotated[
        bool, Parameter(negative="", help="Drop the messages that wait, where they cannot be true.")
    ] = False,
    by: By = "",
    folder: Dir = DEMO_FOLDER,
    nats: Nats = None,
    as_json: Json = False,
) -> int:
    """Let a frozen submission or tranche go on: what was held is done now, once."""
    from l402train import orders, screen

    order = Thaw(wanted=wanted.lower(), by=by or getpass.getuser(), reason=reason, drop_held=drop_held)
    out = screen.console()
    return ask(lambda bus: orders.thaw(out, bus, order, as_json=as_json), folder, nats, as_json=as_json)


def write_off(
    payment_hash: Annotated[str, Parameter(help="Of the rung, fee, tranche or foreign payment, 64 hex digits.")],
    /,
    *,
    reason: Reason,
    ended: Annotated[
        Literal["", "paid", "returned"],
        Parameter(
            help="How a rung or tranche ended that the node has lost; only asked for where nothing can move any more."
        ),
    ] = "",
    by: By = "",
    folder: Dir = DEMO_FOLDER,
    nats: Nats = None,
    as_json: Json = False,
) -> int:
    """Explain for good what the books and the node cannot both be right about, so that it can be thawed.

    What it cost, as the node itself tells, is booked as written off; no payment is made by this command. What the books know
    nothing of, and the node has paid or was paid, is booked as outside of the protocol.
    """
    from l402train import orders, screen

    who = by or getpass.getuser()
    order = WriteOff(payment_hash=payment_hash.lower(), by=who, reason=reason, ended=ended)
    out = screen.console()
    return ask(lambda bus: orders.write_off(out, bus, order, as_json=as_json), folder, nats, as_json=as_json)


def again(*, folder: Dir = DEMO_FOLDER, nats: Nats = None, as_json: Json = False) -> int:
    """Have the oracle ask again for what its rounds wait for, such as an aggregation that became a dead letter."""
    from l402train import orders, screen

    out = screen.console()
    return ask(lambda bus: orders.again(out, bus, as_json=as_json), folder, nats, as_json=as_json)


def end_round(
    number: Annotated[int, Parameter(help="Of the round, as the oracle's URL /v1/rounds/N has it.")],
    /,
    *,
    reason: Reason,
    by: By = "",
    folder: Dir = DEMO_FOLDER,
    nats: Nats = None,
    as_json: Json = False,
) -> int:
    """End a round that the oracle has frozen: nobody in it is judged, and the next one opens on the same checkpoint.

    Its rungs go back and its fees become credits by themselves, soon after its judging time.
    """
    from l402train import orders, screen

    order = EndRound(round=number, by=by or getpass.getuser(), reason=reason)
    out = screen.console()
    return ask(lambda bus: orders.end_round(out, bus, order, as_json=as_json), folder, nats, as_json=as_json)


def pardon(
    peer: Annotated[str, Parameter(help="Its key, or the beginning of it, 8 hex digits.")],
    /,
    *,
    reason: Reason,
    by: By = "",
    folder: Dir = DEMO_FOLDER,
    nats: Nats = None,
    as_json: Json = False,
) -> int:
    """Let a peer have offers again that is held back, since workers did not survive a payload of its: it was not its doing.

    What its payloads of later rounds do counts anew.
    """
    from l402train import orders, screen

    order = Pardon(peer=peer.lower(), by=by or getpass.getuser(), reason=reason)
    out = screen.console()
    return ask(lambda bus: orders.pardon(out, bus, order, as_json=as_json), folder, nats, as_json=as_json)


owed = App(name="owed", help="What is owed to peers and was not delivered, and its end by hand.")


@owed.default
def list_owed(*, folder: Dir = DEMO_FOLDER, books: Books = None, as_json: Json = False) -> int:
    """What is owed, to whom, since when, and what happens next."""
    from l402train import debts, orders, screen

    async def story() -> Exit:
        found = debts.debts(books_at(folder, books))
        return orders.tell_debts(screen.console(), found, as_json=as_json)

    return run(story(), as_json=as_json)


@owed.command
def settle(
    wanted: Annotated[str, Parameter(help="The submission's commitment, or the beginning of it, 8 hex digits.")],
    /,
    *,
    reason: Reason,
    payment_hash: Annotated[
        str, Parameter(help="Of the payment that the coordinator's node made: of exactly this amount, and succeeded.")
    ] = "",
    elsewhere: Annotated[
        bool, Parameter(negative="", help="It was paid, but not from the coordinator's node.")
    ] = False,
    by: By = "",
    folder: Dir = DEMO_FOLDER,
    nats: Nats = None,
    as_json: Json = False,
) -> int:
    """Close the books of a debt that a person has paid, after the last offer; nothing is paid by this command."""
    from l402train import orders, screen

    if bool(payment_hash) == elsewhere:
        stop = Stop(Exit.USAGE, "say which payment it was, with --payment-hash, or that it was paid --elsewhere")
        return tell(stop, as_json=as_json)
    order = OwedSettle(
        wanted=wanted.lower(), payment_hash=payment_hash.lower(), by=by or getpass.getuser(), reason=reason
    )
    out = screen.console()
    return ask(lambda bus: orders.settle(out, bus, order, as_json=as_json), folder, nats, as_json=as_json)


def register(app: App) -> None:
    """Beside the commands that look."""
    app.command(owed)
    for command in (freeze, thaw, write_off, again, end_round, pardon):
        app.command(command)
