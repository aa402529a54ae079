"""Invoices: every row of LND's table of calls and states, and what the port makes of it."""

from collections.abc import Callable
from typing import Any

import pytest
from l402core.errors import Conflict, Malformed, NotFound
from l402core.lnd.grpc import GrpcNode
from l402core.lnd.port import InvoiceState, InvoiceView, PaymentStatus
from l402core.lnd.stubs import invoicesrpc, lnrpc
from l402core.lnd.wire import Wire
from l402core.secret import Secret

from tests.contract.lightning.backends import LOOKUP, LOOKUP_V2, Backend, a_secret, refused, said, until

AMOUNT_MSAT = 21_000_000
SETTLE = "/invoicesrpc.Invoices/SettleInvoice"
CANCEL = "/invoicesrpc.Invoices/CancelInvoice"
ADD_HOLD = "/invoicesrpc.Invoices/AddHoldInvoice"


async def hold(payee: GrpcNode, payment_hash: bytes, **terms: int) -> InvoiceView:
    """A hold invoice at `payee`."""
    asked = {"amount_msat": AMOUNT_MSAT, "expiry_s": 3600, "cltv_expiry": 40} | terms
    return await payee.add_hold_invoice(payment_hash, memo="contract", **asked)


async def lock(payer: GrpcNode, payee: GrpcNode, payment_hash: bytes, **terms: int) -> InvoiceView:
    """A hold invoice that `payer` has paid and `payee` holds."""
    invoice = await hold(payee, payment_hash, **terms)
    sent = await payer.pay(invoice.bolt11, timeout_s=10, fee_limit_msat=0, cltv_limit=200)
    assert sent.status is PaymentStatus.IN_FLIGHT
    return await in_state(payee, payment_hash, InvoiceState.ACCEPTED)


async def in_state(payee: GrpcNode, payment_hash: bytes, state: InvoiceState) -> InvoiceView:
    """Wait until the invoice is in `state`."""
    found = await until(
        lambda: payee.lookup_invoice(payment_hash), lambda view: view is not None and view.state is state
    )
    assert found is not None
    return found


async def bring(payer: GrpcNode, payee: GrpcNode, secret: tuple[bytes, bytes], state: str) -> None:
    """A hold invoice in that state; "unknown" makes none."""
    preimage, payment_hash = secret
    if state in {"OPEN", "CANCELED"}:
        await hold(payee, payment_hash)
    if state in {"ACCEPTED", "SETTLED"}:
        await lock(payer, payee, payment_hash)
    if state == "SETTLED":
        await payee.settle_invoice(Secret(preimage))
    if state == "CANCELED":
        await payee.cancel_invoice(payment_hash)


ROWS = [
    (SETTLE, "OPEN", "invoice still open", "OPEN"),
    (SETTLE, "ACCEPTED", "", "SETTLED"),
    (SETTLE, "SETTLED", "", "SETTLED"),
    (SETTLE, "CANCELED", "invoice already canceled", "CANCELED"),
    (SETTLE, "unknown", "unable to locate invoice", ""),
    (CANCEL, "OPEN", "", "CANCELED"),
    (CANCEL, "ACCEPTED", "", "CANCELED"),
    (CANCEL, "SETTLED", "invoice already settled", "SETTLED"),
    (CANCEL, "CANCELED", "", "CANCELED"),
    (CANCEL, "unknown", "unable to locate invoice", ""),
    (ADD_HOLD, "OPEN", "invoice with payment hash already exists", "OPEN"),
    (ADD_HOLD, "ACCEPTED", "invoice with payment hash already exists", "ACCEPTED"),
    (ADD_HOLD, "SETTLED", "invoice with payment hash already exists", "SETTLED"),
    (ADD_HOLD, "CANCELED", "invoice with payment hash already exists", "CANCELED"),
    (ADD_HOLD, "unknown", "", "OPEN"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0].rpartition('/')[2]}-{row[1]}")
async def test_each_call_in_each_state_gets_lnds_answer(
    alice: GrpcNode, bob: GrpcNode, bob_wire: Wire, row: tuple[str, str, str, str]
) -> None:
    """LND's table, word for word, and the state the invoice is in afterwards."""
    uri, state, answer, after = row
    preimage, payment_hash = secret = a_secret()
    await bring(alice, bob, secret, state)
    request = {
        SETTLE: invoicesrpc.SettleInvoiceMsg(preimage=preimage),
        CANCEL: invoicesrpc.CancelInvoiceMsg(payment_hash=payment_hash),
        ADD_HOLD: invoicesrpc.AddHoldInvoiceRequest(hash=payment_hash, value_msat=AMOUNT_MSAT),
    }[uri]
    assert await said(bob_wire, uri, request) == answer
    view = await bob.lookup_invoice(payment_hash)
    assert (view.state if view else "") == after


