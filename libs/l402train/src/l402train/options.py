"""Options that several commands have, each in the same words, and how a question is put to a network. It knows no command."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from l402train.exits import Exit
from l402train.folder import Folder
from l402train.running import run

Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON document on stdout instead of text.")]
Dir = Annotated[Path, Parameter(name="--dir", help="Folder of a network that `up` or `demo` made.")]
Nats = Annotated[str | None, Parameter(name="--nats", help="The network's bus, instead of a folder.")]
Books = Annotated[str | None, Parameter(help="SQLAlchemy URL of the settler's database, instead of a folder.")]
DEMO_FOLDER = Path("demo-report")


def ask(question: Callable[[str], Coroutine[Any, Any, Exit]], folder: Path, nats: str | None, *, as_json: bool) -> int:
    """Put it to the network of this folder, or on this bus."""

    async def story() -> Exit:
        return await question(Folder(folder).operator_url(nats))

    return run(story(), as_json=as_json)


def books_at(folder: Path, books: str | None) -> Path | str:
    """The settler's: this database, or the folder's file."""
    return books or Folder(folder).settler / "books.sqlite3"
