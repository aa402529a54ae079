"""The whole system in containers, on real lnds: it pays what was earned, and goes on after whatever is done to its parts.

One system for all tests, in their order; each ends by asking that every escrow is over and that books and node agree.
"""

import json
import time
import urllib.request
from collections.abc import Iterator
from functools import partial

import pytest

from tests.containers import backlog, faults, seeing
from tests.containers.system import HOUSE, System, docker, running

pytestmark = [pytest.mark.real, pytest.mark.timeout(3_600), pytest.mark.xdist_group("containers")]

DASHBOARDS = [
    target["expr"].replace("$__rate_interval", "5m")
    for path in sorted((HOUSE / "deploy" / "k8s" / "dashboards").glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
    for target in panel["targets"]
]
"""Every query of every panel."""
OF_WHAT_WENT_WRONG = ("l402_dead_letters_total", 'outcome!="done"')


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running() as up:
        yield up
        for fault, seconds in up.recoveries:
            print(f"a reward settled {seconds:5.0f} s after: {fault}")  # noqa: T201 - with `pytest -s`, and in CI's log


def test_honest_gradients_are_paid_and_others_return(system: System) -> None:
    """The main story and the rejected one: two honest peers earn, the one that flips its signs gets nothing."""
    paid, unpaid = system.paid_and_unpaid()
    assert paid >= 4, "two honest peers, three rounds; who comes too late for the first has no rungs in it"
    assert unpaid >= 2, "one cheat, three rounds"


def test_a_sponsors_tranche_settles_where_the_model_got_better(system: System) -> None:
    """The sponsor's story: early rounds beat the margin, and its hold invoice at the coordinator's node is taken."""
    settled = "select count(*) from transfers where kind = 'tranche' and phase = 'post'"
    system.until("a tranche has settled", lambda: system.number(settled) > 0)
    system.is_whole()


def test_the_page_and_the_probes_answer_from_outside(system: System) -> None:
    """Only the gateway and the oracle's own URL are published, on loopback."""
    for service, port in (("gateway", 8402), ("gateway-2", 8402), ("attestor", 8403)):
        where = docker("port", system.container(service), str(port)).split()[-1]
        assert where.startswith("127.0.0.1:")
        system.until(f"{service} is ready", partial(_all_ready, f"http://{where}/readyz"))


def _all_ready(url: str) -> bool:
    """What a probe finds; on a busy machine a part may be out of reach for a moment, and then it says so."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - one of ours, on loopback
            return all(json.load(answer).values())
    except OSError:
        return False


def test_prometheus_sees_every_container_of_ours(system: System) -> None:
    """Each of two; and every panel of the dashboards shows something, but for those of what went wrong."""
    seeing.start(system, "prometheus")
    wanted = {"gateway": 2, "invoicer": 2, "settler": 2, "attestor": 1, "worker-1": 1, "worker-2": 1}
    system.until(
        "Prometheus reads all of them",
        lambda: {name: health.count("up") for name, health in seeing.targets(system).items()} == wanted,
        limit_s=120.0,
    )
    assert seeing.series(system, "l402_locked_msat") == wanted["settler"]
    shown = [query for query in DASHBOARDS if not any(word in query for word in OF_WHAT_WENT_WRONG)]
    system.until("every panel shows something", lambda: all(seeing.series(system, query) for query in shown))


def test_the_collector_takes_spans_from_a_container_of_ours(system: System) -> None:
    """By its name on the inner network; its log has a line for each."""
    seeing.start(system, "collector")
    sent = seeing.spans_sent(system, "gateway")
    assert sent
    whole = {"outer", "inner"}
    system.until("both are printed", lambda: seeing.spans_printed(system, sent) == whole, limit_s=60.0)


KILLED = [
    "gateway",
    "gateway-2",
    "invoicer",
    "invoicer invoicer-2",
    "settler",
    "settler settler-2",
    "attestor",
    "worker-1",
    "worker-1 worker-2",
    "peer-1",
    "sponsor",
]


@pytest.mark.parametrize("services", KILLED)
def test_our_own_container_is_killed_with_submissions_in_flight(system: System, services: str) -> None:
    """kill -9 and up again; one of two, and both at once."""
    now = system.mid_round()
    faults.kill(system, *services.split())
    system.after(f"kill -9 of {services}", now)
    system.is_whole()


@pytest.mark.parametrize("service", ["nats", "redis", "postgres", "lnd-coordinator", "lnd-observer", "lnd-peer-1"])
def test_a_part_that_is_not_ours_is_killed_with_submissions_in_flight(system: System, service: str) -> None:
    """The database with work in its hands, the node with HTLCs out; Redis keeps nothing and comes back empty."""
    now = system.mid_round()
    faults.kill(system, service)
    system.after(f"kill -9 of {service}", now)
    system.is_whole()


def test_the_chain_is_away_for_a_while(system: System) -> None:
    """Stopped, not killed: the only btcd of a chain loses its last block with kill -9, and every lnd its way to the rest."""
    now = system.mid_round()
    with faults.stopped(system, "btcd"):
        time.sleep(10)
    system.after("btcd was stopped for 10 s", now)
    system.is_whole()


@pytest.mark.parametrize("stream", ["FACTS", "WORK"])
def test_a_stream_is_deleted(system: System, stream: str) -> None:
    """The keepers of the books declare it again and say again what is open."""
    now = system.mid_round()
    faults.delete_stream(system, stream)
    system.after(f"stream {stream} was deleted", now)
    system.is_whole()


@pytest.mark.parametrize("stream", ["FACTS", "WORK"])
def test_bits_of_a_stream_flip_on_disk(system: System, stream: str) -> None:
    """NATS comes back to blocks in which checksums are wrong, and forgets what it cannot read."""
    now = system.mid_round()
    assert faults.spoil_stream(system, stream) or stream == "WORK", "the work queue may be empty just then"
    system.after(f"bits of stream {stream} flipped", now)
    system.is_whole()


@pytest.mark.parametrize("service", ["invoicer", "attestor", "nats", "postgres", "lnd-coordinator", "s3"])
def test_a_part_is_cut_off_the_network_for_a_while(system: System, service: str) -> None:
    """It runs, and nobody reaches it for ten seconds."""
    now = system.mid_round()
    with faults.cut_off(system, service):
        time.sleep(10)
    system.after(f"{service} was cut off for 10 s", now)
    system.is_whole()


PAIRS = [
    ("settler", "postgres"),
    ("settler", "nats"),
    ("settler", "lnd-coordinator"),
    ("attestor", "lnd-observer"),
    ("lnd-coordinator", "lnd-peer-1"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_the_network_is_cut_between_two_parts(system: System, one: str, other: str) -> None:
    """Packets are dropped for fifteen seconds: no refusal tells either that the other is away."""
    now = system.mid_round()
    with faults.cut_between(system, one, other):
        time.sleep(15)
    system.after(f"nothing between {one} and {other} for 15 s", now)
    system.is_whole()


def test_workers_come_and_go_in_mid_round_and_measure_the_same(system: System) -> None:
    """One, three, one: every submission of those rounds, measured again by us, comes out as its receipt says."""
    now = system.mid_round()
    with faults.stopped(system, "worker-2"):
        system.after("one of two workers went", now)
        now = system.mid_round()
        system.run("up", "--detach", "--no-recreate", "--scale", "worker-1=3", "worker-1")
        try:
            system.after("two workers came", now)
            later = system.mid_round()
        finally:
            system.run("up", "--detach", "--no-recreate", "--scale", "worker-1=1", "worker-1")
        system.after("two of three workers went", later)
    system.is_whole()
    for judged in (now, later):
        url = f"http://attestor:8403/v1/rounds/{judged}"
        system.operator("verify-receipt", url, "--round", "--rerun", "--objects", "http://gateway:8402")


def test_a_poisoned_message_lies_in_a_backlog_of_ten_thousand(system: System) -> None:
    """Nobody reads for a while; then all is read, one message is given up and kept as a dead letter, and pay goes on."""
    now = system.mid_round()
    dead = backlog.dead_letters(system)
    with faults.stopped(system, "settler", "settler-2"):
        backlog.pile_up(system, 10_000)
    took = system.until("the backlog is read", lambda: backlog.left(system) == 0)
    print(f"10,000 facts read in {took:.0f} s")  # noqa: T201 - with `pytest -s`
    assert backlog.dead_letters(system) == dead + 1
    system.after("a backlog of 10,000 with a poisoned message", now)
    system.is_whole()


@pytest.mark.parametrize("seconds", [20, -20])
def test_clocks_of_the_second_services_go_wrong(system: System, seconds: int) -> None:
    """Within what signatures of peers may be old: whichever gateway, invoicer or settler acts, the rounds go on."""
    with faults.skewed(system, seconds):
        now = system.mid_round()
        system.after(f"clocks of the second gateway, invoicer and settler went wrong by {seconds:+d} s", now)
        system.is_whole()


MISSED = {
    "postgres": "No space left on device",
    "invoicer invoicer-2": '"code": "disk"',
    "nats": "no space left on device",
}
"""What is in the log of whoever misses the space."""


@pytest.mark.parametrize("volumes", MISSED)
def test_a_disk_is_full_for_a_while(system: System, volumes: str) -> None:
    """Nothing is promised that could not be written down. NATS takes nothing more then, and wants to be started again."""
    now = system.mid_round()
    with faults.disks_full(system, *volumes.split()):
        system.until("somebody misses the space", lambda: MISSED[volumes] in system.log_of(*volumes.split()))
        time.sleep(10)
    if volumes == "nats":
        faults.kill(system, "nats")
    system.after(f"the disk of {volumes} was full", now)
    system.is_whole()


def test_books_and_decisions_are_restored_from_a_backup(system: System) -> None:
    """As docs/deploy.md says it: who writes them stops, all of both is lost, and they go on from the backup."""
    now = system.mid_round()
    lines = system.number("select count(*) from transfers")
    faults.lost_and_restored(system)
    assert system.number("select count(*) from transfers") >= lines
    system.after("both databases were restored from a backup", now)
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
        kept = system.inside(name, program).split()
        assert kept, f"no secret is on the shelf of {shelf}"
        assert not [secret for secret in kept if secret in logs], shelf
