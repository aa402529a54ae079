"""Payments: outcomes, idempotency by payment hash, limits, and the evidence that money is locked."""

import asyncio
import hashlib

import grpc
import pytest
from l402core import bolt11
from l402core.errors import Conflict, Malformed, TooLate
from l402core.lnd.grpc import GrpcNode
from l402core.lnd.port import InvoiceState, PaymentStatus, PaymentView
from l402core.lnd.stubs import lnrpc, routerrpc
from l402core.lnd.wire import Wire
from l402core.secret import Secret

from tests.contract.lightning.backends import CAPACITY_MSAT, Backend, a_secret, said_first, status, until
from tests.contract.lightning.test_lightning_invoices import AMOUNT_MSAT, hold, in_state, lock

SEND = "/routerrpc.Router/SendPaymentV2"


async def pay(payer: GrpcNode, request: str, *, fee_limit_msat: int = 0, cltv_limit: int = 500) -> PaymentView:
    """Dispatch, with limits that do not matter unless given."""
    return await payer.pay(request, timeout_s=10, fee_limit_msat=fee_limit_msat, cltv_limit=cltv_limit)


async def ended(payer: GrpcNode, payment_hash: bytes) -> PaymentView:
    """Wait for a payment's end."""
    final = {PaymentStatus.SETTLED, PaymentStatus.FAILED}
    view = await until(
        lambda: payer.lookup_payment(payment_hash), lambda seen: seen is not None and seen.status in final
    )
    assert view is not None
    return view


async def test_a_held_payment_settles_with_the_preimage(alice: GrpcNode, bob: GrpcNode) -> None:
    """IN_FLIGHT until the payee reveals, then SETTLED, with the preimage as proof."""
    preimage, payment_hash = a_secret()
    await lock(alice, bob, payment_hash)
    flying = await alice.lookup_payment(payment_hash)
    assert flying is not None
    assert (flying.status, flying.preimage) == (PaymentStatus.IN_FLIGHT, None)
    await bob.settle_invoice(Secret(preimage))
    done = await ended(alice, payment_hash)
    assert (done.status, done.preimage, done.amount_msat, done.fee_msat) == (
        PaymentStatus.SETTLED,
        Secret(preimage),
        AMOUNT_MSAT,
        0,
    )


async def test_a_canceled_payment_fails_and_may_be_retried(alice: GrpcNode, bob: GrpcNode) -> None:
    """Only FAILED may be sent again under the same hash, and LND says which failure it was."""
    _, payment_hash = a_secret()
    invoice = await lock(alice, bob, payment_hash)
    await bob.cancel_invoice(payment_hash)
    failed = await ended(alice, payment_hash)
    assert (failed.status, failed.failure) == (PaymentStatus.FAILED, "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS")
    assert failed.preimage is None
    again = await pay(alice, invoice.bolt11)
    assert again.status in {PaymentStatus.FAILED, PaymentStatus.IN_FLIGHT}
    assert (await ended(alice, payment_hash)).status is PaymentStatus.FAILED


async def test_paying_again_while_in_flight_is_answered_with_the_payment(
    alice: GrpcNode, bob: GrpcNode, alice_wire: Wire
) -> None:
    """`payment is in transition` is an answer: one hash, one payment, one HTLC."""
    preimage, payment_hash = a_secret()
    invoice = await lock(alice, bob, payment_hash)
    assert (await pay(alice, invoice.bolt11)).status is PaymentStatus.IN_FLIGHT
    request = routerrpc.SendPaymentRequest(payment_request=invoice.bolt11, timeout_seconds=5)
    assert await said_first(alice_wire, SEND, request) == "payment is in transition"
    pending = [held for channel in await alice.channels() for held in channel.pending_out_hashes]
    assert pending.count(payment_hash) == 1
    await bob.settle_invoice(Secret(preimage))
    await ended(alice, payment_hash)


async def test_paying_again_after_success_is_answered_with_the_payment(
    alice: GrpcNode, bob: GrpcNode, alice_wire: Wire
) -> None:
    """`invoice is already paid` comes as ALREADY_EXISTS and means SETTLED."""
    invoice = await bob.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    first = await alice.pay_and_wait(invoice.bolt11, timeout_s=10, fee_limit_msat=0)
    assert await pay(alice, invoice.bolt11) == first
    assert await alice.pay_and_wait(invoice.bolt11, timeout_s=10, fee_limit_msat=0) == first
    request = routerrpc.SendPaymentRequest(payment_request=invoice.bolt11, timeout_seconds=5)
    with pytest.raises(Conflict) as refused:
        await anext(alice_wire.stream(SEND, request))
    assert status(refused) is grpc.StatusCode.ALREADY_EXISTS
    assert await said_first(alice_wire, SEND, request) == "invoice is already paid"


