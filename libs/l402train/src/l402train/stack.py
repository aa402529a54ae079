"""The one-command local network: starts every part in order, waits for each, and stops all of them in reverse.

It knows the order and the deadlines; what each part needs is in `parts`, `services` and `peers`.
"""

import asyncio
import contextlib
import functools
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

import msgspec
from l402core.errors import L402Error
from l402core.rights import MIGRATION, OPERATOR, USERS
from l402core.secret import Secret

from l402train import books, bus_users, credentials, keys, migration, parts, peers, services
from l402train.exits import Exit, Stop, stop_for
from l402train.folder import Description, Folder
from l402train.lightning import backend, programs
from l402train.lightning.plan import Topology
from l402train.peers import Peer
from l402train.process import Process
from l402train.services import READY_S, Wiring

END_S = 10.0
BASE_END_S = 30.0
"""Real lnds end on their own time."""
Note = Callable[[str], None]


Lightning = Literal["lndsim", "lnd"]
SPONSOR_MARGIN = "0.4"
"""Nats per token. A first round gains about 0.6 and a sixth 0.1: early tranches are earned, and late ones come back."""
LINE_PEERS_MAX = 3


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to start."""

    peers: int = 6
    """Peers that run here, each with a node of its own: the usual mix, or honest ones where adversaries are named."""
    adversaries: tuple[str, ...] = ()
    """Attacks that take part beside them."""
    spare_nodes: tuple[str, ...] = ()
    """Nodes with a channel, for peers that join from elsewhere."""
    rounds: int = 6
    """0: no limit."""
    sponsored: bool = False
    """Whether a sponsor with a node of its own pledges for every round."""
    seed: int | None = 0
    """Of keys and of the first checkpoint; None: random."""
    workers: int = 2
    gateway_port: int = 0
    block_seconds: float = 0.0
    wait_for_all: bool = True
    """Phases end once all peers that run here are through."""
    expected: tuple[str, ...] = ()
    """Identities from elsewhere whom phases wait for, instead of those that run here."""
    lightning: Lightning = "lndsim"
    topology: Topology = "star"
    """Whether every peer has a channel with the coordinator, or only the first, and each other with the one before it."""
    lnd_dir: Path | None = None
    """Where lnd is, if not where `make tools` puts it."""
    overheard: bool = False
    """Whether bus and cache write down all that they are told."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of everybody who runs here."""
        return peers.kinds(self.peers, self.adversaries)

    def checked(self) -> "Plan":
        """Itself. Raises Stop for what could never work, and where real lnd is asked for and not there."""
        if self.topology == "line" and len(self.kinds) + len(self.spare_nodes) > LINE_PEERS_MAX:
            raise Stop(
                Exit.USAGE,
                f"a line has at most {LINE_PEERS_MAX} peers: each hop adds 80 blocks to a payment, and the settler "
                "allows 200 (L402_SETTLER_CLTV_ROUTE_SLACK)",
            )
        if self.lightning == "lnd":
            programs.find(self.lnd_dir)
        return self


