"""`kill -9` of every process in turn with 200 submissions in flight, on lndsim and on real lnds: all end, books and node agree.

Redis comes back empty each time, and once NATS does; then all that was on its way is said again from the books.

Five lnds take most of two cores, and a minute to start.
"""

import asyncio
import collections
import contextlib
import functools
import json
import re
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from l402train import books, comparing, parts, services
from l402train.credentials import macaroon_of
from l402train.folder import Folder
from l402train.keys import Keyring, write_keys
from l402train.lightning.btcd import Btcd
from l402train.stack import Network, Plan, running
from lndsim import Control

from tests.support import crowd
from tests.support.lnd import lnd_is_there
from tests.support.real import require_real

Backend = Literal["lndsim", "lnd"]
PEERS = 200
CROWDS = 2
NODES = tuple(f"node-{number}" for number in range(1, 6))
"""Five channels: 1,200 rungs are two and a half channels' slots."""
SETTINGS = {
    "L402_SETTLER_PLACES": str(PEERS + 50),
    "L402_SETTLER_COMMIT_S": "180",
    "L402_SETTLER_LOCK_S": "60",
    "L402_SETTLER_UPLOAD_S": "120",
    "L402_SETTLER_JUDGE_S": "300",
    "L402_SETTLER_NEVER_SENT_S": "20",
    "L402_SETTLER_PAYEE_EXPOSURE_MSAT": "10000000000",
    "L402_SETTLER_PAYEE_RUNGS": "1000",
    "L402_SETTLER_RECONCILE_S": "10",
    "L402_SETTLER_EVAL_TOKENS": "1024",
    "L402_SETTLER_INNER_STEPS": "2",
    "L402_SETTLER_BATCH": "2",
    "L402_GATEWAY_MINTS_PER_CLIENT": "100000",
    "L402_GATEWAY_MINTS_IN_ALL": "100000",
}
"""Deadlines for a busy machine: phases end once everybody is through. One address is all peers here."""
ENDED_S = 240.0
"""From the first fee to the last rung; a busy machine is no failure."""

STREAMS = "nats and all that its streams held"

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(900)]


