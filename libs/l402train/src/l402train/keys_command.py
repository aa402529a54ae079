"""`l402-train keys ...`: which keys there are, new ones, and the end of old ones, in which words. It decides nothing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from l402train.exits import Exit
from l402train.folder import Folder
from l402train.running import run

if TYPE_CHECKING:
    from l402train import rotating

# Each command imports its story when it is called, so that `--help` answers at once.
# ruff: noqa: PLC0415

app = App(name="keys", help="Keys: which there are, new ones, and the end of old ones.")
RingName = Annotated[
    Literal["gateway", "preimages"],
    Parameter(help="gateway: L402 root keys. preimages: the oracle's, of rewards and tranches."),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON document on stdout instead of text.")]
Dir = Annotated[Path, Parameter(name="--dir", help="Folder of a network that `up` or `demo` made.")]
File = Annotated[Path | None, Parameter(name="--file", help="The key file, instead of the folder's.")]
Books = Annotated[str | None, Parameter(help="SQLAlchemy URL of the settler's database, instead of the folder's.")]
FILES = {"gateway": "gateway.json", "preimages": "attestor.json"}
DEMO_FOLDER = Path("demo-report")


def _ring(name: str, folder: Path, file: Path | None) -> "rotating.Ring":
    from l402train import rotating

    make = {"gateway": rotating.gateway_ring, "preimages": rotating.preimage_ring}[name]
    return make(file or Folder(folder).keys / FILES[name])


def _books(folder: Path, books: str | None) -> Path | str:
    return books or Folder(folder).settler / "books.sqlite3"


@app.command(name="list")
def list_(
    ring: RingName, /, *, folder: Dir = DEMO_FOLDER, file: File = None, books: Books = None, as_json: Json = False
) -> int:
    """Each key by its id, which one is active, and how much still depends on it."""
    from l402train import screen

    async def story() -> Exit:
        states = _ring(ring, folder, file).states(_books(folder, books))
        out = screen.console()
        if as_json:
            out.print_json(json.dumps(msgspec.to_builtins(states)))
        for one in states if not as_json else ():
            use = "active" if one.active else "for what is open"
            out.print(f"{one.id}  {use}, {one.open} open", soft_wrap=True)
        return Exit.FINE

    return run(story(), as_json=as_json)


@app.command
def rotate(ring: RingName, /, *, folder: Dir = DEMO_FOLDER, file: File = None, as_json: Json = False) -> int:
    """Make a new key for what begins from the service's next start on; what is open goes on under the old one."""
    from l402train import rotating, screen

    async def story() -> Exit:
        made = _ring(ring, folder, file).rotate(now_ms=rotating.now_ms())
        out = screen.console()
        if as_json:
            out.print_json(json.dumps({"ring": ring, "active": made}))
        else:
            service = "gateway" if ring == "gateway" else "attestor"
            out.print(f"{made} is the active key of {ring} once the {service} has started again", soft_wrap=True)
        return Exit.FINE

    return run(story(), as_json=as_json)


@app.command
def retire(
    ring: RingName,
    key: Annotated[str, Parameter(help="Its id, as `list` tells it.")],
    /,
    *,
    force: Annotated[str, Parameter(help="The same id once more: drop it though something depends on it.")] = "",
    folder: Dir = DEMO_FOLDER,
    file: File = None,
    books: Books = None,
    as_json: Json = False,
) -> int:
    """Drop an old key for good; refused while anything open depends on it."""
    from l402train import rotating, screen

    async def story() -> Exit:
        _ring(ring, folder, file).retire(key, _books(folder, books), forced=force, now_ms=rotating.now_ms())
        out = screen.console()
        if as_json:
            out.print_json(json.dumps({"ring": ring, "retired": key}))
        else:
            out.print(f"{key} is gone from {ring}", soft_wrap=True)
        return Exit.FINE

    return run(story(), as_json=as_json)
