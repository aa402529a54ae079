"""The object store goes away in mid-round and comes back, twice: everybody says so, and every gradient is judged and paid."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from l402train import books, comparing, services
from l402train.exits import Exit
from l402train.folder import Folder
from l402train.stack import Network, Plan, running

from tests.support.demos import COMMAND, environment, printed
from tests.support.networks import UNHURRIED, address
from tests.support.watching import NETWORK_S, count, until

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]
PEERS = 2


async def test_a_round_outlives_the_loss_of_its_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First while gradients are to be uploaded, then while they are to be judged. Gateway and worker are not ready, the
    operator's command names it; when it is back each gradient is judged and paid, and books and node agree."""
    for name, value in UNHURRIED.items():
        monkeypatch.setenv(name, value)
    folder = Folder(tmp_path / "network")
    folder.create()
    plan = Plan(peers=PEERS, rounds=1, workers=1, seed=6, overheard=True).checked()
    async with running(folder, plan, print) as network:
        await until(lambda: count(folder, "submissions") == PEERS, patience_s=NETWORK_S)
        assert count(folder, "submissions", "payload is not null") == 0
        with lost(folder):
            await until(lambda: lacks(folder, "gateway") and lacks(folder, "worker-1"), patience_s=NETWORK_S)
            await until(lambda: lacks(folder, "attestor"), patience_s=NETWORK_S)
            assert services.get(f"{url_of(folder, 'attestor')}/readyz")[0] == 200, "its door stays open"
            await until(lambda: count(folder, "submissions", "state = 'locked'") == PEERS, patience_s=NETWORK_S)
            code, told = await status(folder)
            assert (code, told["ready"]["objects"], told["services"]["gateway"]["objects"]) == (
                Exit.NOT_FOUND, False, False,
            )  # fmt: skip
            await until(lambda: said(network, "gateway", "request.failed", "does not take bytes"), patience_s=NETWORK_S)
            assert count(folder, "submissions", "payload is not null") == 0
        async with halted(network, "worker-1"):
            await until(lambda: count(folder, "submissions", "state = 'uploaded'") == PEERS, patience_s=NETWORK_S)
            folder.objects.rename(away(folder))
        try:
            await until(lambda: said(network, "worker-1", "event.retry", "object_missing"), patience_s=NETWORK_S)
            assert count(folder, "submissions", "scored is not null") == 0
        finally:
            away(folder).rename(folder.objects)
        await until(lambda: count(folder, "submissions", "state = 'ended'") == PEERS, patience_s=NETWORK_S)
        await until(
            lambda: not any(lacks(folder, one) for one in ("gateway", "worker-1", "attestor")), patience_s=NETWORK_S
        )
        ledger = books.ledger(folder.books)
        assert ledger.accounts["rewards"].debits_msat > 0
        assert ledger.debits_msat == ledger.credits_msat
        assert count(folder, "credits") == count(folder, "freezes") == 0
        assert not (await comparing.ask(network.nats_url)).differences


def away(folder: Folder) -> Path:
    """Where nobody looks: root could write into the folder whatever its mode."""
    return folder.root.parent / "away"


@contextlib.contextmanager
def lost(folder: Folder) -> Iterator[None]:
    """The objects are not there inside the block, and all of them are again afterwards."""
    folder.objects.rename(away(folder))
    try:
        yield
    finally:
        away(folder).rename(folder.objects)


@contextlib.asynccontextmanager
async def halted(network: Network, name: str) -> AsyncIterator[None]:
    """It does nothing inside the block."""
    pid = network.process(name).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def url_of(folder: Folder, name: str) -> str:
    """Where a service answers."""
    return address(folder, name).read_text().strip()


def lacks(folder: Folder, name: str) -> bool:
    """Whether it says that it does not reach the objects."""
    told = services.readiness(url_of(folder, name)) or {}
    return told.get("objects") is False


async def status(folder: Folder) -> tuple[int, dict[str, Any]]:
    """The operator's command."""

    def ask() -> subprocess.CompletedProcess[str]:
        words = [*COMMAND, "status", "--dir", str(folder.root), "--json"]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environment())

    done = await asyncio.to_thread(ask)
    printed(folder.root.parent, done.stdout, done.stderr)
    return done.returncode, json.loads(done.stdout)


def said(network: Network, name: str, *words: str) -> bool:
    """Whether a line of its log has all of these."""
    lines = network.process(name).log.read_text(errors="replace").splitlines()
    return any(all(word in line for word in words) for line in lines)
