"""`l402-train containers ...` and `follow`: what `compose.yaml` runs once, and how its rounds are watched."""

import asyncio
import http.client
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from l402train.exits import Exit
from l402train.folder import Folder
from l402train.running import run

# Each command imports its story when it is called, so that `--help` answers at once.
# ruff: noqa: PLC0415

app = App(name="containers", help="What compose.yaml runs before the services: secrets, coins and channels, blocks.")
Secrets = Annotated[Path, Parameter(name="--secrets", help="Folder with a folder, or a mounted volume, for each part.")]
Peers = Annotated[int, Parameter(help="How many peers the network has.", validator=Number(gte=1, lte=64))]


@app.command
def secrets(*, into: Secrets = Path("/secrets"), peers: Peers = 3) -> int:
    """Make every key and password once; what is there stays."""
    from l402train.containers.shelves import Shelves
    from l402train.peers import names

    async def story() -> Exit:
        made = Shelves(into, names(peers)).fill()
        _say("secrets: made" if made else "secrets: there already")
        return Exit.FINE

    return run(story(), as_json=False)


@app.command
def lightning(
    *,
    secrets_at: Secrets = Path("/secrets"),
    nodes_at: Annotated[Path, Parameter(name="--nodes", help="Folder with each lnd's own folder.")] = Path("/lnd"),
    peers: Peers = 3,
) -> int:
    """Fund the nodes, open the channels, bake the services' macaroons; what is funded stays."""
    from l402train.containers.lightning import prepare
    from l402train.containers.shelves import Shelves
    from l402train.peers import names

    async def story() -> Exit:
        await prepare(Shelves(secrets_at, names(peers)), secrets_at, nodes_at, _say)
        return Exit.FINE

    return run(story(), as_json=False)


@app.command
def mine(
    *,
    secrets_at: Secrets = Path("/secrets"),
    every_s: Annotated[float, Parameter(help="Seconds from block to block.", validator=Number(gte=1))] = 30.0,
) -> int:
    """Mine a block now and then, until a signal: a simnet has no other miner."""
    from l402train.containers.lightning import chain_of

    async def story() -> Exit:
        btcd = chain_of(secrets_at)
        while True:
            try:
                await asyncio.to_thread(btcd.mine, 1)
            except (OSError, http.client.HTTPException, RuntimeError) as error:
                _say(f"no block: {error}")  # btcd may be on its way back
            await asyncio.sleep(every_s)

    return run(story(), as_json=False)


def follow(
    *,
    folder: Annotated[Path, Parameter(name="--dir", help="Folder of a network that `up` made.")] = Path("demo-report"),
    nats: Annotated[str | None, Parameter(name="--nats", help="The network's bus, instead of a folder.")] = None,
    identities: Annotated[
        Path | None, Parameter(help="JSON list of peers' public keys, to name them by number.")
    ] = None,
    rounds: Annotated[
        int, Parameter(help="How many, from the current one on.", validator=Number(gte=1, lte=1_000))
    ] = 3,
    color: Annotated[bool, Parameter(help="Colors.")] = True,
) -> int:
    """Watch rounds of a network that runs elsewhere, and compare its books with its node; exit code 1 where they differ."""
    from l402train.containers.following import follow as story_of

    async def story() -> Exit:
        return await story_of(Folder(folder).operator_url(nats), rounds, identities, color=color)

    return run(story(), as_json=False)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
