"""A coordinator's node that cannot lock rewards, through the real services: no fee is sold, and its operator is told why."""

import asyncio
import functools
import json
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.port import ChannelView, PaymentStatus
from l402train import books, parts, services
from l402train.credentials import endpoint_of
from l402train.folder import Folder
from l402train.lightning import backend, network, plan
from l402train.parts import COORDINATOR, OBSERVER
from l402train.process import Process
from l402train.stack import Plan, running
from lndsim import Control, Guise

from tests.support.demos import COMMAND, environment, printed
from tests.support.lnd import lnd_is_there
from tests.support.real import require_real
from tests.support.watching import books_of, until

PATIENCE_S = 120.0
LEFT_MSAT = 2_500_000
"""Of each of at most two channels, when money is short: together less than a ladder, and an lnd's fee buffer each."""
SPARE = "node-1"
BOTH = {"settler": "lightning", "invoicer": "lnd"}
"""Whose `/readyz` tells of the coordinator's node, and how its parts begin there."""
SETTLER = {"settler": "lightning"}
CAUSES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("unlocked", "wallet locked, unlock it", BOTH),
    ("synced", "is not synced to the chain", BOTH),
    ("network", "is on mainnet, configured is simnet", BOTH),
    ("version", "lnd '0.18.5-beta', and 0.19.0 or newer is needed", BOTH),
    ("liquidity", "is short of outbound liquidity", SETTLER),
    ("slots", "are short of HTLC slots", SETTLER),
)
"""The check of `l402core.lnd.fitness` that fails, what a refused peer is told, and who tells the operator."""
GUISES = {
    "unlocked": Guise(locked=True),
    "synced": Guise(synced=False),
    "network": Guise(network="mainnet"),
    "version": Guise(version="0.18.5-beta"),
}


@pytest.fixture
def one_long_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes commitments for as long as a test looks, and a stranger may ask as often."""
    monkeypatch.setenv("L402_SETTLER_COMMIT_S", "3600")
    monkeypatch.setenv("L402_ATTESTOR_HEIGHT_POLL_S", "0.5")
    monkeypatch.setenv("L402_GATEWAY_MINTS_PER_CLIENT", "10000")


class Place:
    """A running network, as a stranger and its operator see it."""

    def __init__(self, folder: Folder, http: httpx.AsyncClient) -> None:
        self.folder, self._http = folder, http

    async def challenged(
        self, wanted: Callable[[httpx.Response], bool], *, otherwise: tuple[int, ...] = (402, 503)
    ) -> httpx.Response:
        """The first such answer to a challenge, each for another commitment; the settler looks at its node now and then."""
        async with asyncio.timeout(PATIENCE_S):
            while not wanted(answer := await self._http.post(f"/v1/rounds/1/submissions/{secrets.token_hex(32)}")):
                assert answer.status_code in otherwise, answer.text
                await asyncio.sleep(0.2)
        return answer

    async def get(self, path: str) -> Any:
        """What the gateway shows."""
        return (await self._http.get(path)).json()

    def told(self, service: str, path: str) -> tuple[int, str]:
        """What a service of the coordinator's tells its operator."""
        status, body = services.get((self.folder.run / f"{service}.url").read_text().strip() + path)
        return status, body.decode()

    async def is_ready(self, service: str, *, status: int = 200) -> bool:
        """Whether a service's `/readyz` answers so."""
        return (await asyncio.to_thread(self.told, service, "/readyz"))[0] == status

    def status(self) -> str:
        """`l402-train status`."""
        command = [*COMMAND, "status", "--dir", str(self.folder.root)]
        wide = {**environment(), "COLUMNS": "400"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=wide)
        return printed(self.folder.root.parent, done.stdout, done.stderr)


@asynccontextmanager
async def a_place(folder: Folder, plan: Plan) -> AsyncIterator[Place]:
    """The network, once it sells."""
    async with running(folder, plan, print) as up, httpx.AsyncClient(base_url=up.gateway_url, timeout=30) as http:
        place = Place(folder, http)
        await place.challenged(lambda answer: answer.status_code == 402, otherwise=(404, 503))
        yield place


def a_plan(**more: Any) -> Plan:
    """Nobody trains; one node has a channel with the coordinator's."""
    options: dict[str, Any] = {
        "peers": 0, "spare_nodes": (SPARE,), "rounds": 1, "workers": 1, "wait_for_all": False,
        "gateway_port": parts.free_port(), "overheard": True, **more,
    }  # fmt: skip
    return Plan(**options).checked()