async def test_an_unknown_payment_is_none(alice: GrpcNode) -> None:
    """NotFound is no failure: it may just have been dispatched."""
    assert await alice.lookup_payment(a_secret()[1]) is None


async def test_a_hold_at_the_deadline_is_unknown_not_failed(alice: GrpcNode, bob: GrpcNode) -> None:
    """Waiting ends, the payment does not."""
    preimage, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash)
    unsure = await alice.pay_and_wait(invoice.bolt11, timeout_s=1, fee_limit_msat=0)
    assert (unsure.status, unsure.amount_msat) == (PaymentStatus.UNKNOWN, AMOUNT_MSAT)
    assert (await alice.pay_and_wait(invoice.bolt11, timeout_s=1, fee_limit_msat=0)).status is PaymentStatus.UNKNOWN
    await in_state(bob, payment_hash, InvoiceState.ACCEPTED)
    await bob.settle_invoice(Secret(preimage))
    assert (await ended(alice, payment_hash)).status is PaymentStatus.SETTLED


async def test_nobody_without_a_channel_is_reached(alice: GrpcNode, dave: GrpcNode) -> None:
    """FAILURE_REASON_NO_ROUTE, final at once."""
    invoice = await dave.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    failed = await pay(alice, invoice.bolt11)
    assert (failed.status, failed.failure) == (PaymentStatus.FAILED, "FAILURE_REASON_NO_ROUTE")


async def test_nobody_pays_more_than_he_has(alice: GrpcNode, bob: GrpcNode) -> None:
    """FAILURE_REASON_INSUFFICIENT_BALANCE: the channel's reserve cannot be spent either."""
    invoice = await bob.add_invoice(amount_msat=CAPACITY_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    failed = await pay(alice, invoice.bolt11)
    assert (failed.status, failed.failure) == (PaymentStatus.FAILED, "FAILURE_REASON_INSUFFICIENT_BALANCE")


async def test_a_forwarding_node_is_paid_within_the_fee_limit(alice: GrpcNode, carol: GrpcNode) -> None:
    """No fee allowed, no route; the same payment with a limit succeeds and says what it cost."""
    invoice = await carol.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    failed = await pay(alice, invoice.bolt11, fee_limit_msat=0)
    assert (failed.status, failed.failure) == (PaymentStatus.FAILED, "FAILURE_REASON_NO_ROUTE")
    paid = await alice.pay_and_wait(invoice.bolt11, timeout_s=15, fee_limit_msat=10_000)
    assert paid.status is PaymentStatus.SETTLED
    assert paid.fee_msat == 1_000 + AMOUNT_MSAT // 1_000_000


async def test_the_time_lock_limit_bounds_the_payers_exposure(alice: GrpcNode, carol: GrpcNode) -> None:
    """Below the final delta it is refused; above that but too low for the route, there is no route."""
    invoice = await carol.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    with pytest.raises(Malformed, match="cltv limit 43 should be greater than 43"):
        await pay(alice, invoice.bolt11, fee_limit_msat=10_000, cltv_limit=43)
    assert await alice.lookup_payment(invoice.payment_hash) is None
    failed = await pay(alice, invoice.bolt11, fee_limit_msat=10_000, cltv_limit=100)
    assert failed.failure == "FAILURE_REASON_NO_ROUTE"
    with pytest.raises(Malformed, match="exceeds max allowed"):
        await pay(alice, invoice.bolt11, cltv_limit=5_000)


async def test_a_payment_tells_when_its_htlc_expires(alice: GrpcNode, bob: GrpcNode) -> None:
    """The payer's time lock is the invoice's delta and three blocks of padding."""
    _, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash, cltv_expiry=50)
    height = (await alice.info()).block_height
    sent = await pay(alice, invoice.bolt11, cltv_limit=54)
    assert sent.htlc_expiry_heights == (height + 53,)
    await in_state(bob, payment_hash, InvoiceState.ACCEPTED)
    await bob.cancel_invoice(payment_hash)


