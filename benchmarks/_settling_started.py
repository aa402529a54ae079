"""A real settler, NATS and nodes, each a process of its own, with a past in the books; started, and ended after."""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from _history import fill
from _reconcile import reconciled
from _settling_ladders import ATTESTOR
from _settling_world import World
from l402_settler.adapters.tables import outbox
from l402core.bus import Bus
from l402core.documents import Terms
from l402core.events import EscrowSettled
from l402core.lnd.grpc import connect
from l402core.outbox import Database
from l402core.rights import USERS
from l402train import credentials, keys, migration, parts, services
from l402train.folder import Folder
from l402train.lightning import backend
from l402train.process import Process
from l402train.services import Wiring

sys.path.append(str(Path(__file__).parent.parent))  # terms are the tests' own
from tests.support.runs import KEY, terms


@contextlib.asynccontextmanager
async def a_world(url: str | None, past: int, asked: argparse.Namespace) -> AsyncIterator[World]:
    """Everything started, with that past in the books; all of it ended after."""
    names = tuple(f"node-{number}" for number in range(1, asked.nodes + 1))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Folder(Path(scratch) / "network")
        folder.create()
        base, processes = services.base_environment(), list[Process]()
        try:
            nats = parts.start_nats(folder, base)
            lightning = _start_lightning(folder, names, base, asked)
            processes += [nats, lightning]
            nats_url = await nats.until(lambda: parts.nats_url(folder, nats), deadline_s=parts.START_S)
            nodes = await lightning.until(lambda: parts.nodes(folder, lightning), deadline_s=backend.START_S)
            public = keys.write_keys(folder, keys.Keyring.from_seed(0), names)
            await credentials.bake_all(folder, nodes, ())
            books_url = url or folder.books_url
            await migration.migrate(nats_url, books_url=books_url, decisions_url=folder.decisions_url)
            database = Database(books_url, outbox)
            await asyncio.to_thread(fill, database, past, msgspec.json.encode(KEY.sign(Terms.tag, terms())).decode())
            database.close()
            compared = await reconciled(books_url, past)
            print(f"  {past:,} before: reconciled {compared.told}", flush=True)
            wiring = Wiring(
                network="simnet", nats_urls=dict.fromkeys(USERS, nats_url), redis_url="", attestor_port=1, gateway_port=1,
                nodes=nodes,
                public=msgspec.structs.replace(public, attestor=ATTESTOR.public), rounds=0, expected=(), seed=0,
            )  # fmt: skip
            bus = Bus(nats_url, "load")
            ends = [connect(credentials.endpoint_of(nodes[name])) for name in names]
            hub = connect(credentials.endpoint_of(nodes["coordinator"]))
            world = World(bus, ends, hub, [nodes[name]["pubkey"] for name in names], per_node=asked.per_node)
            world.known, world.ends = nodes, [nodes[name] for name in names]
            world.reconcile_s = compared.took_s
            environment = services.environment("settler", "settler", folder, wiring) | _knobs(world, books_url)
            command = (sys.executable, str(Path(__file__).with_name("_settler.py")))
            settler = Process("settler", command, folder.log("settler"), environment)
            processes.append(settler)
            url_file = folder.run / "settler.url"
            await settler.until(lambda: services.ready_at(url_file), deadline_s=services.READY_S)
            world.pids = {"settler": settler.pid, "nats": nats.pid}
            world.pids |= {"lndsim": lightning.pid} if asked.backend == "lndsim" else {}
            bus.watch((EscrowSettled.name,), world.hear)
            await bus.start()
            yield world
            await bus.stop()
            for node in (*ends, hub):
                await node.close()
        finally:
            for process in reversed(processes):
                process.ask_to_end()
                await process.ended(within_s=10)


def _start_lightning(
    folder: Folder, names: tuple[str, ...], base: dict[str, str], asked: argparse.Namespace
) -> Process:
    if asked.backend == "lndsim":
        return parts.start_lightning(folder, names, 0.0, base)
    return backend.start(folder, names, topology="star", block_seconds=0.0, lnd_dir=asked.lnd_dir, environment=base)


def _knobs(world: World, books_url: str) -> dict[str, str]:
    knobs = {
        "database_url": books_url, "places": len(world.peers), "unit_msat": 1_000, "day_cap_msat": 10**15,
        "expected_peers": json.dumps([peer.public for peer in world.peers]), "answer_wait_ms": 0, "commit_s": 3_000,
        "lock_s": 300, "upload_s": 3_000, "judge_s": 3_000, "reconcile_s": 86_400, "log_level": "WARNING",
        "slots_per_channel": 483, "payee_rungs": 100_000, "payee_exposure_msat": 10**15,
    }  # fmt: skip
    return {f"L402_SETTLER_{name.upper()}": str(value) for name, value in knobs.items()}