async def test_the_port_says_whose_fault_a_refusal_is(alice: GrpcNode, bob: GrpcNode) -> None:
    """Contradicting states are Conflict, an unknown hash is NotFound."""
    preimage, payment_hash = a_secret()
    with pytest.raises(NotFound):
        await bob.settle_invoice(Secret(preimage))
    with pytest.raises(NotFound):
        await bob.cancel_invoice(payment_hash)
    await hold(bob, payment_hash)
    with pytest.raises(Conflict, match="invoice_open"):
        await bob.settle_invoice(Secret(preimage))
    await alice.pay((await hold(bob, payment_hash)).bolt11, timeout_s=10, fee_limit_msat=0, cltv_limit=200)
    await in_state(bob, payment_hash, InvoiceState.ACCEPTED)
    await bob.settle_invoice(Secret(preimage))
    with pytest.raises(Conflict, match="invoice_settled"):
        await bob.cancel_invoice(payment_hash)


async def test_adding_the_same_hold_invoice_again_returns_the_first(bob: GrpcNode) -> None:
    """A retry after a lost answer finds its invoice; other terms on the hash are a conflict."""
    _, payment_hash = a_secret()
    first = await hold(bob, payment_hash)
    assert await hold(bob, payment_hash) == first
    for other in ({"amount_msat": AMOUNT_MSAT + 1000}, {"expiry_s": 3601}, {"cltv_expiry": 41}):
        with pytest.raises(Conflict, match="other terms"):
            await hold(bob, payment_hash, **other)


async def test_an_invoice_says_what_was_asked(bob: GrpcNode) -> None:
    """The view of a new invoice, of its look-up and of the list are the same."""
    _, payment_hash = a_secret()
    made = await hold(bob, payment_hash, expiry_s=777, cltv_expiry=55)
    assert made.bolt11.startswith("lnsb")
    assert (made.state, made.amount_msat, made.paid_msat) == (InvoiceState.OPEN, AMOUNT_MSAT, 0)
    assert (made.expiry_s, made.cltv_expiry, made.payment_hash) == (777, 55, payment_hash)
    assert await bob.lookup_invoice(payment_hash) == made
    assert made in await bob.list_invoices()


async def test_an_unknown_hash_has_no_invoice(bob: GrpcNode) -> None:
    """None, not an error."""
    assert await bob.lookup_invoice(a_secret()[1]) is None


OF_HASH: dict[str, Callable[[bytes], Any]] = {
    LOOKUP_V2: lambda hash_: invoicesrpc.LookupInvoiceMsg(payment_hash=hash_),
    LOOKUP: lambda hash_: lnrpc.PaymentHash(r_hash=hash_),
    SETTLE: lambda hash_: invoicesrpc.SettleInvoiceMsg(preimage=hash_),
    CANCEL: lambda hash_: invoicesrpc.CancelInvoiceMsg(payment_hash=hash_),
}


async def test_a_node_without_any_invoice_has_a_sentence_of_its_own(backend: Backend) -> None:
    """Its look-ups give it different statuses. Asked before any test makes one there: nobody hears it a second time."""
    none = "there are no existing invoices"
    assert backend.before_any == {"LookupInvoiceV2": ("UNKNOWN", none), "LookupInvoice": ("NOT_FOUND", none)}


@pytest.mark.parametrize(
    ("uri", "status"),
    [(LOOKUP_V2, "NOT_FOUND"), (LOOKUP, "NOT_FOUND"), (SETTLE, "UNKNOWN"), (CANCEL, "UNKNOWN")],
    ids=["LookupInvoiceV2", "LookupInvoice", "SettleInvoice", "CancelInvoice"],
)
async def test_an_unknown_hash_is_refused_in_one_sentence(
    bob: GrpcNode, bob_wire: Wire, *, uri: str, status: str
) -> None:
    """Its status is one of two, so the sentence is what must be known."""
    await hold(bob, a_secret()[1])
    assert await refused(bob_wire, uri, OF_HASH[uri](a_secret()[1])) == (status, "unable to locate invoice")


