"""The whole system in containers, on real lnds: it pays what was earned, and goes on after whatever is done to its parts.

One system for all tests, in their order; each ends by asking that every escrow is over and that books and node agree.
"""

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.containers.system import System, docker, running

pytestmark = [pytest.mark.real, pytest.mark.timeout(3_600), pytest.mark.xdist_group("containers")]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running() as up:
        yield up
        for fault, seconds in up.recoveries:
            print(f"a reward settled {seconds:5.0f} s after: {fault}")  # noqa: T201 - with `pytest -s`, and in CI's log


def test_honest_gradients_are_paid_and_others_return(system: System) -> None:
    """The main story and the rejected one: two honest peers earn, the one that flips its signs gets nothing."""
    system.until("three rounds are over", lambda: system.round() > 3)
    system.is_whole()
    paid, unpaid = system.rows(
        "select count(*) filter (where earned > 0), count(*) filter (where earned = 0) from (select commitment, "
        "sum(case when rungs.state = 'settled' then amount_msat else 0 end) as earned "
        "from submissions join rungs using (commitment) where round <= 3 group by commitment) as each_one"
    )[0]
    assert int(paid) >= 4, "two honest peers, three rounds; who comes too late for the first has no rungs in it"
    assert int(unpaid) >= 2, "one cheat, three rounds"


def test_a_sponsors_tranche_settles_where_the_model_got_better(system: System) -> None:
    """The sponsor's story: early rounds beat the margin, and its hold invoice at the coordinator's node is taken."""
    settled = "select count(*) from transfers where kind = 'tranche' and phase = 'post'"
    system.until("a tranche has settled", lambda: system.number(settled) > 0)
    system.is_whole()


def test_the_page_and_the_probes_answer_from_outside(system: System) -> None:
    """Only the gateway and the oracle's own URL are published, on loopback."""
    for service, port in (("gateway", 8402), ("attestor", 8403)):
        where = docker("port", system.container(service), str(port)).split()[-1]
        assert where.startswith("127.0.0.1:")
        with urllib.request.urlopen(f"http://{where}/readyz", timeout=20) as answer:
            assert all(json.load(answer).values()), service


@pytest.mark.parametrize("service", ["gateway", "invoicer", "settler", "attestor", "worker-1", "peer-1", "sponsor"])
def test_our_own_container_is_killed_with_submissions_in_flight(system: System, service: str) -> None:
    """kill -9 and up again."""
    now = system.mid_round()
    system.kill(service)
    system.after(f"kill -9 of {service}", now)
    system.is_whole()


@pytest.mark.parametrize("service", ["nats", "redis", "postgres", "btcd", "lnd-coordinator", "lnd-peer-1"])
def test_a_part_that_is_not_ours_is_killed_with_submissions_in_flight(system: System, service: str) -> None:
    """The database in mid-commit, the node with HTLCs out; Redis keeps nothing and comes back empty."""
    now = system.mid_round()
    system.kill(service)
    system.after(f"kill -9 of {service}", now)
    system.is_whole()


def test_the_stream_of_facts_is_deleted(system: System) -> None:
    """The books declare it again and say again what is open."""
    now = system.mid_round()
    program = (
        "import asyncio, nats\n"
        "async def gone():\n"
        "    client = await nats.connect(open('/secrets/nats_url').read().strip(), inbox_prefix='_INBOX_migrate')\n"
        "    await client.jetstream().delete_stream('FACTS')\n"
        "    await client.close()\n"
        "asyncio.run(gone())\n"
    )
    system.run("run", "--rm", "--no-deps", "--no-TTY", "--entrypoint", "python3.11", "migrate", "-c", program)
    system.after("the stream of facts was deleted", now)
    system.is_whole()


@pytest.mark.parametrize(
    "service", ["settler", "invoicer", "attestor", "worker-2", "nats", "postgres", "lnd-coordinator"]
)
def test_a_part_is_cut_off_the_network_for_a_while(system: System, service: str) -> None:
    """It runs, and nobody reaches it for ten seconds."""
    now = system.mid_round()
    with system.cut_off(service):
        time.sleep(10)
    system.after(f"{service} was cut off for 10 s", now)
    system.is_whole()


def test_workers_come_and_go_in_mid_round(system: System) -> None:
    """Two, one, four: every submission is judged once, whoever measures."""
    now = system.mid_round()
    with system.stopped("worker-2"):
        system.after("one of two workers went", now)
        now = system.mid_round()
    system.run("up", "--detach", "--no-recreate", "--scale", "worker-1=3", "worker-1")
    try:
        system.after("two more workers came", now)
    finally:
        system.run("up", "--detach", "--no-recreate", "--scale", "worker-1=1", "worker-1")
    system.is_whole()


def test_two_settlers_share_the_books(system: System) -> None:
    """Each act is done once, whoever claims it; one of the two is killed."""
    now = system.mid_round()
    system.run("up", "--detach", "--no-recreate", "--scale", "settler=2", "settler")
    try:
        system.after("a second settler came", now)
        now = system.mid_round()
        system.kill("settler")
        system.after("kill -9 of one of two settlers", now)
    finally:
        system.run("up", "--detach", "--no-recreate", "--scale", "settler=1", "settler")
    system.is_whole()


def test_nothing_secret_is_in_any_log(system: System) -> None:
    """Passwords and keys of every shelf, looked for in what every container wrote."""
    logs = system.run("logs", "--no-color")
    for shelf in ("settler", "attestor", "gateway", "worker", "operator", "migrate"):
        program = (
            "import pathlib, re\n"
            "print(' '.join(re.findall(r'[0-9a-f]{64}', ' '.join(p.read_text(errors='ignore') "
            "for p in pathlib.Path('/secrets').iterdir() if p.name in "
            "('key.json', 'nats_url', 'database_url', 'redis_url', 'books_url', 'decisions_url')))))"
        )
        name = {"worker": "worker-1", "operator": "demo"}.get(shelf, shelf)
        words = ["run", "--rm", "--no-deps", "--no-TTY", "--entrypoint", "python3.11", name, "-c", program]
        for secret in system.run(*words).split():
            assert secret not in logs, shelf
