"""What a person asks of where money stands, and in which words: `rungs`, `channels`. It changes nothing."""

import json

from cyclopts import App

from l402train.exits import Exit
from l402train.folder import Folder
from l402train.orders_command import DEMO_FOLDER, Books, Dir, Json, Nats, ask
from l402train.running import run

# Each command imports its story when it is called, so that `--help` answers at once.
# ruff: noqa: PLC0415


def rungs(*, folder: Dir = DEMO_FOLDER, books: Books = None, as_json: Json = False) -> int:
    """Rewards that are locked and have not ended: for whom, and at which block each HTLC expires, the nearest first."""
    from l402train import open_rungs, screen

    async def story() -> Exit:
        found = open_rungs.open_rungs(books or Folder(folder).settler / "books.sqlite3")
        return open_rungs.tell(screen.console(), found, as_json=as_json)

    return run(story(), as_json=as_json)


def channels(*, folder: Dir = DEMO_FOLDER, nats: Nats = None, as_json: Json = False) -> int:
    """The coordinator's channels: balances, slots, what flowed over them, and what stands against a full next round."""
    import msgspec

    from l402train import channel_tables, screen
    from l402train import channels as channels_

    out = screen.console()

    async def question(bus: str) -> Exit:
        view = await channels_.now(bus)
        if as_json:
            out.print_json(json.dumps(msgspec.to_builtins(view)))
        else:
            channel_tables.tell(out, view)
        return Exit.FINE

    return ask(question, folder, nats, as_json=as_json)


def register(app: App) -> None:
    """Beside the orders."""
    app.command(rungs)
    app.command(channels)