async def refused_and_sold_again(
    place: Place, check: str, words: str, tellers: dict[str, str], lasting: AbstractAsyncContextManager[None]
) -> None:
    """While it lasts: 503 with the reason and no invoice, `/readyz`, the metrics and `status` name it; and then, none of it."""
    async with lasting:
        refusal = await place.challenged(lambda answer: words in answer.text)
        told = refusal.json()
        assert refusal.headers["content-type"] == "application/problem+json", check
        assert (refusal.status_code, told["status"], told["fault"]) == (503, 503, "world"), check
        assert int(refusal.headers["retry-after"]) > 0, check
        assert "www-authenticate" not in refusal.headers, check
        await place.challenged(lambda answer: answer.json()["code"] == "nothing_left")
        for service, prefix in tellers.items():
            assert await asyncio.to_thread(unready, place, service) == {prefix, f"{prefix}_{check}"}, (check, service)
            assert failing(place, service) == {check}, service
        said = await asyncio.to_thread(place.status)
        for prefix in tellers.values():
            assert names_as_lacking(said, f"{prefix}_{check}"), said
        assert words in said.partition("nothing is sold: ")[2], said
    await place.challenged(lambda answer: answer.status_code == 402)
    for service in tellers:
        await until(functools.partial(place.is_ready, service), patience_s=PATIENCE_S)
        assert failing(place, service) == set(), (check, service)
    assert "NOT READY" not in await asyncio.to_thread(place.status), check


def names_as_lacking(status: str, part: str) -> bool:
    """Whether some row of the table says so, over however many lines."""
    return re.search(rf"NOT READY: [^;]*\b{part}\b[^;]*;", status) is not None


def unready(place: Place, service: str) -> set[str]:
    """What `/readyz` says is not."""
    status, body = place.told(service, "/readyz")
    assert status == 503, body
    return {part for part, fine in json.loads(body).items() if not fine}


def failing(place: Place, service: str) -> set[str]:
    """The checks of its node that the metrics say fail, where they say it of the parts as well."""
    lines = place.told(service, "/metrics")[1].splitlines()
    fit = [line for line in lines if line.startswith("l402_node_fit{")]
    assert fit, service
    bad = {line.split('"')[1] for line in fit if line.endswith(" 0.0")}
    ready = {line.split('"')[1] for line in lines if line.startswith("l402_ready{") and line.endswith(" 0.0")}
    assert {part.partition("_")[2] for part in ready} - {""} == bad, (service, ready)
    return bad


@asynccontextmanager
async def guise(control: Control, name: str, shown: Guise) -> AsyncIterator[None]:
    """A simulated node that says so of itself."""
    await control.set_guise(name, shown)
    yield
    await control.set_guise(name, Guise())


@asynccontextmanager
async def no_slots(place: Place, control: Control) -> AsyncIterator[None]:
    """All 483 of every channel are taken; the channels' page says how many are missing, and nothing is booked."""
    others = set(json.loads(place.folder.nodes.read_text())) - {COORDINATOR}
    taken = [await control.fill(COORDINATOR, other) for other in others]
    yield
    channels = await place.get("/v1/channels")
    opening = books.ledger(books_of(place.folder))
    freed = [await control.drain(COORDINATOR, other) for other in others]
    assert taken == freed
    assert max(taken) == 483
    assert channels["slots_free"] == 0
    assert "HTLC slots are free, and a full next round takes" in channels["warning"]
    assert opening.open_escrows == 0
    assert set(opening.accounts) == {"lightning", "treasury"}


@asynccontextmanager
async def no_money(nodes_file: Path) -> AsyncIterator[None]:
    """All but a little of what the coordinator's node can send waits in hold invoices of its neighbours'."""
    described = json.loads(await asyncio.to_thread(nodes_file.read_text))
    nodes = {entry["pubkey"]: node_of(entry) for entry in described.values()}
    ours = nodes[described[COORDINATOR]["pubkey"]]
    held = [
        (nodes[one.remote_pubkey], await hold(ours, nodes[one.remote_pubkey], one)) for one in await ours.channels()
    ]
    yield
    for node, payment_hash in held:
        await node.cancel_invoice(payment_hash)
    for node in nodes.values():
        await node.close()


