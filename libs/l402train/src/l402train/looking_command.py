"""What a person asks of a network that runs or has run, and in which words: `status`, `trace`, `ledger`, `explain`,
`rungs`, `channels`, `verify-receipt`, `reconcile` and `config`.

It decides nothing.
"""

import asyncio
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from l402train.exits import Exit
from l402train.folder import Folder
from l402train.options import DEMO_FOLDER, Books, Dir, Json, Nats, ask, books_at
from l402train.running import run

# Each command imports its story when it is called, so that `--help` and `status` answer at once.
# ruff: noqa: PLC0415


def register(app: App) -> None:
    """All of them, as commands of the whole."""
    for command in (status, trace, ledger, explain, rungs, channels, verify_receipt, reconcile, config):
        app.command(command)


def status(
    *,
    folder: Annotated[Path | None, Parameter(name="--dir", help="Folder of a running network.")] = None,
    url: Annotated[str | None, Parameter(help="A gateway's base URL, instead.")] = None,
    as_json: Json = False,
) -> int:
    """Which parts answer, and where the current round stands."""
    from l402train import looking, screen

    where = Folder(folder) if folder else None if url else Folder(DEMO_FOLDER)

    async def story() -> Exit:
        return await asyncio.to_thread(looking.status, screen.console(), folder=where, url=url, as_json=as_json)

    return run(story(), as_json=as_json)


def trace(
    trace_id: Annotated[
        str,
        Parameter(
            help="A trace id, the beginning of one, `latest` (the submission paid last), or `sponsor` (the last pledge)."
        ),
    ] = "latest",
    /,
    *,
    folder: Dir = DEMO_FOLDER,
    every_span: Annotated[bool, Parameter(name="--all", negative="", help="Every span, plumbing included.")] = False,
    as_json: Json = False,
) -> int:
    """One payment's whole life, or a sponsorship's, step by step."""
    from l402train import looking, screen

    async def story() -> Exit:
        return looking.trace(
            screen.console(), folder=Folder(folder), wanted=trace_id, every_span=every_span, as_json=as_json
        )

    return run(story(), as_json=as_json)


def ledger(
    *,
    folder: Dir = DEMO_FOLDER,
    books: Books = None,
    account: Annotated[
        str | None, Parameter(help="A statement of this account; the beginning of its name will do.")
    ] = None,
    export: Annotated[
        Path | None, Parameter(help="Write the journal, or the account's lines, to this .csv or .json file.")
    ] = None,
    as_json: Json = False,
) -> int:
    """The books: trial balance, a statement of one account, the journal as a file."""
    from l402train import looking, screen

    where = books_at(folder, books)

    async def story() -> Exit:
        return looking.ledger(screen.console(), where=where, account=account, export=export, as_json=as_json)

    return run(story(), as_json=as_json)


def explain(
    submission: Annotated[
        str,
        Parameter(
            help="A commitment, a payment hash of its fee, of a rung, of a tranche or of what was explained as outside of the "
            "protocol, a trace id, a beginning, or `latest`."
        ),
    ] = "latest",
    /,
    *,
    folder: Dir = DEMO_FOLDER,
    books: Books = None,
    as_json: Json = False,
) -> int:
    """One submission's whole story: offer, rungs, lock, score, decision, ledger lines, and why this amount; or a tranche's."""
    from l402train import looking, screen

    where = books_at(folder, books)

    async def story() -> Exit:
        return looking.explain(screen.console(), where=where, wanted=submission, as_json=as_json)

    return run(story(), as_json=as_json)


def rungs(*, folder: Dir = DEMO_FOLDER, books: Books = None, as_json: Json = False) -> int:
    """Rewards that are locked and have not ended: for whom, and at which block each HTLC expires, the nearest first."""
    from l402train import looking, screen

    async def story() -> Exit:
        return looking.rungs(screen.console(), where=books_at(folder, books), as_json=as_json)

    return run(story(), as_json=as_json)


def channels(*, folder: Dir = DEMO_FOLDER, nats: Nats = None, as_json: Json = False) -> int:
    """The coordinator's channels: balances, slots, what flowed over them, and what stands against a full next round."""
    from l402train import looking, screen

    out = screen.console()
    return ask(lambda bus: looking.channels(out, bus, as_json=as_json), folder, nats, as_json=as_json)


def verify_receipt(
    source: Annotated[
        str,
        Parameter(
            help="A file that `demo` or a peer kept, or an attestor's URL: …/v1/receipts/COMMITMENT or …/v1/rounds/NUMBER."
        ),
    ],
    /,
    *,
    whole_round: Annotated[bool, Parameter(name="--round", help="Audit every receipt of the round.")] = False,
    rerun: Annotated[bool, Parameter(help="Measure the payloads again, which needs torch.")] = False,
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="Where to measure again.")] = "cpu",
    objects: Annotated[
        str, Parameter(help="Folder or gateway URL with payloads, losses and checkpoints; by default beside the file.")
    ] = "",
    attestor: Annotated[
        str, Parameter(help="The oracle's public key, if you know it; else the one of the terms.")
    ] = "",
    settler: Annotated[str, Parameter(help="The settler's public key, if you know it.")] = "",
    as_json: Json = False,
) -> int:
    """Judge the judge: signature, chain, shards, statistics and pay of a receipt, offline; with --rerun the measurement."""
    from l402train import auditing, screen

    wanted = auditing.Wanted(
        source=source, settler=settler, attestor=attestor, objects=objects, whole_round=whole_round, rerun=rerun,
        device=device,
    )  # fmt: skip

    async def story() -> Exit:
        return await asyncio.to_thread(auditing.verify_receipt, screen.console(), wanted, as_json=as_json)

    return run(story(), as_json=as_json)


def reconcile(*, folder: Dir = DEMO_FOLDER, nats: Nats = None, as_json: Json = False) -> int:
    """The books against the coordinator's node, compared now; exit code 1 where they contradict each other."""
    from l402train import comparing, screen

    out = screen.console()
    return ask(lambda bus: comparing.reconcile(out, bus, as_json=as_json), folder, nats, as_json=as_json)


def config(
    service: Annotated[str | None, Parameter(help="Only this service's.")] = None, /, *, as_json: Json = False
) -> int:
    """Every knob of every service: variable, default, bounds, and what it is."""
    from l402train import looking, screen

    async def story() -> Exit:
        return looking.config(screen.console(), service=service, as_json=as_json)

    return run(story(), as_json=as_json)
