"""A real btcd on simnet and a real lnd on it, on random loopback ports. It opens no channel and moves no money."""

import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import httpx
from lndgrpc.compiled import invoices_pb2_grpc, lightning_pb2, lightning_pb2_grpc

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
START_ATTEMPTS = 3
"""A free port may be taken between our look and the program's: then everything starts again on other ports."""
POLL_S = 0.1
LOG_TAIL_BYTES = 2_000


T = TypeVar("T")


class StartError(Exception):
    """A program ended or stayed silent; the message carries the end of its log."""


@dataclass(frozen=True)
class Btcd:
    """A running btcd; `rpc` is host:port, `cert` its own TLS certificate."""

    rpc: str
    cert: Path
    user: str
    password: str

    def mine(self, blocks: int) -> None:
        """Mine blocks at once, to nobody. Raises httpx.HTTPError when btcd does not answer."""
        self.call("generate", blocks)

    def call(self, method: str, *params: object) -> Any:
        """One JSON-RPC call. Raises httpx.HTTPError for a connection or status that is not right."""
        trusted = ssl.create_default_context(cafile=str(self.cert))
        body = {"jsonrpc": "1.0", "id": 1, "method": method, "params": params}
        with httpx.Client(verify=trusted, auth=(self.user, self.password), timeout=30, trust_env=False) as client:
            return client.post(f"https://{self.rpc}", json=body).raise_for_status().json()["result"]


@dataclass(frozen=True)
class Lnd:
    """A running lnd with its blocking gRPC stubs; each call carries the admin macaroon."""

    rpc: str
    pubkey: str
    lightning: Any
    invoices: Any


def tools_bin() -> Path:
    """Where `make tools` puts its programs."""
    return Path(os.environ.get("L402_TOOLS_DIR") or ROOT / ".tools") / "bin"


def lightning_is_built() -> bool:
    """Whether lnd, btcd and the zpay32 decoder are there."""
    return all((tools_bin() / program).is_file() for program in ("lnd", "btcd", "zpay32"))


@contextmanager
def running_lnd(folder: Path) -> Iterator[Lnd]:
    """btcd and lnd with their data below `folder`; both are stopped at the end. Raises StartError."""
    for attempt in range(1, START_ATTEMPTS + 1):
        place = folder / str(attempt)
        try:
            with _btcd(place / "btcd") as btcd, _lnd(place / "lnd", btcd) as lnd:
                yield lnd
                return
        except StartError as failure:
            if attempt == START_ATTEMPTS or "address already in use" not in str(failure):
                raise


@contextmanager
def _btcd(folder: Path) -> Iterator[Btcd]:
    folder.mkdir(parents=True)
    peer_port, rpc_port = _free_ports(2)
    btcd = Btcd(rpc=f"127.0.0.1:{rpc_port}", cert=folder / "rpc.cert", user="test", password="test")
    command = [
        str(tools_bin() / "btcd"), "--simnet", "--nodnsseed", f"--miningaddr={_nobodys_simnet_address()}",
        f"--configfile={folder / 'none.conf'}", f"--datadir={folder / 'data'}", f"--logdir={folder / 'logs'}",
        f"--listen=127.0.0.1:{peer_port}", f"--rpclisten={btcd.rpc}", f"--rpcuser={btcd.user}",
        f"--rpcpass={btcd.password}", f"--rpccert={btcd.cert}", f"--rpckey={folder / 'rpc.key'}",
    ]  # fmt: skip
    (folder / "none.conf").touch()
    with _program(command, folder) as check:
        _wait_until(lambda: _answers(btcd), check)
        # Simnet's first block is years old, and lnd waits for a chain that looks current.
        btcd.mine(1)
        yield btcd


@contextmanager
def _lnd(folder: Path, btcd: Btcd) -> Iterator[Lnd]:
    folder.mkdir(parents=True)
    peer_port, rpc_port = _free_ports(2)
    rpc = f"127.0.0.1:{rpc_port}"
    command = [
        str(tools_bin() / "lnd"), f"--lnddir={folder}", "--noseedbackup", "--nobootstrap", "--norest",
        "--bitcoin.simnet", "--bitcoin.node=btcd", f"--btcd.rpchost={btcd.rpc}", f"--btcd.rpcuser={btcd.user}",
        f"--btcd.rpcpass={btcd.password}", f"--btcd.rpccert={btcd.cert}", f"--listen=127.0.0.1:{peer_port}",
        f"--rpclisten={rpc}", "--tlsdisableautofill", "--bitcoin.defaultchanconfs=1", "--trickledelay=50",
    ]  # fmt: skip
    macaroon = folder / "data/chain/bitcoin/simnet/admin.macaroon"
    with _program(command, folder) as check:
        _wait_until(lambda: macaroon.is_file() and (folder / "tls.cert").is_file(), check)
        with _channel(rpc, (folder / "tls.cert").read_bytes(), macaroon.read_bytes()) as channel:
            lightning = lightning_pb2_grpc.LightningStub(channel)
            info = _wait_until(lambda: _info(lightning), check)
            yield Lnd(rpc, info.identity_pubkey, lightning, invoices_pb2_grpc.InvoicesStub(channel))


@contextmanager
def _program(command: list[str], folder: Path) -> Iterator[Callable[[], None]]:
    """Run one program; yields a check that raises StartError once it has ended by itself."""
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_ending_with_us(), *command], cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )

    def check() -> None:
        if process.poll() is not None:
            tail = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
            raise StartError(f"{Path(command[0]).name} ended with {process.returncode}: {tail}")

    try:
        yield check
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)


def _ending_with_us() -> list[str]:
    """A prefix that ends a program when this process is killed and cannot end it itself; nothing where there is none."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _wait_until(answer: Callable[[], T], check: Callable[[], None]) -> T:
    """Ask until the answer is true, for at most START_TIMEOUT_S."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        check()
        if found := answer():
            return found
        time.sleep(POLL_S)
    raise StartError(f"no answer within {START_TIMEOUT_S} s")


def _answers(btcd: Btcd) -> bool:
    try:
        return btcd.cert.is_file() and btcd.call("getblockcount") is not None
    except (httpx.HTTPError, ssl.SSLError):
        return False


def _info(lightning: Any) -> Any:
    try:
        return lightning.GetInfo(lightning_pb2.GetInfoRequest(), timeout=5)
    except grpc.RpcError:  # the wallet opens first, the RPC server some seconds later
        return None


@contextmanager
def _channel(rpc: str, cert: bytes, macaroon: bytes) -> Iterator[Any]:
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(cert), grpc.metadata_call_credentials(_Macaroon(macaroon))
    )
    with grpc.secure_channel(rpc, credentials) as channel:
        yield channel


class _Macaroon(grpc.AuthMetadataPlugin):
    """Adds the macaroon to every call, as lnd wants it."""

    def __init__(self, macaroon: bytes) -> None:
        self._metadata = (("macaroon", macaroon.hex()),)

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        callback(self._metadata, None)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _nobodys_simnet_address() -> str:
    """A P2PKH address of simnet (version 0x3f) over twenty zero bytes: btcd mines only to an address."""
    payload = b"\x3f" + bytes(20)
    payload += hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    number, text = int.from_bytes(payload), ""
    while number:
        number, digit = divmod(number, 58)
        text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[digit] + text
    return text