async def test_an_expired_invoice_is_not_paid(alice: GrpcNode, bob: GrpcNode) -> None:
    """TooLate, and LND has never heard of the payment."""
    _, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash, expiry_s=1)
    await in_state(bob, payment_hash, InvoiceState.CANCELED)
    with pytest.raises(TooLate, match="invoice expired"):
        await pay(alice, invoice.bolt11)
    assert await alice.lookup_payment(payment_hash) is None


async def test_nobody_pays_himself(alice: GrpcNode) -> None:
    """`self-payments not allowed`."""
    invoice = await alice.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    with pytest.raises(Conflict, match="self-payments not allowed"):
        await pay(alice, invoice.bolt11)


async def test_an_amount_comes_from_one_side_only(alice: GrpcNode, bob: GrpcNode, alice_wire: Wire) -> None:
    """An invoice without an amount needs one, an invoice with one refuses another."""
    free = await bob.add_invoice(amount_msat=0, memo="", expiry_s=600, cltv_expiry=40)
    assert bolt11.decode(free.bolt11).amount_msat is None
    bare = routerrpc.SendPaymentRequest(payment_request=free.bolt11, timeout_seconds=5)
    assert await said_first(alice_wire, SEND, bare) == "amount must be specified when paying a zero amount invoice"
    fixed = await bob.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    both = routerrpc.SendPaymentRequest(payment_request=fixed.bolt11, timeout_seconds=5, amt_msat=5)
    assert (
        await said_first(alice_wire, SEND, both) == "amount must not be specified when paying a non-zero amount invoice"
    )
    given = routerrpc.SendPaymentRequest(
        payment_request=free.bolt11, timeout_seconds=10, amt_msat=7_000, no_inflight_updates=True
    )
    final = [update async for update in alice_wire.stream(SEND, given)]
    assert [update.status for update in final] == [lnrpc.Payment.SUCCEEDED]
    settled = await in_state(bob, free.payment_hash, InvoiceState.SETTLED)
    assert settled.paid_msat == 7_000


async def test_an_invoice_is_paid_by_one_payment_only(alice: GrpcNode, bob: GrpcNode, carol: GrpcNode) -> None:
    """A second payer of a settled invoice fails: the payee refuses his HTLC."""
    invoice = await carol.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    assert (await bob.pay_and_wait(invoice.bolt11, timeout_s=15, fee_limit_msat=0)).status is PaymentStatus.SETTLED
    late = await alice.pay_and_wait(invoice.bolt11, timeout_s=15, fee_limit_msat=10_000)
    assert (late.status, late.failure) == (PaymentStatus.FAILED, "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS")


async def test_the_evidence_of_a_lock_is_an_htlc_on_the_direct_channel(alice: GrpcNode, bob: GrpcNode) -> None:
    """It is there while the payment is held, and the slot is free again afterwards."""
    preimage, payment_hash = a_secret()
    await lock(alice, bob, payment_hash)
    [channel] = await alice.channels()
    assert payment_hash in channel.pending_out_hashes
    assert channel.pending_out == len(channel.pending_out_hashes)
    assert channel.remote_pubkey == (await bob.info()).pubkey
    assert channel.active
    await bob.settle_invoice(Secret(preimage))
    await ended(alice, payment_hash)
    await until(alice.channels, lambda seen: payment_hash not in seen[0].pending_out_hashes)


async def test_settled_money_has_changed_sides(alice: GrpcNode, bob: GrpcNode) -> None:
    """What left alice's balance is on bob's, to the satoshi."""
    [before] = await alice.channels()
    invoice = await bob.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    await alice.pay_and_wait(invoice.bolt11, timeout_s=10, fee_limit_msat=0)
    [after] = await until(alice.channels, lambda seen: seen[0].remote_msat == before.remote_msat + AMOUNT_MSAT)
    assert after.local_msat == before.local_msat - AMOUNT_MSAT


