"""Real lnds as the product starts them (`python -m l402train.lightning`), for tests. It adds no way of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import msgspec
from l402core.lnd.wire import LndEndpoint
from l402train.exits import Stop
from l402train.lightning import programs
from l402train.lightning.btcd import Btcd
from l402train.lightning.plan import Plan
from l402train.lightning.serve import write_plan
from lndgrpc.compiled import invoices_pb2_grpc, lightning_pb2_grpc

ROOT = Path(__file__).parents[2]
STOP_TIMEOUT_S = 40.0


class StartError(Exception):
    """The network did not start; the message carries what it said."""


@dataclass(frozen=True)
class LndNetwork:
    """A running network; `nodes` is what its `nodes.json` says."""

    nodes: dict[str, Any]
    btcd: Btcd
    ready: dict[str, Any]
    """What it said when it was ready."""

    def endpoint(self, name: str, macaroon: str = "admin") -> LndEndpoint:
        """A node, with one of the macaroons that lnd makes."""
        node = self.nodes[name]
        return LndEndpoint(node["host"], Path(node["tls_cert"]), Path(node["macaroons"][macaroon]))


@dataclass(frozen=True)
class Lnd:
    """One running lnd with its blocking gRPC stubs; each call carries the admin macaroon."""

    rpc: str
    pubkey: str
    lightning: Any
    invoices: Any


def tools_bin() -> Path:
    """Where `make tools` puts its programs."""
    return Path(os.environ.get("L402_TOOLS_DIR", ROOT / ".tools")) / "bin"


def lnd_is_there() -> bool:
    """Whether lnd and btcd can be found."""
    try:
        programs.find()
    except Stop:
        return False
    return True


def lightning_is_built() -> bool:
    """Whether lnd, btcd and the zpay32 decoder are there."""
    return lnd_is_there() and (tools_bin() / "zpay32").is_file()


@contextmanager
def running_network(plan: Plan) -> Iterator[LndNetwork]:
    """Everything of the plan below its folder; all programs are stopped at the end. Raises StartError."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "plan.json"
        write_plan(plan, file)
        command = [sys.executable, "-m", "l402train.lightning", str(file)]
        with (
            (Path(scratch) / "errors").open("w+") as errors,
            subprocess.Popen(
                [*_ending_with_us(), *command], stdout=subprocess.PIPE, stderr=errors, text=True
            ) as process,
        ):
            try:
                yield _ready(process, Path(scratch) / "errors")
            finally:
                process.terminate()
                process.wait(STOP_TIMEOUT_S)


def _ending_with_us() -> list[str]:
    """A prefix that ends a program when this process is killed and cannot end it itself; nothing where there is none."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _ready(process: subprocess.Popen[str], errors: Path) -> LndNetwork:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(STOP_TIMEOUT_S)
        raise StartError(errors.read_text())
    told = json.loads(line)
    btcd = msgspec.json.decode(Path(told["btcd"]).read_bytes(), type=Btcd, dec_hook=lambda kind, value: kind(value))
    return LndNetwork(json.loads(Path(told["nodes"]).read_text()), btcd, told)


@contextmanager
def running_lnd(folder: Path) -> Iterator[Lnd]:
    """One lnd without a channel, its data below `folder`. Raises StartError."""
    with running_network(Plan(dir=folder / "network", nodes=("lnd",))) as network:
        node = network.nodes["lnd"]
        with _channel(network.endpoint("lnd")) as channel:
            yield Lnd(
                node["host"],
                node["pubkey"],
                lightning_pb2_grpc.LightningStub(channel),
                invoices_pb2_grpc.InvoicesStub(channel),
            )


@contextmanager
def _channel(endpoint: LndEndpoint) -> Iterator[Any]:
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(endpoint.tls_cert_path.read_bytes()),
        grpc.metadata_call_credentials(_Macaroon(endpoint.macaroon_path.read_bytes())),
    )
    with grpc.secure_channel(endpoint.host, credentials) as channel:
        yield channel


class _Macaroon(grpc.AuthMetadataPlugin):
    """Adds the macaroon to every call, as lnd wants it."""

    def __init__(self, macaroon: bytes) -> None:
        self._metadata = (("macaroon", macaroon.hex()),)

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        callback(self._metadata, None)