class Network:
    """A running network. Made by `running`."""

    def __init__(self, folder: Folder, plan: Plan, note: Note) -> None:
        self.folder = folder
        self.plan = plan
        self.cast: tuple[Peer, ...] = ()
        self.gateway_url = ""
        self.attestor_url = ""
        self.nats_url = ""
        """As the operator."""
        self._server = ""
        self._passwords: dict[str, Secret] = {}
        self.set_up_s: dict[str, float] = {}
        """Seconds from the start until each step was through."""
        self._note = note
        self._processes: dict[str, Process] = {}
        self._began = time.monotonic()

    async def start(self) -> None:
        """Everything, in order. Raises Stop."""
        folder, plan = self.folder, self.plan
        ring = keys.Keyring.from_seed(plan.seed)
        everyone = (*peers.names(len(plan.kinds)), *plan.spare_nodes, *((parts.SPONSOR,) if plan.sponsored else ()))
        public = keys.write_keys(folder, ring, everyone)
        self._passwords = ring.passwords()
        self.cast = peers.cast(public.peers[: len(plan.kinds)], plan.kinds)
        if plan.gateway_port:
            parts.check_port(plan.gateway_port)
        nodes, self._server, redis_port = await self._start_parts(everyone)
        self.nats_url = bus_users.url_of(self._server, OPERATOR, self._passwords)
        wiring = Wiring(
            network="simnet",
            nats_urls={user: bus_users.url_of(self._server, user, self._passwords) for user in USERS},
            redis_url=f"redis://127.0.0.1:{redis_port}/0",
            attestor_port=parts.free_port(),
            gateway_port=plan.gateway_port,
            nodes=nodes,
            public=public,
            rounds=plan.rounds,
            expected=plan.expected or (tuple(peer.identity for peer in self.cast) if plan.wait_for_all else ()),
            seed=plan.seed or 0,
            sponsor=public.peers[-1] if plan.sponsored else "",
        )
        await self._prepare(nodes, everyone, wiring.nats_urls[MIGRATION])
        await self._start_services(wiring)
        if plan.sponsored:
            self._start_sponsor(wiring)
        self._describe(wiring)
        self._start_peers(wiring)

    async def _start_parts(self, everyone: tuple[str, ...]) -> tuple[dict[str, object], str, int]:
        base, folder = services.base_environment(), self.folder
        port = parts.free_port()
        overheard = self.plan.overheard
        nats = self._keep(parts.start_nats(folder, base, self._passwords, overheard=overheard))
        redis = self._keep(parts.start_redis(folder, port, base, overheard=overheard))
        lightning = self._keep(self._start_lightning(everyone, base))
        server = await nats.until(lambda: parts.nats_url(folder, nats), deadline_s=parts.START_S)
        await redis.until(lambda: parts.answers(port), deadline_s=parts.START_S)
        patience_s = parts.START_S if self.plan.lightning == "lndsim" else backend.START_S
        nodes = await lightning.until(lambda: parts.nodes(folder, lightning), deadline_s=patience_s)
        self._through("bus, cache and Lightning nodes")
        return nodes, server, port

    def _start_lightning(self, everyone: tuple[str, ...], base: dict[str, str]) -> Process:
        plan = self.plan
        if plan.lightning == "lndsim":
            return parts.start_lightning(self.folder, everyone, plan.block_seconds, base, topology=plan.topology)
        return backend.start(
            self.folder,
            everyone,
            topology=plan.topology,
            block_seconds=plan.block_seconds,
            lnd_dir=plan.lnd_dir,
            environment=base,
        )

    async def _prepare(self, nodes: dict[str, object], everyone: tuple[str, ...], nats_url: str) -> None:
        try:
            await credentials.bake_all(self.folder, nodes, everyone)
            await migration.migrate(nats_url, books_url=self.folder.books_url, decisions_url=self.folder.decisions_url)
        except L402Error as error:
            raise Stop(Exit.PART_FAILED, error.detail) from error
        self._through("macaroons, streams and tables")

    async def _start_services(self, wiring: Wiring) -> None:
        workers = [f"worker-{number}" for number in range(1, self.plan.workers + 1)]
        roles = [("attestor", "attestor"), *(("worker", name) for name in workers)]
        roles += [(name, name) for name in ("invoicer", "settler", "gateway")]
        for role, name in roles:
            environment = services.environment(role, name, self.folder, wiring)
            if role == "worker":
                own = self.folder.run / name
                own.mkdir(exist_ok=True)
                environment["L402_WORKER_DATA_DIR"] = str(own)
            self._keep(Process(name, services.command(role), self.folder.log(name), environment))
        for role, name in roles:
            url_file = self.folder.run / (f"{name}/worker.url" if role == "worker" else f"{name}.url")
            url = await self._processes[name].until(
                functools.partial(services.ready_at, url_file), deadline_s=READY_S,
                missing=functools.partial(services.missing_at, url_file),
            )  # fmt: skip
            if name == "gateway":
                self.gateway_url = url
            if name == "attestor":
                self.attestor_url = url
        self._through("gateway, invoicer, settler and oracle")

    def _start_sponsor(self, wiring: Wiring) -> None:
        folder = self.folder
        options = {
            "--url": self.gateway_url,
            **services.node_options(folder, wiring, parts.SPONSOR),
            "--dir": str(folder.sponsor),
            "--key-file": str(folder.keys / f"{parts.SPONSOR}.json"),
            "--attestor": wiring.public.attestor,
            "--rounds": str(self.plan.rounds),
            "--margin": SPONSOR_MARGIN,
        }
        command = [sys.executable, "-m", "l402train", "sponsor", *(word for pair in options.items() for word in pair)]
        log = folder.log(parts.SPONSOR)
        self._keep(Process(parts.SPONSOR, command, log, services.base_environment()))

    def _start_peers(self, wiring: Wiring) -> None:
        for peer in self.cast:
            (self.folder.peers / peer.name).mkdir(exist_ok=True)
            environment = peers.environment(peer, self.cast, self.folder, wiring, self.gateway_url)
            self._keep(Process(peer.name, services.command("peer"), self.folder.log(peer.name), environment))
        if self.cast:
            self._through("the peers")

    def _describe(self, wiring: Wiring) -> None:
        self.folder.write_description(
            Description(
                pid=os.getpid(),
                network=wiring.network,
                gateway_url=self.gateway_url,
                attestor_url=self.attestor_url,
                nats_url=self._server,
                redis_url=wiring.redis_url,
                nodes_file=str(self.folder.nodes),
                parts=part_versions(self.folder, self.plan),
                pids={name: process.pid for name, process in self._processes.items()},
            )
        )

    def _keep(self, process: Process) -> Process:
        self._processes[process.name] = process
        return process

    def _through(self, step: str) -> None:
        self.set_up_s[step] = time.monotonic() - self._began
        self._note(f"{step}: ready after {self.set_up_s[step]:.1f} s")

    def process(self, name: str) -> Process:
        """One part, as it runs now. Raises KeyError."""
        return self._processes[name]

    @property
    def age_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    async def watch(self) -> None:
        """Runs for ever; raises Stop when a part ends by itself. Peers and sponsor may go home."""
        going_home = {parts.SPONSOR, *(peer.name for peer in self.cast)}
        while True:
            for name, process in self._processes.items():
                code = process.returncode
                if code is not None and not (name in going_home and code == 0):
                    raise process.failure(f"{name} ended with {code}")
            await asyncio.sleep(0.3)

    async def stop(self) -> None:
        """End everything, the last first: peers, then services, then what they stand on."""
        own = {parts.SPONSOR, *(peer.name for peer in self.cast)}
        base = ("lightning", "redis", "nats")
        middle = [name for name in self._processes if name not in own and name not in base]
        for tier in ([name for name in self._processes if name in own], middle, list(base)):
            ending = [self._processes[name] for name in reversed(tier) if name in self._processes]
            for process in ending:
                process.ask_to_end()
            within_s = BASE_END_S if tier == list(base) else END_S
            await asyncio.gather(*(process.ended(within_s=within_s) for process in ending))


def part_versions(folder: Folder, plan: Plan) -> dict[str, str]:
    """The real parts by name and version, as the report names them."""
    simulated = "lndsim (LND's gRPC, simulated)"
    return {
        "nats": f"nats-server {parts.version_of(parts.nats_program())}",
        "redis": f"redis-server {parts.version_of(parts.redis_program())}",
        "lightning": simulated if plan.lightning == "lndsim" else backend.described(plan.lnd_dir),
        "database": books.described(folder.books),
    }


@contextlib.asynccontextmanager
async def running(folder: Folder, plan: Plan, note: Note = lambda _: None) -> AsyncIterator[Network]:
    """The network inside the block; whatever happens, nothing of it is left running after."""
    network = Network(folder, plan, note)
    try:
        try:
            await network.start()
        except OSError as error:
            raise stop_for(error, error.filename or folder.root) from error
        yield network
    finally:
        stopping = asyncio.ensure_future(network.stop())
        while not stopping.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(stopping)