async def test_lists_know_every_payment_by_its_state(alice: GrpcNode, bob: GrpcNode, dave: GrpcNode) -> None:
    """In flight, settled and failed ones."""
    preimage, held = a_secret()
    await lock(alice, bob, held)
    lost = await dave.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    await pay(alice, lost.bolt11)
    paid = await bob.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    await alice.pay_and_wait(paid.bolt11, timeout_s=10, fee_limit_msat=0)
    states = {view.payment_hash: view.status for view in await alice.list_payments()}
    assert states[held] is PaymentStatus.IN_FLIGHT
    assert states[lost.payment_hash] is PaymentStatus.FAILED
    assert states[paid.payment_hash] is PaymentStatus.SETTLED
    await bob.settle_invoice(Secret(preimage))


async def test_a_held_invoice_is_canceled_before_its_htlc_expires(
    backend: Backend, alice: GrpcNode, bob: GrpcNode
) -> None:
    """The payee's node cancels 18 blocks early, so that no channel is closed over a forgotten invoice."""
    _, payment_hash = a_secret()
    held = await lock(alice, bob, payment_hash, cltv_expiry=30)
    height = (await bob.info()).block_height
    blocks = held.htlc_expiry_heights[0] - 18 - height
    await backend.mine(blocks - 1)
    await until(bob.info, lambda info: info.block_height == height + blocks - 1)
    view = await bob.lookup_invoice(payment_hash)
    assert view is not None
    assert view.state is InvoiceState.ACCEPTED
    await backend.mine(1)
    await in_state(bob, payment_hash, InvoiceState.CANCELED)
    failed = await ended(alice, payment_hash)
    assert failed.failure == "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS"
    assert all(channel.active for channel in await alice.channels())


async def test_the_preimage_is_the_hashs(alice: GrpcNode, bob: GrpcNode) -> None:
    """Proof of payment: what comes back hashes to what was asked."""
    invoice = await bob.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    paid = await alice.pay_and_wait(invoice.bolt11, timeout_s=10, fee_limit_msat=0)
    assert paid.preimage is not None
    assert hashlib.sha256(paid.preimage.reveal()).digest() == invoice.payment_hash
    assert paid.preimage.reveal().hex() not in repr(paid)


async def test_a_refund_after_the_payments_timeout_is_a_timeout(alice: GrpcNode, bob: GrpcNode) -> None:
    """It is FAILED and the money is back at once, but why may change: lnd writes down what failed the HTLC first.

    Only when it looks at its clock again, before it would have tried another route, does it write TIMEOUT over that.
    """
    _, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash)
    await alice.pay(invoice.bolt11, timeout_s=1, fee_limit_msat=0, cltv_limit=200)
    await in_state(bob, payment_hash, InvoiceState.ACCEPTED)
    await asyncio.sleep(1.5)
    await bob.cancel_invoice(payment_hash)
    failed = await ended(alice, payment_hash)
    assert failed.status is PaymentStatus.FAILED
    assert failed.failure in {"FAILURE_REASON_INCORRECT_PAYMENT_DETAILS", "FAILURE_REASON_TIMEOUT"}
    last = await until(
        lambda: alice.lookup_payment(payment_hash),
        lambda seen: seen is not None and seen.failure == "FAILURE_REASON_TIMEOUT",
    )
    assert last is not None
    assert last.status is PaymentStatus.FAILED


async def test_a_held_htlc_counts_as_paid_also_when_it_went_back(alice: GrpcNode, bob: GrpcNode) -> None:
    """`amt_paid` is no proof of income: only SETTLED is."""
    _, payment_hash = a_secret()
    held = await lock(alice, bob, payment_hash)
    await bob.cancel_invoice(payment_hash)
    canceled = await in_state(bob, payment_hash, InvoiceState.CANCELED)
    assert (held.paid_msat, canceled.paid_msat) == (AMOUNT_MSAT, AMOUNT_MSAT)


async def test_many_sends_of_one_hash_are_one_payment(alice: GrpcNode, bob: GrpcNode, alice_wire: Wire) -> None:
    """All but one are answered: initiated, in flight or paid already; one HTLC is out.

    INITIATED lasts for as long as lnd looks for a route, so which of the answers comes is up to lnd.
    """
    preimage, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash)
    request = routerrpc.SendPaymentRequest(payment_request=invoice.bolt11, timeout_seconds=10)
    answers = await asyncio.gather(*(said_first(alice_wire, SEND, request) for _ in range(8)))
    assert answers.count("") == 1
    assert set(answers) <= {"", "payment already exists", "payment is in transition"}
    await in_state(bob, payment_hash, InvoiceState.ACCEPTED)
    out = [held for channel in await alice.channels() for held in channel.pending_out_hashes]
    assert out.count(payment_hash) == 1
    await bob.settle_invoice(Secret(preimage))
    await ended(alice, payment_hash)


