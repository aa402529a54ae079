"""The rungs at a peer's own node: what a preimage opens is settled, only the rest is ever cancelled."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from l402_peer_agent import ladder
from l402core.errors import Conflict, TooLate, Unavailable
from l402core.lnd.port import InvoiceState, InvoiceView
from l402core.secret import Secret

from tests.unit.peer_agent.test_peer_policy import HASHES, PREIMAGES, TERMS, an_offer

OFFER = an_offer()


class Node:
    """Answers as told: `silent` times not at all; each rung in its state."""

    def __init__(self, *, silent: int = 0, state: InvoiceState = InvoiceState.ACCEPTED) -> None:
        self.silent, self.state = silent, state
        self.added: list[InvoiceView] = []
        self.settled: list[Secret] = []
        self.cancelled: list[str] = []

    async def add_hold_invoice(
        self, payment_hash: bytes, *, amount_msat: int, memo: str, expiry_s: int, cltv_expiry: int
    ) -> InvoiceView:
        view = self._view(payment_hash, amount_msat, expiry_s, cltv_expiry)
        self.added.append(view)
        return view

    async def watch_invoice(self, payment_hash: bytes) -> AsyncIterator[InvoiceView]:
        self._speak()
        yield self._view(payment_hash, 1, 1, 1)
        await asyncio.Event().wait()

    async def settle_invoice(self, preimage: Secret) -> None:
        self._speak()
        if self.state is not InvoiceState.ACCEPTED:
            raise Conflict("invoice_canceled", "it is gone")
        self.settled.append(preimage)

    async def cancel_invoice(self, payment_hash: bytes) -> None:
        self._speak()
        self.cancelled.append(payment_hash.hex())

    def _speak(self) -> None:
        self.silent -= 1
        if self.silent >= 0:
            raise Unavailable("lnd_unavailable", "no answer")

    def _view(self, payment_hash: bytes, amount_msat: int, expiry_s: int, cltv_expiry: int) -> InvoiceView:
        heights = (500,) if self.state is InvoiceState.ACCEPTED else ()
        return InvoiceView(
            payment_hash=payment_hash, bolt11="ln", amount_msat=amount_msat, paid_msat=0, state=self.state,
            expiry_s=expiry_s, cltv_expiry=cltv_expiry, created_at=0, htlc_expiry_heights=heights,
        )  # fmt: skip


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow one another at once."""
    monkeypatch.setattr(ladder, "PAUSE_S", 0.0)


async def test_the_rungs_are_the_offers() -> None:
    """Hash by hash and amount by amount, within the terms' CLTV and living through the whole round."""
    node = Node()
    await ladder.make(node, OFFER, TERMS, name="peer")
    assert [view.payment_hash.hex() for view in node.added] == list(HASHES)
    assert [view.amount_msat for view in node.added] == list(TERMS.rung_msat())
    assert all(TERMS.cltv_min <= view.cltv_expiry <= TERMS.cltv_max for view in node.added)
    assert all(view.expiry_s >= TERMS.invoice_expiry_min_s for view in node.added)


async def test_a_node_that_is_down_for_a_while_loses_nothing() -> None:
    """Settling is tried again, and counts once."""
    node = Node(silent=5)
    preimages = {0: Secret(PREIMAGES[0]), 3: Secret(PREIMAGES[3])}
    assert await ladder.settle(node, OFFER, preimages) == TERMS.rung_msat()[0] + TERMS.rung_msat()[3]
    assert node.settled == list(preimages.values())


async def test_a_rung_with_a_preimage_is_never_cancelled() -> None:
    """Not even when its settling could not be confirmed: then the node may still do it."""
    node = Node()
    await ladder.cancel(node, OFFER, keep=(1, 4))
    assert node.cancelled == [HASHES[index] for index in (0, 2, 3, 5)]


async def test_what_is_gone_is_not_counted() -> None:
    """A rung that the node has cancelled by itself earns nothing, and stops nothing."""
    assert await ladder.settle(Node(state=InvoiceState.CANCELED), OFFER, {0: Secret(PREIMAGES[0])}) == 0


async def test_all_rungs_are_awaited_and_their_heights_told() -> None:
    """Through a cut stream as well."""
    assert await ladder.all_accepted(Node(silent=3), OFFER, seconds=10) == (500,) * 6


@pytest.mark.parametrize("state", [InvoiceState.OPEN, InvoiceState.CANCELED])
async def test_rungs_that_do_not_come_end_the_wait(state: InvoiceState) -> None:
    """By the deadline, or at once where one has ended."""
    with pytest.raises(TooLate):
        await ladder.all_accepted(Node(state=state), OFFER, seconds=0.05)
