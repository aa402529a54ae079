"""The command line: every command, and in which words a network is started, joined and paid for. It decides nothing."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from l402_peer_agent.adversaries.names import Adversary

from l402train import looking_command, orders_command, setup_command
from l402train.containers.command import app as containers_app
from l402train.containers.command import follow
from l402train.exits import MEANINGS, Exit, Stop
from l402train.folder import Folder
from l402train.keys_command import app as keys_app
from l402train.lightning.command import LndDir, bake, macaroon, revoke
from l402train.lightning.command import app as lightning_app
from l402train.options import DEMO_FOLDER, Json
from l402train.running import run, tell

# Each command imports its story when it is called, so that `--help` and `status` answer at once.
# ruff: noqa: PLC0415

Count = Number(gte=0, lte=64)
Rounds = Annotated[int, Parameter(help="Rounds; 0: no limit.", validator=Number(gte=0, lte=100_000))]
Lightning = Annotated[
    Literal["lndsim", "lnd"], Parameter(help="The Lightning network: simulated, or real lnds on a simnet.")
]
Overhear = Annotated[
    bool,
    Parameter(
        negative="",
        help="For debugging: write all that bus and cache are told into logs/nats.log and redis/. It grows without end.",
    ),
]
BLOCK_SECONDS = 20.0
"""A demo on real lnd mines that often: blocks come while money is locked, and no deadline in blocks comes near."""

EPILOGUE = "\n".join(["Exit codes:", *(f"  {code.value:>3}  {sentence}" for code, sentence in MEANINGS.items())])

app = App(
    name="l402-train",
    help="A training network in which every gradient is paid for, both ways, over Lightning.",
    help_epilogue=EPILOGUE,
    help_format="plaintext",
    version_flags=["--version"],
)
app.command(lightning_app)
app.command(bake)
app.command(revoke)
app.command(macaroon)
orders_command.register(app)
looking_command.register(app)
setup_command.register(app)
app.command(keys_app)
app.command(containers_app)
app.command(follow)


@app.command
def demo(
    *,
    rounds: Annotated[int, Parameter(help="Rounds to train.", validator=Number(gte=1, lte=1_000))] = 6,
    peers: Annotated[
        int | None,
        Parameter(
            help="Peers: honest, honest, honest, accomplice, sign-flip, noise, and again; with --adversary: honest ones.",
            validator=Number(gte=1, lte=64),
        ),
    ] = None,
    adversary: Annotated[
        tuple[Adversary, ...],
        Parameter(help="An attack that takes part beside three honest peers; again for more.", negative=""),
    ] = (),
    seed: Annotated[int, Parameter(help="Everybody's keys and the first checkpoint.", validator=Number(gte=0))] = 0,
    json_file: Annotated[
        Path | None, Parameter(name="--json", allow_leading_hyphen=True, help="Write the JSON report there; -: stdout.")
    ] = None,
    keep: Annotated[
        Path | None, Parameter(help="Empty folder for everything; by default demo-report, which is replaced.")
    ] = None,
    lightning: Lightning = "lndsim",
    topology: Annotated[
        Literal["star", "line"],
        Parameter(help="star: each peer has a channel with the coordinator; line: each with the one before it."),
    ] = "star",
    lnd_dir: LndDir = None,
    books: Annotated[str, Parameter(help="Database URL of the settler's books, empty, instead of a SQLite file.")] = "",
    decisions: Annotated[str, Parameter(help="The same of the attestor's decisions.")] = "",
    sponsor: Annotated[
        bool, Parameter(help="A sponsor pledges money for each round, which is taken only where the model got better.")
    ] = True,
    overhear: Overhear = False,
    color: Annotated[bool, Parameter(help="Colors.")] = True,
) -> int:
    """The whole network on this machine: a model gets better, and who made it better is paid."""
    from l402train.demo import demo as story
    from l402train.stack import Plan

    plan = Plan(
        peers=peers or (3 if adversary else 6),
        adversaries=adversary,
        rounds=rounds,
        sponsored=sponsor,
        seed=seed,
        lightning=lightning,
        topology=topology,
        lnd_dir=lnd_dir,
        block_seconds=BLOCK_SECONDS if lightning == "lnd" else 0.0,
        overheard=overhear,
    )
    folder = Folder(keep or DEMO_FOLDER, books_url=books, decisions_url=decisions)
    return run(story(folder, plan, replace=keep is None, json_file=json_file, color=color))


@app.command
def up(
    *,
    folder: Annotated[
        Path | None, Parameter(name="--dir", help="Empty folder for everything; by default a new temporary one.")
    ] = None,
    peers: Annotated[int, Parameter(help="Peers that run here.", validator=Count)] = 0,
    join: Annotated[int, Parameter(help="Nodes for peers that join from elsewhere.", validator=Count)] = 3,
    rounds: Rounds = 0,
    seed: Annotated[int | None, Parameter(help="Keys from a number, for tests; by default random.")] = None,
    port: Annotated[int, Parameter(help="The gateway's port; 0: any.", validator=Number(gte=0, lte=65535))] = 0,
    overhear: Overhear = False,
    as_json: Json = False,
) -> int:
    """Keep a network running for others to join."""
    from l402train.stack import Plan
    from l402train.up import up as story

    plan = Plan(
        peers=peers,
        spare_nodes=tuple(f"guest-{number}" for number in range(1, join + 1)),
        rounds=rounds,
        seed=seed,
        gateway_port=port,
        block_seconds=600.0,
        wait_for_all=peers > 0 and join == 0,
        overheard=overhear,
    )
    root = folder or Path(tempfile.mkdtemp(prefix="l402-train-"))
    return run(story(Folder(root), plan, as_json=as_json), as_json=as_json)


@app.command
def peer(
    *,
    url: Annotated[str, Parameter(help="The gateway's base URL.")],
    lnd: Annotated[str, Parameter(help="Your node: HOST:PORT, or NODES_FILE:NAME of a simulated network.")],
    tls_cert: Annotated[Path | None, Parameter(help="Your node's TLS certificate.")] = None,
    macaroon: Annotated[Path | None, Parameter(help="A macaroon of your node, baked for this.")] = None,
    folder: Annotated[Path, Parameter(name="--dir", help="Where keys and state are kept.")] = Path("l402-peer"),
    name: Annotated[str, Parameter(help="For logs and invoices.")] = "guest",
    rounds: Rounds = 0,
    network: Annotated[str, Parameter(help="The Lightning network it must be.")] = "simnet",
    as_json: Json = False,
) -> int:
    """Join a network with a node of your own. Logs are JSON lines on stderr."""
    from l402train.joining import Join, become_the_agent, prepare

    join = Join(
        url=url,
        lnd=lnd,
        tls_cert=tls_cert,
        macaroon=macaroon,
        directory=folder.absolute(),
        name=name,
        rounds=rounds,
        network=network,
    )

    async def story() -> Exit:
        environment = await prepare(join)
        told = {"gateway": url, "node": environment["L402_PEER_LND_HOST"], "folder": str(join.directory)}
        line = json.dumps(told) if as_json else f"{name} joins {url} with the node at {told['node']}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        become_the_agent(environment)
        return Exit.FINE

    return run(story(), as_json=as_json)


@app.command(name="sponsor")
def sponsor_(
    *,
    url: Annotated[str, Parameter(help="The gateway's base URL.")],
    lnd: Annotated[str, Parameter(help="Your node: HOST:PORT, or NODES_FILE:NAME of a simulated network.")],
    tls_cert: Annotated[Path | None, Parameter(help="Your node's TLS certificate.")] = None,
    macaroon: Annotated[Path | None, Parameter(help="A macaroon of your node, baked for this.")] = None,
    amount_sat: Annotated[int, Parameter(help="Price of one round's progress.", validator=Number(gte=1))] = 20_000,
    rounds: Annotated[int, Parameter(help="Rounds to pledge for.", validator=Number(gte=1, lte=255))] = 1,
    margin: Annotated[
        float,
        Parameter(
            help="Nats per token by which a round's checkpoint must beat its parent, three standard errors to spare.",
            validator=Number(gt=0, lte=1),
        ),
    ] = 0.02,
    attestor: Annotated[str, Parameter(help="The oracle's public key; by default that of its announcement.")] = "",
    folder: Annotated[Path, Parameter(name="--dir", help="Where the pledge is kept; the same folder goes on.")] = Path(
        "l402-sponsor"
    ),
    key_file: Annotated[Path | None, Parameter(help="Your key; by default sponsor.json in the folder.")] = None,
    fee_limit_sat: Annotated[
        int, Parameter(help="Routing fee of one tranche, at most.", validator=Number(gte=0))
    ] = 100,
    network: Annotated[str, Parameter(help="The Lightning network it must be.")] = "simnet",
    as_json: Json = False,
) -> int:
    """Pledge money for rounds that make the model better, pay each tranche as it comes, and tell what became of it."""
    from l402train.joining import node_of
    from l402train.sponsor import Order
    from l402train.sponsor import sponsor as story_of

    directory = folder.absolute()

    async def story() -> Exit:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        order = Order(
            url=url.rstrip("/"),
            node=await node_of(lnd, tls_cert, macaroon, directory=directory, role="sponsor"),
            directory=directory,
            key_file=key_file or directory / "sponsor.json",
            network=network,
            amount_msat=amount_sat * 1_000,
            tranches=rounds,
            margin=round(margin * 1_000_000_000),
            attestor=attestor,
            fee_limit_msat=fee_limit_sat * 1_000,
        )
        return await story_of(order, as_json=as_json)

    return run(story(), as_json=as_json)


def main() -> None:
    """The entry point."""
    words = sys.argv[1:]
    try:
        answer = app(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        named = f" {words[0]}" if words and not words[0].startswith("-") and words[0] in app else ""
        stop = Stop(Exit.USAGE, f"{' '.join(str(error).split())} See: l402-train{named} --help")
        sys.exit(tell(stop, as_json="--json" in words and "demo" not in words))
    sys.exit(answer if isinstance(answer, int) else int(Exit.FINE))
