"""A node whose channels have no HTLC slot left, through the real services: no fee is sold, and its operator is told why."""

import asyncio
import json
import secrets
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from l402train import books, parts, services
from l402train.folder import Folder
from l402train.parts import COORDINATOR
from l402train.stack import Plan, running
from lndsim import Control

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(300)]
PATIENCE_S = 120.0


async def test_no_fee_is_sold_while_a_ladder_finds_no_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 483 are taken: 503 says that it is our node, nothing is minted or booked, the settler is not ready and names the
    slots, and the channels' page says how many are missing. Once they are free, a fee is asked."""
    monkeypatch.setenv("L402_SETTLER_COMMIT_S", "200")
    monkeypatch.setenv("L402_GATEWAY_MINTS_PER_CLIENT", "10000")
    folder = Folder(tmp_path / "network")
    folder.create()
    plan = Plan(
        peers=0, spare_nodes=("node-1",), rounds=1, workers=1, wait_for_all=False, sponsored=False,
        gateway_port=parts.free_port(), overheard=True,
    ).checked()  # fmt: skip
    async with (
        running(folder, plan, print) as network,
        Control(folder.lnd) as control,
        httpx.AsyncClient(base_url=network.gateway_url) as http,
    ):
        await challenged(http, lambda answer: answer.status_code == 402)
        others = set(json.loads(folder.nodes.read_text())) - {COORDINATOR}
        taken = [await control.fill(COORDINATOR, other) for other in others]
        refusal = await challenged(http, lambda answer: answer.status_code != 402)
        channels = (await http.get("/v1/channels")).json()
        unready = services.get(f"{(folder.run / 'settler.url').read_text().strip()}/readyz")
        opening = books.ledger(folder.settler / "books.sqlite3")
        freed = [await control.drain(COORDINATOR, other) for other in others]
        await challenged(http, lambda answer: answer.status_code == 402)
    told = refusal.json()
    assert taken == freed
    assert max(taken) == 483
    assert (refusal.status_code, told["code"]) == (503, "nothing_left")
    assert told["detail"] == "the coordinator's channels are short of HTLC slots"
    assert "www-authenticate" not in refusal.headers
    assert int(refusal.headers["retry-after"]) > 0
    assert channels["slots_free"] == 0
    assert "HTLC slots are free, and a full next round takes" in channels["warning"]
    assert unready[0] == 503
    assert b"slots" in unready[1]
    assert opening.open_escrows == 0
    assert set(opening.accounts) == {"lightning", "treasury"}


async def challenged(http: httpx.AsyncClient, wanted: Callable[[httpx.Response], bool]) -> httpx.Response:
    """The first such answer to a challenge, each for another commitment; the settler looks at its node now and then."""
    async with asyncio.timeout(PATIENCE_S):
        while not wanted(answer := await http.post(f"/v1/rounds/1/submissions/{secrets.token_hex(32)}")):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return answer
