"""The invoicer mints a hold invoice if and only if the oracle signed its hash, within our own caps, and in time."""

import hashlib
from typing import Any

import msgspec
import pytest
from l402_invoicer.config import Config
from l402_invoicer.sponsors import SponsorMint
from l402core.errors import Conflict, L402Error, TooLarge, Unauthorized, Unavailable
from l402core.events import Event, SponsorshipMint, SponsorshipMinted
from l402core.lnd.port import InvoiceState, InvoiceView
from l402core.pledges import Announcement
from l402core.signing import SigningKey

ATTESTOR, STRANGER = (SigningKey(bytes([n]) * 32) for n in (2, 3))
HASHES = tuple(hashlib.sha256(bytes([index])).hexdigest() for index in range(2))
NOW_MS = 1_000_000


class Node:
    """Holds invoices; `refusal` is raised instead."""

    def __init__(self) -> None:
        self.made: dict[bytes, dict[str, Any]] = {}
        self.refusal: L402Error | None = None

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None:
        """As the port."""
        return self._view(payment_hash) if payment_hash in self.made else None

    async def add_hold_invoice(self, payment_hash: bytes, **terms: Any) -> InvoiceView:
        """As the port: again with the same terms is the same."""
        if self.refusal is not None:
            raise self.refusal
        if self.made.setdefault(payment_hash, terms) != terms:
            raise Conflict("invoice_exists", "with other terms")
        return self._view(payment_hash)

    def _view(self, payment_hash: bytes) -> InvoiceView:
        made = self.made[payment_hash]
        return InvoiceView(
            payment_hash=payment_hash, bolt11="lnsb…", amount_msat=made["amount_msat"], paid_msat=0,
            state=InvoiceState.OPEN, expiry_s=made["expiry_s"], cltv_expiry=made["cltv_expiry"], created_at=0,
        )  # fmt: skip


class Said:
    """A bus that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def publish(self, event: Event, *, parent: str = "") -> None:
        """As the bus does."""
        self.events.append(event)


def work(*, by: SigningKey = ATTESTOR, amount_msat: int = 20_000_000, **other: Any) -> SponsorshipMint:
    """The settler's request."""
    announced = Announcement(
        sponsorship="aa" * 32, pledge="bb" * 32, sponsor="cc" * 32, amount_msat=amount_msat, tranches=2, margin=1,
        seal_to="dd" * 32, key_id="k1", hashes=HASHES,
    )  # fmt: skip
    made = SponsorshipMint(
        id="s", occurred_at_ms=0, sponsorship="aa" * 32, tranche=1, announcement=by.sign(Announcement.tag, announced),
        expiry_s=60, cltv_expiry=144, not_after_ms=NOW_MS + 1,
    )  # fmt: skip
    return msgspec.structs.replace(made, **other)


class Bench:
    """One invoicer's mint."""

    def __init__(self, **config: Any) -> None:
        self.node, self.said, self.now_ms = Node(), Said(), NOW_MS
        settings = Config(**{"attestor": ATTESTOR.public, **config})
        self.mint = SponsorMint(settings, self.node, self.said, now_ms=lambda: self.now_ms)


async def test_the_invoice_is_on_the_oracles_hash_and_for_the_pledged_amount() -> None:
    """Amount from the oracle's promise, expiry and CLTV from the settler; told as a fact."""
    bench = Bench()
    await bench.mint.mint_tranche(work())
    (made,) = bench.node.made.values()
    assert (made["amount_msat"], made["expiry_s"], made["cltv_expiry"]) == (20_000_000, 60, 144)
    assert made["memo"].startswith("l402-train sponsor")
    (fact,) = bench.said.events
    assert isinstance(fact, SponsorshipMinted)
    assert (fact.payment_hash, fact.tranche) == (HASHES[1], 1)


async def test_a_redelivery_finds_the_same_invoice_also_after_its_time() -> None:
    """One invoice, told as often as it is asked for."""
    bench = Bench()
    await bench.mint.mint_tranche(work())
    bench.now_ms += 10_000
    await bench.mint.mint_tranche(work())
    assert len(bench.node.made) == 1
    assert len(bench.said.events) == 2


async def test_nothing_is_begun_too_late() -> None:
    """The settler has given it up: an invoice now would be nobody's."""
    bench = Bench()
    bench.now_ms += 1
    await bench.mint.mint_tranche(work())
    assert bench.node.made == {}
    assert bench.said.events == []


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        (work(by=STRANGER), Unauthorized),
        (work(sponsorship="ee" * 32), Conflict),
        (work(tranche=2), Conflict),
        (work(tranche=-1), Conflict),
        (work(amount_msat=0), TooLarge),
        (work(amount_msat=10**9 + 1), TooLarge),
        (work(expiry_s=0), TooLarge),
        (work(expiry_s=3_601), TooLarge),
        (work(cltv_expiry=0), TooLarge),
        (work(cltv_expiry=2_017), TooLarge),
    ],
)
async def test_what_the_oracle_did_not_promise_or_our_caps_forbid_is_not_minted(
    asked: SponsorshipMint, refusal: type[L402Error]
) -> None:
    """Our node never hears of it."""
    bench = Bench()
    with pytest.raises(refusal):
        await bench.mint.mint_tranche(asked)
    assert bench.node.made == {}


async def test_without_an_oracle_nothing_is_minted() -> None:
    """No key is pinned, so nobody's word counts."""
    with pytest.raises(Unauthorized, match="no attestor"):
        await Bench(attestor="").mint.mint_tranche(work())


async def test_our_own_macaroon_is_our_own_trouble() -> None:
    """It is tried again, and not a dead letter."""
    bench = Bench()
    bench.node.refusal = Unauthorized("lnd_macaroon", "permission denied")
    with pytest.raises(Unavailable):
        await bench.mint.mint_tranche(work())
