"""An L402 client that somebody else wrote, from the package index, against our gateway."""

import asyncio
import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from l402_requests import AsyncL402Client
from l402_requests.wallets import WalletBase
from l402core.bolt11 import decode
from l402core.documents import Terms
from l402core.l402 import parse_challenge
from l402core.signing import Signed, open_signed

from tests.support.gateway import SETTLER, Draft, Edge, edge
from tests.support.real import require_real


class Wallet(WalletBase):  # type: ignore[misc]  # the client ships no types
    """Pays by asking the coordinator's table for the preimage, as Lightning would hand it over."""

    def __init__(self, fees: dict[str, bytes]) -> None:
        self.fees = fees
        self.paid: list[int | None] = []

    async def pay_invoice(self, bolt11: str) -> str:
        """The preimage, hex."""
        invoice = decode(bolt11)
        self.paid.append(invoice.amount_msat)
        return self.fees[invoice.payment_hash.hex()].hex()


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Edge]:
    """A gateway with everything behind it."""
    async with edge(tmp_path) as running:
        yield running


async def test_a_stock_client_pays_the_challenge_and_its_credential_is_accepted(it: Edge) -> None:
    """It reads the header, pays once, retries by itself; what is then missing is the peer's signature, not money."""
    draft = Draft(it.coordinator.terms)
    wallet = Wallet(it.coordinator.fees)
    async with AsyncL402Client(wallet=wallet, budget=None) as client:
        answer = await client.put(f"{it.url}{draft.path}/gradient", content=draft.payload)
    assert wallet.paid == [it.coordinator.terms.fee_msat]
    assert (answer.status_code, answer.json()["fault"]) != (402, "caller")
    assert answer.json()["code"] in {"bad_payload_hash", "peer_unsigned"}


async def test_a_bare_curl_put_gets_one_challenge_line(it: Edge) -> None:
    """402, one WWW-Authenticate line, not to be stored, and a body with the round's signed terms."""
    require_real(shutil.which("curl") is not None, "curl")
    draft = Draft(it.coordinator.terms)
    gradient = it.objects.parent / "gradient"
    gradient.write_bytes(draft.payload)
    command = ["curl", "-sS", "-i", "-X", "PUT", "--data-binary", f"@{gradient}", f"{it.url}{draft.path}/gradient"]
    told = (await _run(command)).replace("\r", "")
    head, _, body = told.partition("\n\n")
    lines = [line for line in head.splitlines() if line.lower().startswith("www-authenticate:")]
    assert head.startswith("HTTP/1.1 402")
    assert len(lines) == 1
    challenge = parse_challenge(lines[0].partition(":")[2].strip())
    assert challenge.invoice.amount_msat == it.coordinator.terms.fee_msat
    assert (
        hashlib.sha256(it.coordinator.fees[challenge.invoice.payment_hash.hex()]).digest()
        == challenge.invoice.payment_hash
    )
    assert "cache-control: no-store" in head.lower()
    told_terms = msgspec.convert(msgspec.json.decode(body)["signed_terms"], Signed)
    assert open_signed(told_terms, Terms.tag, Terms, signer=SETTLER.public) == it.coordinator.terms


async def _run(command: list[str]) -> str:
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout
