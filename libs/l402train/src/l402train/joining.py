"""`l402-train peer`: take part in a network that runs elsewhere, with a node of one's own."""

import asyncio
import json
import os
import secrets
import sys
from pathlib import Path

import msgspec
from l402core.lnd.wire import LndEndpoint

from l402train import credentials, services
from l402train.exits import Exit, Stop, stop_for
from l402train.folder import Folder


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line said."""

    url: str
    lnd: str
    """`HOST:PORT`, or `NODES_FILE:NAME` of a simulated network."""
    tls_cert: Path | None
    macaroon: Path | None
    directory: Path
    name: str
    rounds: int
    network: str


async def prepare(join: Join) -> dict[str, str]:
    """Keys and a macaroon in the peer's folder; returns the agent's environment. Raises Stop, Unavailable."""
    if await asyncio.to_thread(services.readiness, join.url.rstrip("/")) is None:
        raise Stop(Exit.NOT_FOUND, f"no gateway answers at {join.url}; is the URL right, and does the network run?")
    try:
        join.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise stop_for(error, join.directory) from error
    key_file = join.directory / "peer.json"
    if not key_file.exists():
        pair = {"identity": secrets.token_hex(32), "sealing": secrets.token_hex(32)}
        Folder.write_private(key_file, msgspec.json.encode(pair) + b"\n")
    node = await node_of(join.lnd, join.tls_cert, join.macaroon, directory=join.directory, role="peer")
    told = {
        "name": join.name,
        "gateway_url": join.url.rstrip("/"),
        "key_file": key_file,
        "data_dir": join.directory,
        "trace_file": join.directory / "traces.jsonl",
        "rounds": join.rounds,
        "lnd_host": node.host,
        "lnd_tls_cert": node.tls_cert_path,
        "lnd_macaroon": node.macaroon_path,
        "lnd_network": join.network,
    }
    return {**services.base_environment(), **{f"L402_PEER_{key.upper()}": str(value) for key, value in told.items()}}


async def node_of(lnd: str, tls_cert: Path | None, macaroon: Path | None, *, directory: Path, role: str) -> LndEndpoint:
    """The node as given, or one of a simulated network with a macaroon baked for this role. Raises Stop, Unavailable."""
    if tls_cert is not None and macaroon is not None:
        for option, path in (("--tls-cert", tls_cert), ("--macaroon", macaroon)):
            if not os.access(path, os.R_OK):
                raise Stop(Exit.USAGE, f"{option} {path} cannot be read")
        return LndEndpoint(host=lnd, tls_cert_path=tls_cert, macaroon_path=macaroon)
    file, _, name = lnd.rpartition(":")
    try:
        node = json.loads(Path(file).read_bytes())[name]  # noqa: ASYNC240 - one short file, nothing else runs
    except (OSError, json.JSONDecodeError) as error:
        raise Stop(
            Exit.USAGE,
            f"--lnd {lnd}: give HOST:PORT with --tls-cert and --macaroon, or NODES_FILE:NAME of a simulated network",
        ) from error
    except KeyError as error:
        raise Stop(Exit.NOT_FOUND, f"{file} lists no node called {name}") from error
    admin = credentials.endpoint_of(node)
    baked = directory / f"{role}.macaroon"
    await credentials.bake(admin, credentials.ALLOWED[role], baked)
    return LndEndpoint(host=admin.host, tls_cert_path=admin.tls_cert_path, macaroon_path=baked)


def become_the_agent(environment: dict[str, str]) -> None:
    """This process goes on as the peer agent, so that signals reach it."""
    os.execve(sys.executable, services.command("peer"), environment)  # noqa: S606 - our own module, no shell