async def test_a_held_htlc_tells_its_expiry_height(alice: GrpcNode, bob: GrpcNode) -> None:
    """At least the final delta above the tip: what the guardian compares with."""
    _, payment_hash = a_secret()
    held = await lock(alice, bob, payment_hash, cltv_expiry=60)
    height = (await bob.info()).block_height
    assert len(held.htlc_expiry_heights) == 1
    assert held.htlc_expiry_heights[0] >= height + 60
    await bob.cancel_invoice(payment_hash)
    canceled = await bob.lookup_invoice(payment_hash)
    assert canceled is not None
    assert canceled.htlc_expiry_heights == ()


async def test_an_open_invoice_is_canceled_when_it_expires(bob: GrpcNode) -> None:
    """Expiry bounds the start of a payment."""
    _, payment_hash = a_secret()
    await hold(bob, payment_hash, expiry_s=1)
    await in_state(bob, payment_hash, InvoiceState.CANCELED)


async def test_lnd_7621_an_accepted_invoice_outlives_its_expiry(alice: GrpcNode, bob: GrpcNode) -> None:
    """Once held, only blocks count: the invoice's expiry has no say any more."""
    preimage, payment_hash = a_secret()
    await lock(alice, bob, payment_hash, expiry_s=2)
    _, other = a_secret()
    await hold(bob, other, expiry_s=2)
    await in_state(bob, other, InvoiceState.CANCELED)
    await bob.settle_invoice(Secret(preimage))
    await in_state(bob, payment_hash, InvoiceState.SETTLED)


async def test_a_plain_invoice_settles_by_itself(alice: GrpcNode, bob: GrpcNode) -> None:
    """The payee's node knows the preimage, and books what was paid."""
    invoice = await bob.add_invoice(amount_msat=AMOUNT_MSAT, memo="plain", expiry_s=600, cltv_expiry=40)
    paid = await alice.pay_and_wait(invoice.bolt11, timeout_s=10, fee_limit_msat=0)
    assert paid.status is PaymentStatus.SETTLED
    settled = await in_state(bob, invoice.payment_hash, InvoiceState.SETTLED)
    assert settled.paid_msat == AMOUNT_MSAT
    assert settled.settle_index > 0


@pytest.mark.parametrize("terms", [{"cltv_expiry": 17}, {"expiry_s": 400 * 86_400}, {"amount_msat": 2 * 10**16}])
async def test_terms_that_lnd_refuses_are_malformed(bob: GrpcNode, terms: dict[str, int]) -> None:
    """A CLTV delta below the minimum, an expiry of more than a year, more money than there is."""
    with pytest.raises(Malformed, match="lnd_refused"):
        await hold(bob, a_secret()[1], **terms)


async def test_a_hash_has_32_bytes(bob_wire: Wire) -> None:
    """Anything else is refused before it is looked for."""
    short = invoicesrpc.CancelInvoiceMsg(payment_hash=b"short")
    assert "length of 5, want 32" in await said(bob_wire, CANCEL, short)


async def test_the_final_delta_has_bounds(bob: GrpcNode) -> None:
    """24 blocks are the least that lnd 0.21 makes, 23 are refused; more than a BOLT 11 delta holds is, too."""
    assert (await hold(bob, a_secret()[1], cltv_expiry=24)).cltv_expiry == 24
    with pytest.raises(Malformed, match="must be greater than minimum of 24"):
        await hold(bob, a_secret()[1], cltv_expiry=23)
    with pytest.raises(Malformed, match="is too large"):
        await hold(bob, a_secret()[1], cltv_expiry=70_000)


async def test_zeros_mean_lnds_defaults(bob: GrpcNode) -> None:
    """80 blocks and a day."""
    made = await hold(bob, a_secret()[1], expiry_s=0, cltv_expiry=0)
    assert (made.expiry_s, made.cltv_expiry) == (86_400, 80)


async def test_a_plain_invoice_may_be_canceled_and_not_settled_by_hand(bob: GrpcNode) -> None:
    """Its state is its own: CancelInvoice works on it as on a hold invoice."""
    made = await bob.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    await bob.cancel_invoice(made.payment_hash)
    await in_state(bob, made.payment_hash, InvoiceState.CANCELED)
    await bob.cancel_invoice(made.payment_hash)
