"""`kill -9` of every process in turn with 150 of 200 submissions in flight, on lndsim and on real lnds: all end, all agree.

Redis comes back empty each time, and once NATS does; then all that was on its way is said again from the books. A hundred
peers die at once, and go on from their journals. On lndsim all nodes are one process with one journal, and die together; of
real lnds the coordinator's, a payee's and the attestor's are killed, and btcd.

Eight lnds take most of two cores, and a minute to start.
"""

import asyncio
import collections
import contextlib
import functools
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

import pytest
from l402train import books, comparing, parts, services
from l402train.credentials import macaroon_of
from l402train.folder import Folder
from l402train.keys import Keyring, write_keys
from l402train.lightning import backend as real_lightning
from l402train.stack import Network, Plan, running
from lndsim import Control

from tests.support import crowd, reviving
from tests.support.lnd import lnd_is_there
from tests.support.networks import started_again, stay_at_its_port
from tests.support.real import require_real
from tests.support.watching import books_of, count, rows, until

Backend = Literal["lndsim", "lnd"]
PEERS = 200
IN_FLIGHT = 150
"""So many submissions at least have not ended when a process is killed, but for the first kills, while fees are paid."""
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
    "L402_INVOICER_PAY_TIMEOUT_S": "60",
    "L402_GATEWAY_MINTS_PER_CLIENT": "100000",
    "L402_GATEWAY_MINTS_IN_ALL": "100000",
}
"""Deadlines for a busy machine: phases end once everybody is through. One address is all peers here."""
ON_LND = {"L402_SETTLER_COMMIT_S": "240", "L402_SETTLER_LOCK_S": "60"}
"""Rungs that a killed lnd noted and never sent keep their ladders waiting for the last moment to lock."""
ENDED_S = 480.0
"""From the first fee to the last rung; a busy machine is no failure."""
MOMENT_S = 240.0
"""For so long at most the right moment of a kill is waited for."""
QUIET_S = 20.0
"""No blocks while it may yet end by itself."""
EXPIRED, AT_ONCE = 300, 6
"""Blocks in which every rung expires, and how many come at a time: a third of those left when a payee's lnd cancels."""

NODE, PAYEE = parts.COORDINATOR, NODES[1]
LIGHTNING: dict[Backend, tuple[str, ...]] = {
    "lndsim": ("lightning",),
    "lnd": (NODE, PAYEE, parts.OBSERVER, reviving.BTCD),
}
"""The processes that are its nodes and their chain; the observer's is the attestor's."""
STREAMS = "nats and all that its streams held"
CROWD = "a crowd of peers"
EARLY = " while fees are paid"

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(1_500)]


