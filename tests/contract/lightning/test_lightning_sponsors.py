"""A sponsor's tranche over real hold invoices: minted by the invoicer, paid by the sponsor, ended by the settler alone.

Each of the three has a macaroon for its own calls and no other.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from l402_invoicer.config import Config
from l402_invoicer.sponsors import SponsorMint
from l402_settler.watch import Watch
from l402core.errors import Unauthorized
from l402core.events import Event, Reconcile, SponsorshipMint, SponsorshipMinted
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.permissions import INVOICER, SETTLER, SPONSOR, bake
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.secret import Secret

from tests.contract.lightning.backends import Backend, until
from tests.support.settler import ATTESTOR
from tests.support.sponsors import AMOUNT, Patron, patron, payment_hash, preimage


class Said:
    """A bus that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def publish(self, event: Event, *, parent: str = "") -> None:
        """As the bus does."""
        self.events.append(event)


class Play:
    """A coordinator at bob's node, a sponsor at alice's."""

    def __init__(self, at: Patron, invoicer: GrpcNode, settler: GrpcNode, sponsor: GrpcNode, name: str) -> None:
        self.at, self.settler, self.sponsor, self.name = at, settler, sponsor, name
        self.said = Said()
        config = Config(attestor=ATTESTOR.public, sponsor_max_msat=10**9)
        self.mint = SponsorMint(config, invoicer, self.said, now_ms=lambda: at.stage.now_ms)
        self.hash = bytes.fromhex(payment_hash(name, 0))

    async def minted(self) -> str:
        """A pledge is taken, announced and minted; returns the payment request."""
        at = self.at
        id_ = (await at.open(self.name)).sponsorship
        await at.desk.on_announced(at.announced(id_, self.name))
        (asked,) = at.stage.said(SponsorshipMint)
        await self.mint.mint_tranche(asked)
        await self.mint.mint_tranche(asked)  # the bus tells it again: LND has it already, and it is that one
        first, again = self.said.events
        assert isinstance(first, SponsorshipMinted)
        assert isinstance(again, SponsorshipMinted)
        assert first.payment_hash == again.payment_hash
        await at.desk.on_minted(first)
        self.id = id_
        return first.bolt11

    async def state(self, wanted: str) -> None:
        """The settler looks until the tranche is there."""

        async def look() -> str:
            await self.at.desk.tending.tend()
            return (await self.at.tranche(self.id)).state

        assert await until(look, lambda found: found == wanted) == wanted

    async def paid(self, status: PaymentStatus) -> None:
        """The sponsor's own node says so."""
        await until(
            lambda: self.sponsor.lookup_payment(self.hash), lambda view: view is not None and view.status is status
        )


@pytest.fixture
async def play(backend: Backend, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Play]:
    """Three nodes' clients, each with its own macaroon."""
    clients: list[GrpcNode] = []
    for node, uris in (("bob", INVOICER), ("bob", SETTLER), ("alice", SPONSOR)):
        path = tmp_path / f"{len(clients)}.macaroon"
        await asyncio.to_thread(path.write_bytes, await bake(backend.endpoint(node), uris))
        clients.append(connect(msgspec.structs.replace(backend.endpoint(node), macaroon_path=path)))
    invoicer, settler, sponsor = clients
    info = await settler.info()
    (tmp_path / "books").mkdir()
    at = patron(tmp_path / "books", lnd_network=info.network)
    at.stage.office.sight.height = info.block_height
    at.node = settler  # type: ignore[assignment]  # the real one, behind the same port
    at.desk = at.a_desk()
    yield Play(at, invoicer, settler, sponsor, f"{request.node.name} {tmp_path}")
    for client in clients:
        await client.close()
    at.stage.database.close()


@pytest.mark.parametrize("earned", [True, False], ids=["earned", "returned"])
async def test_a_tranche_is_paid_for_progress_and_else_comes_back(play: Play, *, earned: bool) -> None:
    """Both nodes and the books tell the same end, and reconciling finds nothing."""
    at = play.at
    request = await play.minted()
    sent = await play.sponsor.pay(request, timeout_s=10, fee_limit_msat=0, cltv_limit=500)
    assert sent.status is PaymentStatus.IN_FLIGHT
    await play.state("locked")
    terms = await at.stage.open_round()
    assert terms.tranche is not None
    await play.state("funding")
    await at.desk.on_judged(at.judged(play.id, name=play.name, earned=earned))
    await play.state("settled" if earned else "returned")
    await play.paid(PaymentStatus.SETTLED if earned else PaymentStatus.FAILED)
    view = await play.settler.lookup_invoice(play.hash)
    assert view is not None
    assert view.state is (InvoiceState.SETTLED if earned else InvoiceState.CANCELED)
    assert (await at.stage.ledger()).get("lightning", 0) == (-AMOUNT if earned else 0)
    told = await Watch(at.stage.office, play.settler).reconcile(Reconcile())
    assert [one for one in told.differences if one.what == "tranche"] == []


async def test_a_sponsor_who_pays_twice_or_too_late_pays_once_or_never(play: Play) -> None:
    """A second payment of the same request is LND's first one; after our deadline the invoice takes none."""
    request = await play.minted()
    for _ in range(2):
        sent = await play.sponsor.pay(request, timeout_s=10, fee_limit_msat=0, cltv_limit=500)
        assert sent.status is PaymentStatus.IN_FLIGHT
    await play.state("locked")
    view = await play.settler.lookup_invoice(play.hash)
    assert view is not None
    assert view.paid_msat == AMOUNT
    play.at.stage.office.sight.height += 100
    await play.state("returned")
    await play.paid(PaymentStatus.FAILED)
    await play.sponsor.pay(request, timeout_s=5, fee_limit_msat=0, cltv_limit=500)
    await play.paid(PaymentStatus.FAILED)
    assert (await play.at.stage.ledger()) == {}


async def test_a_sponsor_who_never_pays_holds_nothing_up(play: Play) -> None:
    """The round opens without it, and its invoice is cancelled at our node."""
    at = play.at
    await play.minted()
    assert (await at.stage.open_round()).tranche is None
    at.stage.now_ms += at.stage.config.sponsor_pay_s * 1000
    await play.state("returned")
    view = await play.settler.lookup_invoice(play.hash)
    assert view is not None
    assert view.state is InvoiceState.CANCELED


async def test_neither_invoicer_nor_sponsor_can_end_an_invoice(play: Play) -> None:
    """Their macaroons do not open it, preimage or not."""
    await play.minted()
    for node in (play.mint._node, play.sponsor):
        with pytest.raises(Unauthorized):
            await node.cancel_invoice(play.hash)  # type: ignore[attr-defined]  # the real client behind the protocol
        with pytest.raises(Unauthorized):
            await node.settle_invoice(Secret(preimage(play.name, 0)))  # type: ignore[attr-defined]  # the same