async def test_a_hold_invoice_without_an_amount_takes_what_comes(
    alice: GrpcNode, bob: GrpcNode, alice_wire: Wire
) -> None:
    """Zero is any amount, also for a hold invoice: the payer names it, and it is held."""
    preimage, payment_hash = a_secret()
    free = await hold(bob, payment_hash, amount_msat=0)
    assert bolt11.decode(free.bolt11).amount_msat is None
    with pytest.raises(Malformed, match="amount must be specified"):
        await pay(alice, free.bolt11)
    given = routerrpc.SendPaymentRequest(payment_request=free.bolt11, timeout_seconds=10, amt_msat=5_000)
    assert await said_first(alice_wire, SEND, given) == ""
    held = await in_state(bob, payment_hash, InvoiceState.ACCEPTED)
    assert (held.amount_msat, held.paid_msat) == (0, 5_000)
    await bob.settle_invoice(Secret(preimage))
    assert (await ended(alice, payment_hash)).amount_msat == 5_000


async def test_a_payment_in_one_part_must_fit_one_channel(bob: GrpcNode, carol: GrpcNode) -> None:
    """Two channels that would carry it together carry nothing: a rung is one HTLC or none, and so is a fee."""
    ways = [channel for channel in await bob.channels() if channel.remote_pubkey == (await carol.info()).pubkey]
    most = max(channel.local_msat for channel in ways)
    invoice = await carol.add_invoice(amount_msat=most + 1_000_000_000, memo="", expiry_s=600, cltv_expiry=40)
    assert sum(channel.local_msat for channel in ways) > invoice.amount_msat + 1_000_000_000
    failed = await bob.pay(invoice.bolt11, timeout_s=10, fee_limit_msat=0, cltv_limit=500, max_parts=1)
    assert (failed.status, failed.failure) == (PaymentStatus.FAILED, "FAILURE_REASON_NO_ROUTE")
    fee = await carol.add_invoice(amount_msat=invoice.amount_msat, memo="", expiry_s=600, cltv_expiry=40)
    unpaid = await bob.pay_and_wait(fee.bolt11, timeout_s=15, fee_limit_msat=0)
    assert (unpaid.status, unpaid.failure) == (PaymentStatus.FAILED, "FAILURE_REASON_NO_ROUTE")
    above_reserve = max(channel.sendable_msat for channel in ways)
    assert {(channel.reserve_msat, above_reserve < most) for channel in ways} == {(ways[0].capacity_msat // 100, True)}
    over = await carol.add_invoice(amount_msat=above_reserve + 1_000, memo="", expiry_s=600, cltv_expiry=40)
    refused = await bob.pay(over.bolt11, timeout_s=10, fee_limit_msat=0, cltv_limit=500, max_parts=1)
    assert refused.status is PaymentStatus.FAILED  # it would eat into what must stay
    small = await carol.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    paid = await bob.pay_and_wait(small.bolt11, timeout_s=15, fee_limit_msat=0)
    assert paid.status is PaymentStatus.SETTLED


async def test_a_payment_nobody_began_is_not_found(alice_wire: Wire) -> None:
    """`payment isn't initiated`, as NOT_FOUND."""
    request = routerrpc.TrackPaymentRequest(payment_hash=a_secret()[1])
    uri = "/routerrpc.Router/TrackPaymentV2"
    assert await said_first(alice_wire, uri, request) == "payment isn't initiated"
    short = routerrpc.TrackPaymentRequest(payment_hash=b"short")
    assert "length of 5, want 32" in await said_first(alice_wire, uri, short)


async def test_a_smallest_htlc_is_one_satoshi(alice: GrpcNode, bob: GrpcNode) -> None:
    """999 msat find no route, 1,000 do; both are dust on the commitment."""
    for amount_msat, status_ in ((999, PaymentStatus.FAILED), (1_000, PaymentStatus.SETTLED)):
        invoice = await bob.add_invoice(amount_msat=amount_msat, memo="", expiry_s=600, cltv_expiry=40)
        paid = await alice.pay_and_wait(invoice.bolt11, timeout_s=10, fee_limit_msat=0)
        assert paid.status is status_
