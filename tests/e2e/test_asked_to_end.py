"""Every service is asked to end in mid-round and started again, as a rollout does it: the work in hand is not lost."""

from collections.abc import Callable
from pathlib import Path

import pytest
from l402train import books, comparing, parts, services
from l402train.folder import Folder
from l402train.stack import Plan, running

from tests.support.networks import UNHURRIED, address, ended_in_good_order, started_again
from tests.support.watching import NETWORK_S, count, until

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]


async def test_each_service_finishes_or_hands_back_what_it_has_and_the_round_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM while a ladder is being locked, a gradient uploaded and measured: exit code 0 each time, nothing is given up,
    no fee is owed back, and the gradient is paid."""
    for name, value in UNHURRIED.items():
        monkeypatch.setenv(name, value)
    folder = Folder(tmp_path / "network")
    folder.create()
    plan = Plan(peers=1, rounds=1, workers=1, seed=10, gateway_port=parts.free_port(), overheard=True).checked()
    async with running(folder, plan, print) as network:
        moments: dict[str, Callable[[], bool]] = {
            "invoicer": lambda: count(folder, "submissions", "offer is not null") == 1,
            "gateway": lambda: count(folder, "rungs") == 6,
            "settler": lambda: count(folder, "rungs", "state <> 'registered'") > 0,
            "worker-1": lambda: count(folder, "submissions", "upload is not null") == 1,
            "attestor": lambda: count(folder, "submissions", "upload is not null") == 1,
        }
        for name, moment in moments.items():
            await until(moment, patience_s=NETWORK_S)
            await ended_in_good_order(network, name)
            await started_again(network, name)
        await until(lambda: count(folder, "submissions", "state = 'ended'") == 1, patience_s=NETWORK_S)
        assert count(folder, "rungs", "state = 'settled'") > 0
        assert count(folder, "credits") == count(folder, "freezes") == 0
        assert books.ledger(folder.books).open_escrows == 0
        assert not (await comparing.ask(network.nats_url)).differences
        page = services.get(f"{address(folder, 'settler').read_text().strip()}/metrics")[1].decode()
        assert '\nl402_dead_letters_kept{stream="DEAD"} 0.0\n' in page
