"""The command line: what can be asked, and in which words. It decides nothing."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from l402train.exits import MEANINGS, Exit
from l402train.folder import Folder
from l402train.running import run
from l402train.stack import Plan

Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON document on stdout instead of text.")]
Dir = Annotated[Path, Parameter(help="Folder of a network that `up` or `demo` made.")]

EPILOGUE = "Exit codes: " + "; ".join(f"{code.value} {sentence}" for code, sentence in MEANINGS.items()) + "."

app = App(
    name="l402-train",
    help="A training network in which every gradient is paid for, both ways, over Lightning.",
    help_epilogue=EPILOGUE,
    version_flags=["--version"],
)


@app.command
def up(
    *,
    dir: Annotated[Path, Parameter(help="Empty folder for everything; a new temporary one by default.")] | None = None,
    peers: Annotated[int, Parameter(help="Peers that run here.", validator=Number(gte=0, lte=64))] = 0,
    join: Annotated[int, Parameter(help="Nodes for peers that join.", validator=Number(gte=0, lte=64))] = 3,
    rounds: Annotated[int, Parameter(help="Rounds to run; 0: no limit.", validator=Number(gte=0))] = 0,
    seed: Annotated[int | None, Parameter(help="Keys from a number, for tests; random by default.")] = None,
    port: Annotated[int, Parameter(help="The gateway's port; 0: any.", validator=Number(gte=0, lte=65535))] = 0,
    as_json: Json = False,
) -> int:
    """Keep a network running for others to join."""
    from l402train.up import up as story  # noqa: PLC0415 - each command loads only what it needs

    root = dir or Path(tempfile.mkdtemp(prefix="l402-train-"))
    plan = Plan(
        peers=peers,
        spare_nodes=tuple(f"guest-{number}" for number in range(1, join + 1)),
        rounds=rounds,
        seed=seed,
        gateway_port=port,
        block_seconds=600.0,
        wait_for_all=peers > 0 and join == 0,
    )
    return run(story(Folder(root), plan, as_json=as_json), as_json=as_json)


def main() -> None:
    """The entry point."""
    try:
        answer = app(exit_on_error=False)
    except Exception:  # noqa: BLE001 - cyclopts has printed it
        sys.exit(int(Exit.USAGE))
    sys.exit(answer if isinstance(answer, int) else int(Exit.FINE))