@pytest.mark.parametrize("backend", ["lndsim", pytest.param("lnd", marks=pytest.mark.real)])
async def test_every_process_killed_in_turn_and_every_submission_ends(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """While fees are paid, ladders locked and gradients judged. Nothing is frozen, lost, or paid twice."""
    if backend == "lnd":
        require_real(lnd_is_there(), "lnd and btcd (run `make tools`)")
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    peers, folder = PEERS, Folder(tmp_path / "network")
    folder.create()
    plan = Plan(
        peers=0, spare_nodes=NODES, rounds=1, workers=1, wait_for_all=False, lightning=backend,
        sponsored=True, gateway_port=parts.free_port(), overheard=True,
        expected=tuple(crowd.identity(number).public for number in range(peers)),
    ).checked()  # fmt: skip
    async with running(folder, plan, print) as network:
        await until(lambda: count(folder, "rounds") == 1)
        async with crowds(folder, network, peers) as played:
            killed = await kill_everything(network, peers)
            verdicts = [verdict for one in await asyncio.gather(*played) for verdict in one]
        record_property("killed with so many open", killed)
        record_property("verdicts", dict(collections.Counter(verdict.partition(":")[0] for verdict in verdicts)))
        await until(
            lambda: count(folder, "submissions", "state <> 'ended'") == 0, after_s=30, mine=mining(folder, backend)
        )
        await until(lambda: count(folder, "tranches", "state not in ('settled', 'returned')") == 0)
        assert list(killed) == [
            "gateway", "sponsor", "invoicer", "redis", "settler", "nats", STREAMS, "worker-1", "attestor",
        ]  # fmt: skip
        assert min(killed.values()) >= peers // 10, f"killed with nothing in flight: {killed}"
        await judged(folder, network, verdicts, peers)


async def judged(folder: Folder, network: Network, verdicts: list[str], peers: int) -> None:
    """What must hold once all is quiet."""
    opened = count(folder, "submissions")
    assert opened >= peers * 3 // 4, f"only {opened} submissions were opened"
    assert len(verdicts) == peers
    assert count(folder, "submissions", "scored is not null") >= peers // 2
    assert count(folder, "rungs", "state = 'settled'") > 0
    assert count(folder, "rungs", "state in ('registered', 'in flight')") == 0
    ledger = books.ledger(folder.settler / "books.sqlite3")
    assert ledger.open_escrows == 0
    assert ledger.debits_msat == ledger.credits_msat
    assert all(one.pending_debits_msat == one.pending_credits_msat == 0 for one in ledger.accounts.values())
    assert all(one.debits_msat == one.credits_msat for name, one in ledger.accounts.items() if name.startswith("peer:"))
    found = await comparing.ask(network.nats_url)
    assert found.rungs == 6 * count(folder, "submissions", "commitment in (select commitment from rungs)")
    assert found.fees >= opened
    assert not found.differences, found.differences[:5]
    assert count(folder, "submissions", "frozen") == 0


# --- killing ----------------------------------------------------------------------------------------------------------


async def kill_everything(network: Network, peers: int) -> dict[str, int]:
    """Each process in turn, each once so many have come so far that it has work; the next only once it is back.

    How many submissions had not ended when each was killed.
    """
    folder, killed = network.folder, {}
    open_ = functools.partial(count, folder, "submissions")
    for name, moment in (
        ("gateway", lambda: open_() >= peers // 10),
        ("sponsor", lambda: count(folder, "tranches") == 1),
        ("invoicer", lambda: open_("offer is not null") >= peers // 10),
        ("redis", lambda: open_() >= peers // 3),
        ("settler", lambda: open_("locked is not null") >= peers // 10),
        ("nats", lambda: open_("locked is not null") >= peers // 4),
        (STREAMS, lambda: open_("upload is not null") >= peers // 10),
        ("worker-1", lambda: open_("upload is not null") >= peers // 4),
        ("attestor", lambda: count(folder, "rounds", "phase in ('judge', 'done')") == 1),
    ):
        with contextlib.suppress(TimeoutError):  # on a busy machine the moment passes; it is killed all the same
            await until(moment, patience_s=90)
        killed[name] = open_("state <> 'ended'")
        await kill(network, name)
    return killed


async def kill(network: Network, name: str) -> None:
    """SIGKILL, the same again, and wait until it says that it is ready."""
    process = network.process("nats" if name == STREAMS else name)
    process.kill()
    if name in ("nats", STREAMS):
        stay_at_its_port(network)
    if name == STREAMS:
        shutil.rmtree(network.folder.nats / "jetstream")
    if name == "redis":  # what it was told, kept for the search; it must not come back with it
        (network.folder.redis / "appendonly.aof").rename(network.folder.redis / "before.aof")
    process.start_again()
    if name in ("nats", STREAMS, "redis", "sponsor"):
        await asyncio.sleep(0.5)
        return
    file = network.folder.run / ("worker-1/worker.url" if name == "worker-1" else f"{name}.url")
    await process.until(functools.partial(services.ready_at, file), deadline_s=services.READY_S)


def stay_at_its_port(network: Network) -> None:
    """It chose its port itself; those that know it by that one must find it again."""
    config = network.folder.nats / "nats.conf"
    port = network.nats_url.rpartition(":")[2].strip("/")
    config.write_text(re.sub(r'listen: "127\.0\.0\.1:-?\d+"', f'listen: "127.0.0.1:{port}"', config.read_text()))


# --- peers and blocks -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def crowds(folder: Folder, network: Network, peers: int) -> AsyncIterator[list[Awaitable[list[str]]]]:
    """The peers, in a few processes; each gives its verdicts at the end."""
    public = write_keys(folder, Keyring.from_seed(0), ())
    nodes = json.loads(folder.nodes.read_text())
    known = [
        {
            "host": nodes[name]["host"], "cert": nodes[name]["tls_cert"], "pubkey": nodes[name]["pubkey"],
            "macaroon": str(macaroon_of(folder, name)),
        }
        for name in NODES
    ]  # fmt: skip
    processes = []
    try:
        for number in range(CROWDS):
            told = {
                "peers": peers // CROWDS, "first": number * peers // CROWDS, "gateway_url": network.gateway_url,
                "nodes": known, "settler": public.settler, "attestor": public.attestor,
                "folder": str(folder.peers / f"crowd-{number}"),
            }  # fmt: skip
            processes.append(await started(told))
        yield [asyncio.ensure_future(verdicts_of(process)) for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def started(told: dict[str, Any]) -> asyncio.subprocess.Process:
    """One process of the crowd, told what to play."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.crowd", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env=services.base_environment(), limit=1 << 24,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(told).encode() + b"\n")
    await process.stdin.drain()
    return process


async def verdicts_of(process: asyncio.subprocess.Process) -> list[str]:
    """Its last line."""
    assert process.stdout is not None
    lines = [line async for line in process.stdout]
    assert lines, "a crowd ended without a word; its reason is on stderr"
    verdicts: list[str] = json.loads(lines[-1])["verdicts"]
    return verdicts


def mining(folder: Folder, backend: Backend) -> Callable[[], Awaitable[None]]:
    """Blocks enough that whatever a peer left behind expires; a payee's node cancels it before."""

    async def simulated() -> None:
        async with Control(folder.lnd) as control:
            await control.mine(300)

    async def real() -> None:
        told = json.loads((folder.lnd / "btcd.json").read_text())
        btcd = Btcd(**{**told, "cert": Path(told["cert"])})
        for _ in range(30):
            await asyncio.to_thread(btcd.mine, 10)
            await asyncio.sleep(0.5)

    return simulated if backend == "lndsim" else real


# --- looking ----------------------------------------------------------------------------------------------------------


def count(folder: Folder, table: str, where: str = "1") -> int:
    """Rows of the settler's books, read from outside."""
    file = folder.settler / "books.sqlite3"
    with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        (found,) = connection.execute(f"select count(*) from {table} where {where}").fetchone()  # noqa: S608 - ours
    return int(found)


async def until(
    holds: Callable[[], bool], *, patience_s: float = ENDED_S, after_s: float = 0.0,
    mine: Callable[[], Awaitable[None]] | None = None,
) -> None:  # fmt: skip
    """Ask until it holds; mine once, if it does not hold by itself for so long. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(patience_s):
        while not holds():
            if mine is not None and loop.time() - began > after_s:
                await mine()
                mine = None
            await asyncio.sleep(0.1)
