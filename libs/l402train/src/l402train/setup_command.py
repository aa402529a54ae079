"""`l402-train migrate` and `bus-users`: what is set up before services start, and in which words. It decides nothing."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from l402train.exits import Exit, Stop, stop_for
from l402train.options import Json
from l402train.running import run

# Each command imports its story when it is called, so that `--help` answers at once.
# ruff: noqa: PLC0415

InFile = Annotated[Path | None, Parameter(help="A mounted file that holds it instead: it has a password.")]


def register(app: App) -> None:
    """Both, as commands of the whole."""
    app.command(migrate)
    app.command(bus_users)


def migrate(
    *,
    nats_url: Annotated[str, Parameter(help="NATS server with JetStream.")] = "",
    books: Annotated[str, Parameter(help="SQLAlchemy URL of the settler's database.")] = "",
    decisions: Annotated[str, Parameter(help="SQLAlchemy URL of the attestor's database.")] = "",
    nats_url_file: InFile = None,
    books_file: InFile = None,
    decisions_file: InFile = None,
    replicas: Annotated[int, Parameter(help="Of each stream.", validator=Number(gte=1, lte=5))] = 1,
    as_json: Json = False,
) -> int:
    """Declare streams, consumers and tables; safe to run again."""
    from l402train.migration import migrate as story_of

    async def story() -> Exit:
        count = await story_of(
            _one("--nats-url", nats_url, nats_url_file),
            books_url=_one("--books", books, books_file),
            decisions_url=_one("--decisions", decisions, decisions_file),
            replicas=replicas,
        )
        line = json.dumps({"consumers": count}) if as_json else f"{count} consumers and both databases are up to date"
        sys.stdout.write(line + "\n")
        return Exit.FINE

    return run(story(), as_json=as_json)


def _one(option: str, value: str, file: Path | None) -> str:
    """The value itself, or the content of a mounted file. Raises Stop."""
    if bool(value) == (file is not None):
        raise Stop(Exit.USAGE, f"name {option} or {option}-file, one of the two")
    if file is None:
        return value
    try:
        return file.read_text().strip()
    except OSError as error:
        raise stop_for(error, file) from error


def bus_users(
    *,
    passwords: Annotated[Path, Parameter(help='JSON file {"gateway": PASSWORD, …}, a password for each user.')],
) -> int:
    """Print NATS's `authorization` block: a user per service, with the rights that its part in the events gives it."""
    import msgspec
    from l402core.rights import USERS

    from l402train.bus_users import block, read

    async def story() -> Exit:
        try:
            told = read(passwords)
        except OSError as error:
            raise stop_for(error, passwords) from error
        except msgspec.DecodeError as error:
            raise Stop(Exit.USAGE, f"{passwords} is not a JSON object of passwords: {error}") from error
        if set(told) != set(USERS) or not all(one.reveal() for one in told.values()):
            raise Stop(Exit.USAGE, f"{passwords} must have a password for each of {', '.join(USERS)}, and no other")
        sys.stdout.write(block(told))
        return Exit.FINE

    return run(story(), as_json=False)
