"""A stranger joins a network that is already running, with keys and a node of its own, and is paid; the books agree."""

import asyncio
import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from l402core.lnd.grpc import connect
from l402core.lnd.port import PaymentStatus
from l402train import books, services
from l402train.credentials import endpoint_of
from l402train.docs.metrics import told_by
from l402train.parts import COORDINATOR

from tests.support.demos import COMMAND, environment, printed

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(300)]
BY_HAND_MSAT = 21_000
SHORT = {f"L402_SETTLER_{name}_S": seconds for name, seconds in
         (("COMMIT", "45"), ("LOCK", "5"), ("UPLOAD", "5"), ("JUDGE", "60"))}  # fmt: skip


def test_whoever_comes_from_elsewhere_is_paid_for_its_work(tmp_path: Path) -> None:
    """`up` says where, `peer` joins, and the books show the fee and the reward under the stranger's key."""
    up = [*COMMAND, "up", "--dir", str(tmp_path / "net"), "--join", "1", "--overhear", "--json"]
    with subprocess.Popen(up, stdout=subprocess.PIPE, text=True, env={**environment(), **SHORT}) as network:
        try:
            assert network.stdout is not None
            told = json.loads(printed(tmp_path, network.stdout.readline()))
            where = ["--url", told["gateway_url"], "--lnd", f"{told['nodes_file']}:{told['join'][0]}"]
            mine = ["--dir", str(tmp_path / "mine"), "--rounds", "1"]
            joined = subprocess.run(
                [*COMMAND, "peer", *where, *mine],
                capture_output=True, text=True, timeout=240, check=False, env=environment(),
            )  # fmt: skip
            status = [*COMMAND, "status", "--dir", str(tmp_path / "net"), "--json"]
            seen = subprocess.run(status, capture_output=True, text=True, timeout=60, check=False)
            urls = {file.stem: file.read_text() for file in (tmp_path / "net").rglob("*.url")}
            until_told(urls["settler"], "l402_rewards_msat_total")
            pages = {name: metrics(url) for name, url in urls.items()}
            reconciled = reconcile(tmp_path, 0)
            by_hand = asyncio.run(paid_by_hand(tmp_path / "net", told["join"][0]))
            behind_the_books = reconcile(tmp_path, 1)
        finally:
            network.terminate()
        printed(
            tmp_path, joined.stdout, joined.stderr, seen.stdout, seen.stderr, *pages.values(), network.stdout.read()
        )
        assert network.wait(60) == 130
    assert joined.returncode == 0, joined.stderr
    finished = next(json.loads(line) for line in joined.stderr.splitlines() if "round.finished" in line)
    assert finished["verdict"] == "accepted"
    assert seen.returncode == 0
    assert all(json.loads(seen.stdout)["running"].values())
    as_the_pages_tell_it(pages, finished["reward_msat"])
    ledger = books.ledger(tmp_path / "net" / "settler" / "books.sqlite3")
    (stranger,) = [account for name, account in ledger.accounts.items() if name.startswith("peer:")]
    assert stranger.debits_msat == stranger.credits_msat == finished["reward_msat"] > 0
    assert ledger.debits_msat == ledger.credits_msat
    assert stat_mode(tmp_path / "mine" / "peer.json") == 0o600
    assert (reconciled["rungs"], reconciled["fees"], reconciled["differences"]) == (6, 1, [])
    (foreign,) = behind_the_books["differences"]
    assert (foreign["weight"], foreign["what"], foreign["payment_hash"]) == ("foreign", "payment", by_hand)
    assert (foreign["books"], foreign["lnd"], foreign["amount_msat"]) == ("unknown", "SETTLED", BY_HAND_MSAT)


def as_the_pages_tell_it(pages: dict[str, str], reward_msat: int) -> None:
    """Each service's metrics after one fee and one reward."""
    assert set(pages) == {"gateway", "invoicer", "settler", "attestor", "worker"}
    assert all("\nl402_ready{" in page and 'l402_ready{part="answers_in_time"}' not in page for page in pages.values())
    assert all('l402_node_fit{check="synced"} 1.0' in pages[name] for name in ("invoicer", "settler"))
    assert all("l402_node_block_height 0.0" not in pages[name] for name in ("settler", "attestor"))
    for name, page in pages.items():
        missing = [one.name for one in told_by(name) if f"# TYPE {one.name} {one.kind}\n" not in page]
        assert missing == [], name
    fees = number(pages["settler"], "l402_fees_msat_total")
    assert fees == 500_000
    assert number(pages["settler"], "l402_rewards_msat_total") == reward_msat
    assert number(pages["attestor"], 'l402_judgements_total{reason="none",verdict="accepted"}') == 1
    assert number(pages["attestor"], "l402_held_out_loss_nats") > 0
    assert number(pages["worker"], 'l402_work_seconds_count{job="measure"}') == 1
    assert number(pages["worker"], 'l402_message_seconds_count{event="gradient.measure.v1",outcome="done"}') == 1
    assert number(pages["invoicer"], 'l402_node_call_seconds_count{call="AddInvoice",outcome="ok"}') >= 1
    assert number(pages["settler"], 'l402_dead_letters_kept{stream="DEAD"}') == 0
    assert number(pages["gateway"], 'l402_request_seconds_count{route="PUT gradient",status="201"}') == 1


def reconcile(place: Path, code: int) -> dict[str, Any]:
    """What an operator is told when the running network compares its books with its node, by exit code too."""
    words = [*COMMAND, "reconcile", "--dir", str(place / "net"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environment())
    printed(place, done.stdout, done.stderr)
    assert done.returncode == code, done.stdout + done.stderr
    compared: dict[str, Any] = json.loads(done.stdout)
    return compared


async def paid_by_hand(net: Path, payee: str) -> str:
    """The payment hash of what the coordinator's node pays to a peer's, and the books know nothing of."""
    nodes = json.loads((net / "lnd" / "nodes.json").read_text())
    async with contextlib.AsyncExitStack() as ends:
        hub, peer = (connect(endpoint_of(nodes[name])) for name in (COORDINATOR, payee))
        for node in (hub, peer):
            ends.push_async_callback(node.close)
        invoice = await peer.add_invoice(amount_msat=BY_HAND_MSAT, memo="by hand", expiry_s=600, cltv_expiry=80)
        paid = await hub.pay_and_wait(invoice.bolt11, timeout_s=30, fee_limit_msat=10_000)
    assert paid.status is PaymentStatus.SETTLED
    return paid.payment_hash.hex()


def metrics(url: str) -> str:
    """A service's page for Prometheus."""
    status, body = services.get(f"{url.strip()}/metrics")
    assert status == 200
    return body.decode()


def until_told(url: str, sample: str, within_s: float = 60.0) -> None:
    """Until a service that reads its books now and then has told of something; the test then says of how much."""
    last = time.monotonic() + within_s
    while number(metrics(url), sample) == 0 and time.monotonic() < last:
        time.sleep(0.2)


def number(page: str, sample: str) -> float:
    """One sample of it."""
    (value,) = [line.rpartition(" ")[2] for line in page.splitlines() if line.rpartition(" ")[0] == sample]
    return float(value)


def stat_mode(path: Path) -> int:
    """A file's permissions."""
    return path.stat().st_mode & 0o777
