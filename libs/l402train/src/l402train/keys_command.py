"""`l402-train keys ...`: which keys there are, new ones, and the end of old ones, in which words. It decides nothing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from l402train.exits import Exit
from l402train.folder import Folder
from l402train.options import DEMO_FOLDER, Books, Dir, Json, books_at
from l402train.running import run

if TYPE_CHECKING:
    from l402train import rotating

# Each command imports its story when it is called, so that `--help` answers at once.
# ruff: noqa: PLC0415

app = App(name="keys", help="Keys: which there are, new ones, and the end of old ones.")
RingKind = Literal["gateway", "preimages", "attestor", "settler", "reading", "sealing", "seed", "answers"]
RingName = Annotated[
    RingKind,
    Parameter(
        help="gateway: L402 root keys. preimages: the oracle's, of rewards and tranches. attestor, settler: what they sign "
        "with. reading: the workers', of payloads. sealing: the settler's, of earned tranches. seed: the oracle's, of rounds. "
        "answers: the oracle's, which workers seal theirs to."
    ),
]
File = Annotated[Path | None, Parameter(name="--file", help="The key file, instead of the folder's.")]
Vouching = Annotated[
    Path | None, Parameter(help="For `reading`: the attestor's key file, which vouches; else the one beside it.")
]
FILES = {
    "gateway": "gateway.json", "preimages": "attestor.json", "attestor": "attestor.json", "settler": "settler.json",
    "reading": "worker.json", "sealing": "settler.json", "seed": "attestor.json",
    "answers": "attestor.json",
}  # fmt: skip


def _ring(name: RingKind, folder: Path, file: Path | None, vouching: Path | None = None) -> "rotating.Ring":
    from l402train import rotating, rotating_named

    path = file or Folder(folder).keys / FILES[name]
    match name:
        case "gateway":
            return rotating.gateway_ring(path)
        case "preimages":
            return rotating.preimage_ring(path)
        case "attestor" | "settler":
            return rotating_named.signing_ring(name, path)
        case "reading":
            return rotating_named.reading_ring(path, vouching or path.parent / FILES["attestor"])
        case "sealing":
            return rotating_named.sealing_ring(path)
        case "seed":
            return rotating_named.seed_ring(path)
        case "answers":
            return rotating_named.answers_ring(path, path.parent / FILES["reading"])


@app.command(name="list")
def list_(
    ring: RingName, /, *, folder: Dir = DEMO_FOLDER, file: File = None, books: Books = None, as_json: Json = False
) -> int:
    """Each key by its id, which one is active, and how much still depends on it."""
    from l402train import screen

    async def story() -> Exit:
        states = _ring(ring, folder, file).states(books_at(folder, books))
        out = screen.console()
        if as_json:
            screen.show_json(out, states)
        for one in states if not as_json else ():
            use = "active" if one.active else "for what is open"
            out.print(f"{one.id}  {use}, {one.open} open", soft_wrap=True)
        return Exit.FINE

    return run(story(), as_json=as_json)


@app.command
def rotate(
    ring: RingName, /, *, folder: Dir = DEMO_FOLDER, file: File = None, vouching: Vouching = None, as_json: Json = False
) -> int:  # fmt: skip
    """Make a new key for what begins from now on; what is open goes on under the old one. Nothing is restarted."""
    from l402train import rotating, screen

    async def story() -> Exit:
        made = _ring(ring, folder, file, vouching).rotate(now_ms=rotating.now_ms())
        out = screen.console()
        if as_json:
            out.print_json(json.dumps({"ring": ring, "active": made}))
        else:
            out.print(f"{made} is the active key of {ring}: its service reads the file again by itself", soft_wrap=True)
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
        _ring(ring, folder, file).retire(key, books_at(folder, books), forced=force, now_ms=rotating.now_ms())
        out = screen.console()
        if as_json:
            out.print_json(json.dumps({"ring": ring, "retired": key}))
        else:
            out.print(f"{key} is gone from {ring}", soft_wrap=True)
        return Exit.FINE

    return run(story(), as_json=as_json)
