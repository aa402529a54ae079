"""Every key of a running network is made new in the middle of a round, by the commands, and nothing is started again."""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import pytest
from l402core.documents import Terms
from l402core.signing import Signed
from l402train import books, comparing
from l402train.folder import Folder
from l402train.rotating import READ_AGAIN_MS
from l402train.stack import Plan, running

from tests.support import wire
from tests.support.demos import printed
from tests.support.networks import UNHURRIED
from tests.support.secrets_scan import key_values, scan
from tests.support.watching import NETWORK_S, books_of, count, rows, until

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]
ONLY_TIME = ("sealing",)
"""Nothing in the books depends on these; they may go as soon as every reader has read again, which a busy machine reaches."""
RINGS = ("gateway", "preimages", "attestor", "settler", "reading", "sealing", "seed", "answers")


async def test_every_key_is_made_new_while_peers_work_and_the_old_ones_are_retired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient of round 1 waits to be measured: it is paid under the old keys. Round 2 opens and is paid under the new
    ones, whose hand-overs its terms bring. Then the old ones go, and the books agree with the node."""
    for name, value in UNHURRIED.items():
        monkeypatch.setenv(name, value)
    folder = Folder(tmp_path / "network")
    folder.create()
    async with running(folder, Plan(peers=1, rounds=2, workers=1, seed=8, overheard=True).checked(), print) as network:
        made_new = key_values(folder.keys)
        await until(lambda: count(folder, "submissions") == 1, patience_s=NETWORK_S)
        worker = folder.describe().pids["worker-1"]
        os.kill(worker, signal.SIGSTOP)
        try:
            await until(lambda: count(folder, "submissions", "state = 'uploaded'") == 1, patience_s=NETWORK_S)
            before = {ring: (await keys(folder, ring))[0] for ring in RINGS}
            for ring in RINGS:
                assert (await command(folder, "rotate", ring))[0] == 0
                if ring not in ONLY_TIME:
                    assert (await command(folder, "retire", ring, before[ring]))[0] != 0, ring
            replaced_s = time.monotonic()
        finally:
            os.kill(worker, signal.SIGCONT)
        await until(lambda: count(folder, "submissions", "state = 'ended'") == 2, patience_s=NETWORK_S)
        await until(
            lambda: count(folder, "tranches", "state not in ('settled', 'returned')") == 0, patience_s=NETWORK_S
        )
        first, second = terms(folder)
        assert not {first.settler, first.attestor, first.reading_key} & {
            second.settler,
            second.attestor,
            second.reading_key,
        }
        assert (len(first.hand_overs), len(second.hand_overs)) == (0, 3)
        assert count(folder, "rungs", "state = 'settled'") > 0
        assert count(folder, "credits") == count(folder, "freezes") == 0
        ledger = books.ledger(books_of(folder))
        assert ledger.debits_msat == ledger.credits_msat
        assert not (await comparing.ask(network.nats_url)).differences
        await asyncio.sleep(
            max(0.0, replaced_s + READ_AGAIN_MS / 1000 - time.monotonic())
        )  # a fast machine is through by then
        for ring in ("attestor", "settler", "seed"):
            assert (await command(folder, "retire", ring, before[ring]))[0] == 0, ring
            assert before[ring] not in await keys(folder, ring)
    assert wire.heard(folder, "gradient.scored.v1", "escrow.register_locks.v1")
    assert len(set(key_values(folder.keys).values()) - set(made_new.values())) >= len(RINGS)
    assert scan(tmp_path, made_new) == []


async def command(folder: Folder, *words: str) -> tuple[int, str]:
    """What `l402-train keys` answers to these words, and prints."""
    line = [sys.executable, "-m", "l402train", "keys", *words, "--dir", str(folder.root)]
    process = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed(folder.root.parent, out.decode())


async def keys(folder: Folder, ring: str) -> list[str]:
    """The ring's ids, the active one last."""
    code, printed = await command(folder, "list", ring, "--json")
    assert code == 0
    return [one["id"] for one in json.loads(printed)]


def terms(folder: Folder) -> list[Terms]:
    """What each round was opened under."""
    kept = rows(books_of(folder), "select terms from rounds order by round")
    return [msgspec.json.decode(msgspec.json.decode(one, type=Signed).body, type=Terms) for (one,) in kept]
