"""The coordinator's node is used past our services: reconcile calls it foreign, a command explains it, the alert ends."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.port import InvoiceView, PaymentStatus
from l402train import books, services
from l402train.credentials import endpoint_of
from l402train.exits import Exit
from l402train.folder import Folder
from l402train.parts import COORDINATOR
from l402train.stack import Plan, running

from tests.support.demos import COMMAND, environment, printed
from tests.support.networks import address
from tests.support.watching import NETWORK_S, until

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]
STRANGER = "node-1"
PAID, RECEIVED = 70_000, 3_000
METRIC = 'l402_ledger_differences{weight="foreign"}'
ALERT = Path(__file__).parents[2] / "deploy" / "k8s" / "rules.yaml"


async def test_what_was_done_with_the_admin_macaroon_is_explained_and_the_alert_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody pays from our node, and is paid there. Both are named, and the settler's number rises; explained, with the sums
    of the node itself, the books balance and agree with it, and the number is zero again."""
    monkeypatch.setenv("L402_SETTLER_RECONCILE_S", "1")
    folder = Folder(tmp_path / "network")
    folder.create()
    plan = Plan(peers=0, rounds=1, workers=1, spare_nodes=(STRANGER,), wait_for_all=False, overheard=True).checked()
    async with running(folder, plan, print):
        url = address(folder, "settler").read_text().strip()
        assert METRIC.split("{", maxsplit=1)[0] in ALERT.read_text()
        await until(lambda: number(url) == 0, patience_s=NETWORK_S)
        before_msat = lightning(folder)
        async with admin(folder, COORDINATOR) as ours, admin(folder, STRANGER) as stranger:
            out = await paid(ours, stranger, PAID)
            back = await paid(stranger, ours, RECEIVED)
        await until(lambda: number(url) == 2, patience_s=NETWORK_S)
        code, told = await command(folder, "reconcile")
        assert (code, {(one["weight"], one["payment_hash"]) for one in json.loads(told)["differences"]}) == (
            Exit.UNTRUE, {("foreign", out), ("foreign", back)},
        )  # fmt: skip
        assert (await command(folder, "write-off", "ab" * 32, "--reason", "a slip"))[0] == Exit.NOT_FOUND
        assert await explained(folder, out) == ("payment", PAID)
        assert await explained(folder, back) == ("receipt", -RECEIVED)
        assert await explained(folder, out) == ("payment", PAID), "again is fine"
        code, told = await command(folder, "reconcile")
        assert (code, json.loads(told)["differences"]) == (Exit.FINE, [])
        await until(lambda: number(url) == 0, patience_s=NETWORK_S)
        ledger = books.ledger(folder.books)
        assert ledger.debits_msat == ledger.credits_msat
        assert lightning(folder) - before_msat == RECEIVED - PAID
        code, told = await command(folder, "explain", out[:12])
        (story,) = json.loads(told)
        assert (code, story["way"], story["amount_msat"], story["by"]) == (Exit.FINE, "out", PAID, "ann")


@contextlib.asynccontextmanager
async def admin(folder: Folder, name: str) -> AsyncIterator[GrpcNode]:
    """A node, with the macaroon that none of our services has."""
    node = connect(endpoint_of(json.loads(folder.nodes.read_text())[name]))
    try:
        yield node
    finally:
        await node.close()


async def paid(payer: GrpcNode, payee: GrpcNode, amount_msat: int) -> str:
    """Past all books; the payment hash."""
    made: InvoiceView = await payee.add_invoice(amount_msat=amount_msat, memo="rent", expiry_s=600, cltv_expiry=40)
    sent = await payer.pay_and_wait(made.bolt11, timeout_s=20, fee_limit_msat=1_000)
    assert (sent.status, sent.fee_msat) == (PaymentStatus.SETTLED, 0)
    return made.payment_hash.hex()


async def command(folder: Folder, *words: str) -> tuple[int, str]:
    """The real one, as JSON: its exit code, and what it printed."""

    def ask() -> subprocess.CompletedProcess[str]:
        told = [*COMMAND, *words, "--dir", str(folder.root), "--json"]
        return subprocess.run(told, capture_output=True, text=True, timeout=60, check=False, env=environment())

    done = await asyncio.to_thread(ask)
    printed(folder.root.parent, done.stdout, done.stderr)
    return done.returncode, done.stdout


async def explained(folder: Folder, payment_hash: str) -> tuple[str, int]:
    """What it was, and what our node has less for it."""
    code, told = await command(folder, "write-off", payment_hash, "--reason", "the shop's rent", "--by", "ann")
    assert code == Exit.FINE, told
    view: dict[str, Any] = json.loads(told)
    return view["what"], view["lost_msat"]


def number(url: str) -> float | None:
    """How many the settler calls foreign, as Prometheus is told."""
    page = services.get(f"{url}/metrics")[1].decode()
    lines = [line for line in page.splitlines() if line.startswith(METRIC)]
    return float(lines[0].split()[-1]) if lines else None


def lightning(folder: Folder) -> int:
    """Our node's balance as the books have it, msat."""
    account = books.ledger(folder.books).accounts["lightning"]
    return account.debits_msat - account.credits_msat