@pytest.mark.parametrize("backend", ["lndsim", pytest.param("lnd", marks=pytest.mark.real)])
async def test_every_process_killed_in_turn_and_every_submission_ends(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """While fees are paid, ladders locked and gradients judged. Nothing is frozen, lost, or paid twice."""
    if backend == "lnd":
        require_real(lnd_is_there(), "lnd and btcd (run `make tools`)")
    for name, value in (SETTINGS | (ON_LND if backend == "lnd" else {})).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(real_lightning, "PROGRAM", reviving.MODULE)
    peers, folder = PEERS, Folder(tmp_path / "network")
    folder.create()
    plan = Plan(
        peers=0, spare_nodes=NODES, rounds=1, workers=1, wait_for_all=False, lightning=backend,
        sponsored=True, gateway_port=parts.free_port(), overheard=True,
        expected=tuple(crowd.identity(number).public for number in range(peers)),
    ).checked()  # fmt: skip
    async with running(folder, plan, print) as network:
        await until(lambda: count(folder, "rounds") == 1, patience_s=ENDED_S)
        async with crowds(folder, network, peers) as played:
            killed = await kill_everything(network, played[0], backend)
            record_property("killed with so many in flight", dict(killed))
            verdicts = [await one.verdicts() for one in played]
        record_property("verdicts", [dict(collections.Counter(map(kind_of, one))) for one in verdicts])
        async with asyncio.TaskGroup() as blocks:
            come = blocks.create_task(BLOCKS[backend](folder))
            try:
                await until(lambda: not still_open(folder), patience_s=ENDED_S)
            except TimeoutError:
                pytest.fail(f"has not ended: {still_open(folder)}")
            come.cancel()
        await until(lambda: count(folder, "tranches", "state not in ('settled', 'returned')") == 0, patience_s=ENDED_S)
        few = {name: killed.pop(name) for name in list(killed) if name.endswith(EARLY)}
        assert min(few.values()) >= peers // 10, f"killed with nothing in flight: {few}"
        assert min(killed.values()) >= IN_FLIGHT, f"killed with too little in flight: {killed}"
        assert set(killed) == {
            "gateway", "sponsor", "invoicer", "redis", "settler", "nats", STREAMS, "worker-1", "attestor", CROWD,
            *LIGHTNING[backend],
        }  # fmt: skip
        await judged(folder, network, verdicts, peers)


async def judged(folder: Folder, network: Network, verdicts: list[list[str]], peers: int) -> None:
    """What must hold once all is quiet."""
    opened = count(folder, "submissions")
    assert opened >= peers * 3 // 4, f"only {opened} submissions were opened"
    assert count(folder, "submissions", "upload is not null and scored is null") == 0, "a gradient was lost"
    as_peers_tell_it(folder, verdicts, peers)
    assert count(folder, "rungs", "state = 'settled'") > 0
    assert count(folder, "rungs", "state in ('registered', 'in flight')") == 0
    ledger = books.ledger(books_of(folder))
    assert ledger.open_escrows == 0
    assert ledger.debits_msat == ledger.credits_msat
    assert all(one.pending_debits_msat == one.pending_credits_msat == 0 for one in ledger.accounts.values())
    assert all(one.debits_msat == one.credits_msat for name, one in ledger.accounts.items() if name.startswith("peer:"))
    found = await comparing.ask(network.nats_url)
    assert found.rungs == 6 * count(folder, "submissions", "commitment in (select commitment from rungs)")
    assert found.fees >= opened
    assert not found.differences, found.differences[:5]
    assert count(folder, "submissions", "frozen") == 0


def as_peers_tell_it(folder: Folder, verdicts: list[list[str]], peers: int) -> None:
    """Each has one verdict and one fee, those that were killed are no worse off, and their sums are the books'."""
    assert [len(one) for one in verdicts] == [peers // CROWDS] * CROWDS
    judged = [sum(kind_of(verdict) in ("accepted", "rejected") for verdict in one) for one in verdicts]
    assert min(judged) >= peers // CROWDS // 2, f"so few of each crowd were judged: {judged}"
    assert sum(judged) == count(folder, "submissions", "scored is not null")
    assert count(folder, "(select distinct peer from submissions)") == count(folder, "submissions")
    paid = [fees_of(journal) for journal in folder.peers.glob("crowd-*/*/journal.sqlite3")]
    assert len(paid) == peers
    assert sum(paid) == count(folder, "fees")
    assert max(paid) == 1, "a peer paid a second fee"
    assert sum(rewards_of(folder)) == total_msat(folder, "rungs", "state = 'settled'")


# --- killing ----------------------------------------------------------------------------------------------------------


async def kill_everything(network: Network, played: "Crowd", backend: Backend) -> dict[str, int]:
    """Each process in turn, each once so many have come so far that it has work; the next only once it is back.

    How many submissions had not ended when each was killed. The coordinator's node only once most ladders are locked: what
    it is paying when it dies, and until its channels are back, finds no way, and comes back to it.
    """
    folder, killed = network.folder, {}
    open_ = functools.partial(count, folder, "submissions")
    few, some, half = PEERS // 10, PEERS // 4, PEERS // 2
    for name, moment in (
        ("gateway" + EARLY, lambda: open_() >= few),
        ("sponsor" + EARLY, lambda: count(folder, "tranches") == 1),
        ("invoicer" + EARLY, lambda: open_("offer is not null") >= few),
        ("redis", lambda: open_() >= IN_FLIGHT + few),
        (CROWD, lambda: open_("locked is not null") >= few),
        ("invoicer", lambda: open_("locked is not null") >= few),
        ("settler", lambda: open_("locked is not null") >= some),
        ("nats", lambda: open_("locked is not null") >= half),
        (LIGHTNING[backend][0], lambda: open_("locked is not null") >= IN_FLIGHT),
        ("gateway", lambda: open_("upload is not null") >= few),
        (STREAMS, lambda: open_("upload is not null") >= few),
        *((name, lambda: open_("upload is not null") >= some) for name in LIGHTNING[backend][1:]),
        ("sponsor", lambda: open_("upload is not null") >= some),
        ("worker-1", lambda: open_("upload is not null") >= some),
        ("attestor", lambda: count(folder, "rounds", "phase in ('judge', 'done')") == 1),
    ):
        with contextlib.suppress(TimeoutError):  # on a busy machine the moment passes; it is killed all the same
            await until(moment, patience_s=MOMENT_S)
        killed[name] = open_("state <> 'ended'")
        if name == CROWD:
            await played.killed()
        elif name in LIGHTNING["lnd"]:
            await reviving.kill(folder.lnd, name)
        else:
            await kill(network, name.removesuffix(EARLY))
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
    before = times_ready(process.log)
    if name in ("nats", STREAMS, "redis", "sponsor"):
        process.start_again()
        await asyncio.sleep(0.5)
    elif name == "lightning":
        process.start_again()
        await process.until(lambda: times_ready(process.log) > before or None, deadline_s=services.READY_S)
    else:
        await started_again(network, name)


def times_ready(log: Path) -> int:
    """How often lndsim has said so."""
    return log.read_text(errors="replace").count('"event":"ready"')


# --- peers and blocks -------------------------------------------------------------------------------------------------


class Crowd:
    """One process of peers. Killed and started again it is told the same, and lasts until all have their verdicts."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """One process of the crowd, told what to play."""
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.crowd", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env=services.base_environment(), limit=1 << 24,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(self._told).encode() + b"\n")
        await process.stdin.drain()

    async def killed(self) -> None:
        """SIGKILL, and the same again."""
        await self.end()
        await self.start()

    async def end(self) -> None:
        """Dead at once, if it has not ended."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def verdicts(self) -> list[str]:
        """Its last line."""
        assert self._process is not None
        assert self._process.stdout is not None
        lines = [line async for line in self._process.stdout]
        assert lines, "a crowd ended without a word; its reason is on stderr"
        verdicts: list[str] = json.loads(lines[-1])["verdicts"]
        return verdicts


@contextlib.asynccontextmanager
async def crowds(folder: Folder, network: Network, peers: int) -> AsyncIterator[list[Crowd]]:
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
    played = [
        Crowd(
            {
                "peers": peers // CROWDS, "first": number * peers // CROWDS, "gateway_url": network.gateway_url,
                "nodes": known, "settler": public.settler, "attestor": public.attestor,
                "folder": str(folder.peers / f"crowd-{number}"),
            }
        )
        for number in range(CROWDS)
    ]  # fmt: skip
    try:
        for one in played:
            await one.start()
        yield played
    finally:
        for one in played:
            await one.end()


async def simulated_blocks(folder: Folder) -> None:
    """After a while so many that whatever a peer left behind expires; a payee's node cancels it before."""
    await asyncio.sleep(QUIET_S)
    async with Control(folder.lnd) as control:
        await control.mine(EXPIRED)


async def real_blocks(folder: Folder) -> None:
    """The same, and ever more until it is over: a rung that went to the chain ends there, once it is deep enough."""
    await asyncio.sleep(QUIET_S)
    while True:
        await reviving.mine(folder.lnd, AT_ONCE)


BLOCKS: dict[Backend, Callable[[Folder], Coroutine[None, None, None]]] = {
    "lndsim": simulated_blocks,
    "lnd": real_blocks,
}


# --- looking ----------------------------------------------------------------------------------------------------------


def kind_of(verdict: str) -> str:
    """Its first word."""
    return verdict.partition(":")[0]


def total_msat(folder: Folder, table: str, where: str) -> int:
    """The sum of their amounts."""
    return count(folder, table, where, what="coalesce(sum(amount_msat), 0)")


def rewards_of(folder: Folder) -> list[int]:
    """What each peer says that it settled at its own node, in msat."""
    told = (file.read_text().splitlines() for file in folder.peers.glob("crowd-*/*/rounds.jsonl"))
    return [json.loads(line)["reward_msat"] for lines in told for line in lines]


def fees_of(journal: Path) -> int:
    """How many fees one peer has paid, as it remembers it."""
    return len(rows(journal, "select 1 from payments where status = 'settled'"))


def still_open(folder: Folder) -> list[tuple[str, ...]]:
    """Submissions that have not ended, each with its state and those of its rungs."""
    return rows(
        books_of(folder), """
        select substr(commitment, 1, 8), state, coalesce((
            select group_concat(state) from rungs where rungs.commitment = submissions.commitment
        ), 'no rungs') from submissions where state <> 'ended'
        """,
    )  # fmt: skip