async def hold(ours: GrpcNode, theirs: GrpcNode, channel: ChannelView) -> bytes:
    """One payment over this channel that waits there; its hash."""
    payment_hash = secrets.token_bytes(32)
    amount_msat = channel.sendable_msat - LEFT_MSAT
    invoice = await theirs.add_hold_invoice(
        payment_hash, amount_msat=amount_msat, memo="", expiry_s=3_600, cltv_expiry=80
    )
    sent = await ours.pay(invoice.bolt11, timeout_s=30, fee_limit_msat=0, cltv_limit=200)
    assert sent.status is PaymentStatus.IN_FLIGHT, sent
    return payment_hash


def node_of(entry: dict[str, Any]) -> GrpcNode:
    """As its owner."""
    return connect(endpoint_of(entry))


@pytest.mark.xdist_group("demo")
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("one_long_round")
async def test_no_fee_is_sold_while_the_node_cannot_lock_a_ladder_and_each_cause_is_named(tmp_path: Path) -> None:
    """Locked, behind the chain, on another network, too old, short of money, short of slots: one after the other. Then the
    attestor's own node: its word on heights is not believed, and it says so."""
    folder = Folder(tmp_path / "network")
    folder.create()
    async with a_place(folder, a_plan()) as place, Control(folder.lnd) as control:
        for check, words, tellers in CAUSES:
            if check in GUISES:
                lasting = guise(control, COORDINATOR, GUISES[check])
            else:
                lasting = no_slots(place, control) if check == "slots" else no_money(folder.nodes)
            await refused_and_sold_again(place, check, words, tellers, lasting)
        async with guise(control, OBSERVER, GUISES["network"]):
            await until(functools.partial(place.is_ready, "attestor", status=503), patience_s=PATIENCE_S)
            assert unready(place, "attestor") == {"lnd", "lnd_network"}
            assert failing(place, "attestor") == {"network"}
            said = await asyncio.to_thread(place.status)
            assert names_as_lacking(said, "lnd_network"), said
        await until(functools.partial(place.is_ready, "attestor"), patience_s=PATIENCE_S)
        assert failing(place, "attestor") == set()


# On real lnds, of which the test itself starts the coordinator's again.


@asynccontextmanager
async def lnds(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[network.LndNetwork]:
    """The same nodes as the stack would start, but ours: it would end with the first of them that ends."""
    names = (COORDINATOR, SPARE, OBSERVER)
    nodes = plan.Plan(
        dir=folder.lnd, nodes=names, channels=((COORDINATOR, SPARE),), capacity_sat=parts.CAPACITY_SAT,
        push_sat=parts.CAPACITY_SAT // 2,
    )  # fmt: skip
    ready = """import signal; print('"event":"ready"', flush=True); signal.pause()"""

    def waiting(folder: Folder, *_: Any, environment: dict[str, str], **__: Any) -> Process:
        return Process("lightning", [sys.executable, "-c", ready], folder.log("lightning"), environment)

    async with network.running(nodes) as started:
        monkeypatch.setattr(backend, "start", waiting)
        yield started


@asynccontextmanager
async def locked(started: network.LndNetwork) -> AsyncIterator[None]:
    """The coordinator's lnd was killed, and started again as one whose wallet a person must open; then as before."""
    process = started.nodes[COORDINATOR].process
    assert process is not None
    opens_itself = process._command
    process._command = tuple(word for word in opens_itself if word != "--noseedbackup")
    process.kill()
    process.start_again()
    yield
    process._command = opens_itself
    process.kill()
    process.start_again()


@pytest.mark.real
@pytest.mark.xdist_group("lnd")
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("one_long_round")
async def test_no_fee_is_sold_while_a_real_lnd_is_locked_or_short_of_money(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on lnd: it was restarted and nobody unlocked it; its money waits in others' hold invoices."""
    require_real(lnd_is_there(), "lnd and btcd (run `make tools`)")
    folder = Folder(tmp_path / "network")
    folder.create()
    async with lnds(folder, monkeypatch) as started, a_place(folder, a_plan(lightning="lnd")) as place:
        lasting = {"unlocked": locked(started), "liquidity": no_money(folder.nodes)}
        for check, words, tellers in CAUSES:
            if check in lasting:
                await refused_and_sold_again(place, check, words, tellers, lasting[check])
