"""A running network: every node on its own loopback port, its files in one folder, its state in one journal."""

import asyncio
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from l402core.lnd.wire import LndEndpoint

from lndsim import certificate
from lndsim.clock import Clock, wall_clock
from lndsim.faults import Faults
from lndsim.guise import Guise
from lndsim.hub import Hub
from lndsim.journal import Journal
from lndsim.macaroon import ADMIN, INVOICE, READONLY, URI, Bakery, Permission
from lndsim.network import Network
from lndsim.server import NodeServer
from lndsim.service import LndService

MACAROONS: Final[dict[str, tuple[Permission, ...]]] = {"admin": ADMIN, "readonly": READONLY, "invoice": INVOICE}
_TICK_S: Final = 0.1


@dataclass(slots=True)
class Served:
    """One node as it listens."""

    server: NodeServer
    service: LndService
    bakery: Bakery
    directory: Path
    pubkey: str
    port: int = 0
    listening: bool = False


class Simulation:
    """Start with `await Simulation.start(directory)`, end with `stop()`; or use it as an async context manager.

    Reopening a directory brings everything back: money, invoices, payments, keys, certificates and ports.
    """

    def __init__(self, directory: Path, network: Network, journal: Journal) -> None:
        self.directory = directory
        self.network = network
        self.faults = Faults()
        self._journal = journal
        self._hub = Hub(network)
        self._served: dict[str, Served] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, directory: Path, *, clock: Clock = wall_clock, seed: bytes | None = None) -> Self:
        """Open or create the network of a folder. The seed matters for a new one only; by default it is random."""
        simulation = cls(directory, *_open(directory, clock, seed))
        network = simulation.network
        for name in network.nodes:
            await simulation._serve(name)
        simulation._resume_payments()
        simulation._write_nodes()
        simulation._tasks.append(asyncio.create_task(simulation._tick()))
        return simulation

    def _resume_payments(self) -> None:
        """As LND does after a restart: what was recorded and not sent is sent now."""
        for node in self.network.nodes.values():
            for payment in node.undispatched():
                self.network.dispatch(node.name, payment.terms.payment_hash)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and close the journal."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        await asyncio.gather(*(served.server.stop() for served in self._served.values()))
        self._journal.close()

    async def add_node(self, name: str) -> Served:
        """A new node, listening; an existing one is returned as it is. Names are file names."""
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{name!r} is not a name for a node: letters, digits, '-' and '_' only")
        self.network.add_node(name)
        if name not in self._served:
            await self._serve(name)
            self._write_nodes()
        return self._served[name]

    def mine_every(self, seconds: float) -> None:
        """Mine one block every so many seconds, until stopped."""
        self._tasks.append(asyncio.create_task(self._mine_every(seconds)))

    async def set_listening(self, name: str, listening: bool) -> None:
        """Stop or start a node's gRPC server, on the same port; the node itself stays on the network."""
        served = self._served[name]
        if served.listening and not listening:
            await served.server.stop()
        if listening and not served.listening:
            await served.server.start(served.port)
        served.listening = listening

    async def set_guise(self, name: str, guise: Guise) -> None:
        """What a node says of itself from now on. One that is locked was started again: every stream of it is cut."""
        served = self._served[name]
        cut = guise.locked and not served.service.guise.locked and served.listening
        served.service.guise = guise
        for listening in (False, True) if cut else ():
            await self.set_listening(name, listening)

    def endpoint(self, name: str, macaroon: str = "admin") -> LndEndpoint:
        """Where the node is, with one of its macaroons: admin, readonly, invoice, or a name given to `bake`."""
        served = self._served[name]
        return LndEndpoint(
            host=f"127.0.0.1:{served.port}",
            tls_cert_path=served.directory / "tls.cert",
            macaroon_path=served.directory / f"{macaroon}.macaroon",
        )

    def bake(self, name: str, macaroon: str, uris: list[str]) -> LndEndpoint:
        """Write a macaroon that allows these URIs and nothing else, and answer the endpoint that uses it."""
        served = self._served[name]
        write_private(
            served.directory / f"{macaroon}.macaroon",
            served.bakery.mint([(URI, uri) for uri in uris], nonce=secrets.token_bytes(16)),
        )
        self._write_nodes()
        return self.endpoint(name, macaroon)

    async def _serve(self, name: str) -> None:
        node = self.network.nodes[name]
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        bakery = Bakery(node.secret_key)
        for macaroon, permissions in MACAROONS.items():
            path = directory / f"{macaroon}.macaroon"
            if not path.exists():
                write_private(path, bakery.mint(permissions, nonce=secrets.token_bytes(16)))
        service = LndService(self.network, self._hub, node, bakery)
        server = NodeServer(name, service, bakery, self.network.clock, self.faults, certificate.ensure(directory))
        served = Served(server, service, bakery, directory, node.pubkey)
        served.port = await server.start(_saved_port(directory))
        served.listening = True
        write_private(directory / "port", str(served.port).encode())
        self._served[name] = served

    def _write_nodes(self) -> None:
        """`nodes.json`: whom to call, where and with what."""
        nodes: dict[str, Any] = {
            name: {
                "host": f"127.0.0.1:{served.port}",
                "tls_cert": str(served.directory / "tls.cert"),
                "macaroons": {path.stem: str(path) for path in sorted(served.directory.glob("*.macaroon"))},
                "pubkey": served.pubkey,
            }
            for name, served in self._served.items()
        }
        write_private(self.directory / "nodes.json", msgspec.json.format(msgspec.json.encode(nodes)))

    async def _tick(self) -> None:
        while True:
            self.network.tick()
            await asyncio.sleep(_TICK_S)

    async def _mine_every(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self.network.mine()


def _open(directory: Path, clock: Clock, seed: bytes | None) -> tuple[Network, Journal]:
    directory.mkdir(parents=True, exist_ok=True)
    journal = Journal(directory / "network.journal")
    network = Network.restore(journal, clock)
    if network is None:
        network = Network(seed=seed or secrets.token_bytes(32), clock=clock, journal=journal)
    return network, journal


def _saved_port(directory: Path) -> int:
    """The port this node had, so that clients find it again; 0 for a new one."""
    saved = directory / "port"
    return int(saved.read_text()) if saved.exists() else 0


def write_private(path: Path, content: bytes) -> None:
    """Whole or not at all, and only for us to read."""
    unfinished = path.with_name(f".{path.name}.new")
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    unfinished.replace(path)
