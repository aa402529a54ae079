"""`l402-train lightning ...`: what can be asked of real nodes, and in which words. It decides nothing."""

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from l402train.options import Json
from l402train.running import run

# Each command imports its story when it is called, so that `--help` answers at once.
# ruff: noqa: PLC0415

app = App(name="lightning", help="Real lnd nodes on a simnet of their own.")
LndDir = Annotated[
    Path | None, Parameter(help="Folder with lnd and btcd; by default what `make tools` built, or the PATH.")
]


@app.command
def up(
    *,
    nodes: Annotated[int, Parameter(help="How many lnds.", validator=Number(gte=1, lte=32))] = 2,
    topology: Annotated[
        Literal["star", "line"], Parameter(help="star: all channels from the first node; line: each to the next.")
    ] = "star",
    folder: Annotated[
        Path | None, Parameter(name="--dir", help="Empty folder for everything; by default a new temporary one.")
    ] = None,
    lnd_dir: LndDir = None,
    capacity_sat: Annotated[
        int, Parameter(help="Of every channel; half of it is pushed to the other side.")
    ] = 10_000_000,
    block_seconds: Annotated[
        float, Parameter(help="Mine a block that often; 0: never.", validator=Number(gte=0))
    ] = 0.0,
    as_json: Json = False,
) -> int:
    """Start btcd and lnds with funded, balanced channels, say how to reach each, and run until Ctrl-C."""
    from l402train.lightning.plan import Plan, joined, named
    from l402train.lightning.serve import up as story

    names = named(nodes)
    plan = Plan(
        dir=(folder or Path(tempfile.mkdtemp(prefix="l402-lightning-"))).absolute(),
        nodes=names,
        channels=joined(names, topology),
        capacity_sat=capacity_sat,
        push_sat=capacity_sat // 2,
        block_seconds=block_seconds,
        lnd_dir=lnd_dir,
    )
    return run(story(plan, as_json=as_json), as_json=as_json)


def bake(
    roles: Annotated[str, Parameter(help="Services, separated by commas: invoicer, settler, attestor, peer, sponsor.")],
    /,
    *,
    lnd: Annotated[str, Parameter(help="The node: HOST:PORT.")],
    tls_cert: Annotated[Path, Parameter(help="Its TLS certificate.")],
    macaroon: Annotated[Path, Parameter(help="A macaroon that may bake others, such as admin.macaroon.")],
    into: Annotated[Path, Parameter(help="Folder for SERVICE.macaroon, each of mode 0600.")],
    as_json: Json = False,
) -> int:
    """Bake one macaroon per service at your node, for the calls it makes and no other, and print them."""
    from l402core.lnd.wire import LndEndpoint

    from l402train.lightning.baking import Order
    from l402train.lightning.baking import bake as story

    order = Order(
        node=LndEndpoint(lnd, tls_cert, macaroon),
        roles=tuple(role.strip() for role in roles.split(",") if role.strip()),
        into=into.absolute(),
    )
    return run(story(order, as_json=as_json), as_json=as_json)


def revoke(
    root_key: Annotated[str, Parameter(help="Its number, as `bake` and `macaroon` tell it.")],
    /,
    *,
    lnd: Annotated[str, Parameter(help="The node: HOST:PORT.")],
    tls_cert: Annotated[Path, Parameter(help="Its TLS certificate.")],
    macaroon: Annotated[Path, Parameter(help="A macaroon that may delete others, such as admin.macaroon.")],
    into: Annotated[
        Path, Parameter(help="Folder of the services' macaroons: none of them may be under this root key.")
    ],
    force: Annotated[str, Parameter(help="The same number once more: revoke it though a service has it.")] = "",
    as_json: Json = False,
) -> int:
    """Revoke every macaroon under one root key of your node: one that was replaced, or stolen."""
    from l402core.lnd.wire import LndEndpoint

    from l402train.lightning.baking import revoke as story

    node = LndEndpoint(lnd, tls_cert, macaroon)
    return run(story(node, root_key, into.absolute(), forced=force, as_json=as_json), as_json=as_json)


def macaroon(
    file: Annotated[Path, Parameter(help="A macaroon of lnd's, as a file.")],
    /,
    *,
    service: Annotated[
        str | None, Parameter(help="Compare with what this service needs: invoicer, settler, attestor or peer.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Print what a macaroon opens; with a service, what of it is too much or missing, and exit 1 where something is."""
    from l402train.lightning.baking import inspect as story

    return run(story(file.absolute(), service, as_json=as_json), as_json=as_json)
