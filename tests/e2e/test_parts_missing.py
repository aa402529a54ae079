"""A part goes away under the real services: each that needs it says so by name, lives on, and is ready again by itself.

Of our Lightning node `test_unfit_node` tells.
"""

import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from l402train import services
from l402train.folder import Folder
from l402train.stack import Plan, running

from tests.support.networks import address, ended_in_good_order, stay_at_its_port
from tests.support.postgres import Postgres
from tests.support.watching import NETWORK_S, until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]
RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "part-missing.md"
SERVICES = {
    "gateway": "gateway", "invoicer": "invoicer", "settler": "settler", "attestor": "attestor", "worker": "worker-1",
}  # fmt: skip
"""Each with the process that it is here."""
NEEDED_BY = {
    "bus": set(SERVICES),
    "redis": {"gateway"},
    "database": {"settler", "attestor"},
    "objects": {"gateway", "worker"},
}
TOLD_BY = {**NEEDED_BY, "objects": {"gateway", "worker", "attestor"}}
"""Who names it: the attestor reads objects too, and what it has decided is read at its URL without them."""


@pytest.fixture
def databases(postgres: Postgres) -> Iterator[dict[str, str]]:
    """For the books and for the decisions."""
    made = {"books_url": postgres.make("l402_settler"), "decisions_url": postgres.make("l402_oracle")}
    yield made
    for url in made.values():
        postgres.drop(url)


async def test_a_part_that_is_away_is_named_by_all_who_need_it_and_by_nobody_else(
    tmp_path: Path, postgres: Postgres, databases: dict[str, str]
) -> None:
    """Bus, cache, databases and objects, one after the other. `/livez` says yes all the time: nobody is to be started again
    for it. The runbook of the alert has a line for every part that is ever named. Then each service ends in good order."""
    folder = Folder(tmp_path / "network", **databases)
    folder.create()
    plan = Plan(peers=0, rounds=1, workers=1, wait_for_all=False, overheard=True).checked()
    async with running(folder, plan, print) as network:
        urls = {name: address(folder, process).read_text().strip() for name, process in SERVICES.items()}
        stay_at_its_port(network)
        away: dict[str, Callable[[], object]] = {
            "bus": network.process("nats").kill,
            "redis": network.process("redis").kill,
            "database": lambda: postgres.shut(*databases.values()),
            "objects": lambda: folder.objects.rename(tmp_path / "away"),
        }
        back: dict[str, Callable[[], object]] = {
            "bus": network.process("nats").start_again,
            "redis": network.process("redis").start_again,
            "database": lambda: postgres.open(*databases.values()),
            "objects": lambda: (tmp_path / "away").rename(folder.objects),
        }
        named = set[str]()
        for part, those in NEEDED_BY.items():
            away[part]()
            try:
                lacking = {name: {part} for name in those}
                await until(lambda lacking=lacking: missing(urls) == lacking, patience_s=NETWORK_S)
                assert all(services.get(f"{url}/livez")[0] == 200 for url in urls.values()), part
                await until(lambda part=part: naming(urls, part) == TOLD_BY[part], patience_s=NETWORK_S)
            finally:
                back[part]()
            await until(lambda part=part: missing(urls) == {} and not naming(urls, part), patience_s=NETWORK_S)
            named |= {name for url in urls.values() for name in told(url)[1]}
        assert named <= explained(), "the runbook does not know"
        for name, process in SERVICES.items():
            await ended_in_good_order(network, process)
            assert not address(folder, process).exists(), name


def told(url: str) -> tuple[int, dict[str, bool]]:
    """What `/readyz` answers; 0 and nothing where it does not in time."""
    try:
        status, body = services.get(f"{url}/readyz")
        return status, json.loads(body)
    except (OSError, http.client.HTTPException):
        return 0, {}


def missing(urls: dict[str, str]) -> dict[str, set[str]]:
    """Who is not ready, and what it says it lacks."""
    found = {name: told(url) for name, url in urls.items()}
    return {
        name: {part for part, well in parts.items() if not well}
        for name, (status, parts) in found.items()
        if status != 200
    }


def naming(urls: dict[str, str], part: str) -> set[str]:
    """Who tells Prometheus that it does not reach this part, for the alert."""
    return {name for name, url in urls.items() if f'l402_ready{{part="{part}"}} 0.0' in page(url)}


def page(url: str) -> str:
    """Its numbers."""
    return services.get(f"{url}/metrics")[1].decode()


def explained() -> set[str]:
    """The parts in the first column of the runbook's table."""
    rows = [line.split("|")[1] for line in RUNBOOK.read_text().splitlines() if line.startswith("| `")]
    return {name for cell in rows for name in re.findall("`([a-z_]+)`", cell)}
