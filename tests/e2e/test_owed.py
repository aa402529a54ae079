"""A decision that cannot be told in time for its ladder, through all the real services: owed, offered anew, and paid."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from l402core.watched import EVERY_S
from l402train import books, comparing, debts, services
from l402train.folder import Folder
from l402train.stack import Network, Plan, running
from lndsim import Control

from tests.support import wire
from tests.support.networks import UNHURRIED, started_again
from tests.support.watching import NETWORK_S, books_of, count, decisions_of, rows, until

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]
PAST_THE_REVEAL = 30
"""Blocks: the terms allow a reveal within 24 of the round's opening; the HTLCs live longer."""
INSIDE_THE_MARGIN = 21
"""Blocks before the HTLCs expire: the oracle reveals nothing within 24, and payees cancel at 18."""
DOWN = ("settler", "attestor", "invoicer")


async def test_what_is_decided_too_late_is_owed_and_paid_through_a_new_offer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attestor's preimage key is away while blocks come in: decided, and not revealed in time, so the oracle withholds
    the first ladder, the peer cancels it, and is paid the same sum through a second one. The books balance, agree with the
    node, and owe nothing."""
    for name, value in UNHURRIED.items():
        monkeypatch.setenv(name, value)
    folder = Folder(tmp_path / "network")
    folder.create()
    async with running(folder, Plan(peers=1, rounds=1, workers=1, seed=5, overheard=True).checked(), print) as network:
        await until(lambda: count(folder, "submissions") == 1, patience_s=NETWORK_S)
        async with decided_and_untold(folder):
            heights = heights_at(folder)
            async with Control(folder.lnd) as control:
                await control.mine(PAST_THE_REVEAL)
            await until(lambda: min(heights_at(folder)) >= max(heights) + PAST_THE_REVEAL, patience_s=NETWORK_S)
        await paid_anew(folder, network)
    assert wire.heard(folder, "escrow.lock.v1", "gradient.scored.v1", "escrow.register_locks.v1")


async def test_who_was_down_while_the_margin_passed_owes_and_pays_what_was_earned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settler, attestor and invoicer are killed once it is decided and before it is told, and come back inside the CLTV
    margin: nothing is revealed against HTLCs that may be gone, the old ladder returns, and the same sum is paid through a
    second one."""
    for name, value in {**UNHURRIED, "L402_SETTLER_REVEAL_BLOCKS": "200"}.items():
        monkeypatch.setenv(name, value)
    folder = Folder(tmp_path / "network")
    folder.create()
    async with running(folder, Plan(peers=1, rounds=1, workers=1, seed=6, overheard=True).checked(), print) as network:
        await until(lambda: count(folder, "submissions") == 1, patience_s=NETWORK_S)
        async with decided_and_untold(folder):
            expiry = count(folder, "rungs", what="min(expiry_height)")
            for name in DOWN:
                network.process(name).kill()
            async with Control(folder.lnd) as control:
                await control.mine(expiry - INSIDE_THE_MARGIN - await control.height())
        for name in DOWN:
            await started_again(network, name)
        await paid_anew(folder, network)


@contextlib.asynccontextmanager
async def decided_and_untold(folder: Folder) -> AsyncIterator[None]:
    """Between the oracle's decision and its word: its file has another preimage key than the offer's, until the block ends."""
    worker, file = folder.describe().pids["worker-1"], folder.keys / "attestor.json"
    os.kill(worker, signal.SIGSTOP)
    try:
        await until(lambda: count(folder, "submissions", "state = 'uploaded'") == 1, patience_s=NETWORK_S)
        held, other = json.loads(file.read_bytes()), {"other": secrets.token_hex(32)}
        replace(file, {**held, "preimage_keys": other})
        await asyncio.sleep(2 * EVERY_S)  # whoever looks from here on finds it
    finally:
        os.kill(worker, signal.SIGCONT)
    await until(lambda: decided(folder) == [(0,)], patience_s=NETWORK_S)
    try:
        yield
    finally:
        # with the other one, under which the next offer may have been made by now
        replace(file, {**held, "preimage_keys": {**held["preimage_keys"], **other}})


def replace(file: Path, keys: dict[str, object]) -> None:
    """At once, readable for its owner alone."""
    beside = file.with_suffix(".new")
    beside.touch(mode=0o600)
    beside.write_text(json.dumps(keys))
    beside.replace(file)


def decided(folder: Folder) -> list[tuple[int]]:
    """Whether each decision was told, in the attestor's own table."""
    return rows(decisions_of(folder), "select said from decisions")


async def paid_anew(folder: Folder, network: Network) -> None:
    """The first ladder comes back whole, the second is paid, the books balance and agree with the node, and nothing is owed."""
    await until(lambda: count(folder, "transfers", "kind = 'owed'") == 1, patience_s=NETWORK_S)
    await until(lambda: count(folder, "submissions", "state = 'ended'") == 1, patience_s=NETWORK_S)
    assert count(folder, "rungs", "attempt = 1 and state = 'returned'") == 6
    assert count(folder, "rungs", "attempt = 2 and state = 'settled'") > 0
    assert count(folder, "rungs", "attempt = 2 and state <> 'settled'") == 0
    ledger = books.ledger(books_of(folder))
    (owed,) = [one for name, one in ledger.accounts.items() if name.startswith("owed:")]
    (peer,) = [one for name, one in ledger.accounts.items() if name.startswith("peer:")]
    assert owed.debits_msat == owed.credits_msat > 0
    assert peer.debits_msat == peer.credits_msat
    assert ledger.accounts["rewards"].debits_msat == owed.credits_msat
    assert ledger.debits_msat == ledger.credits_msat
    assert debts.debts(books_of(folder)) == []
    assert not (await comparing.ask(network.nats_url)).differences
    assert count(folder, "freezes") == 0


def heights_at(folder: Folder) -> tuple[int, ...]:
    """The block heights that attestor and settler go by, as their own pages tell."""
    found = []
    for name in ("attestor", "settler"):
        (url,) = [file.read_text().strip() for file in folder.root.rglob(f"{name}.url")]
        page = services.get(f"{url}/metrics")[1].decode()
        lines = [line for line in page.splitlines() if line.startswith("l402_node_block_height ")]
        found.append(int(float(lines[0].split()[1])))
    return tuple(found)
