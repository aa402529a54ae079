"""Streams: what comes first, what never comes, and when they end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from l402core.lnd.grpc import GrpcNode
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.lnd.stubs import chainrpc, lnrpc, routerrpc
from l402core.lnd.wire import Wire
from l402core.secret import Secret

from tests.contract.lightning.backends import PATIENCE_S, Backend, a_secret
from tests.contract.lightning.test_lightning_invoices import AMOUNT_MSAT, hold, in_state, lock

T = TypeVar("T")


async def next_of(stream: AsyncIterator[T]) -> T:
    """The next item, in reasonable time."""
    async with asyncio.timeout(PATIENCE_S):
        return await anext(stream)


async def all_of(stream: AsyncIterator[T]) -> list[T]:
    """Everything until the stream ends by itself."""
    async with asyncio.timeout(PATIENCE_S):
        return [item async for item in stream]


async def test_watching_an_invoice_starts_with_its_state_and_ends_with_it(alice: GrpcNode, bob: GrpcNode) -> None:
    """OPEN, ACCEPTED, SETTLED, end; a later watcher sees SETTLED and the end."""
    preimage, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash)
    watched = bob.watch_invoice(payment_hash)
    assert (await next_of(watched)).state is InvoiceState.OPEN
    await alice.pay(invoice.bolt11, timeout_s=10, fee_limit_msat=0, cltv_limit=200)
    assert (await next_of(watched)).state is InvoiceState.ACCEPTED
    await bob.settle_invoice(Secret(preimage))
    assert [view.state for view in await all_of(watched)] == [InvoiceState.SETTLED]
    assert [view.state for view in await all_of(bob.watch_invoice(payment_hash))] == [InvoiceState.SETTLED]


async def test_watching_a_canceled_invoice_ends(bob: GrpcNode) -> None:
    """CANCELED is final."""
    _, payment_hash = a_secret()
    await hold(bob, payment_hash)
    await bob.cancel_invoice(payment_hash)
    assert [view.state for view in await all_of(bob.watch_invoice(payment_hash))] == [InvoiceState.CANCELED]


async def test_an_invoice_may_be_watched_before_it_exists(bob: GrpcNode) -> None:
    """Nothing comes for an unknown hash until there is an invoice."""
    _, payment_hash = a_secret()
    watched = bob.watch_invoice(payment_hash)
    first = asyncio.ensure_future(next_of(watched))
    await asyncio.sleep(0.3)
    assert not first.done()
    await hold(bob, payment_hash)
    assert (await first).state is InvoiceState.OPEN


async def test_the_stream_of_all_invoices_never_tells_of_accepted_or_canceled_ones(
    alice: GrpcNode, bob: GrpcNode, bob_wire: Wire
) -> None:
    """New and settled ones only; whoever waits for ACCEPTED there waits for ever."""
    stream = bob_wire.stream("/lnrpc.Lightning/SubscribeInvoices", lnrpc.InvoiceSubscription())
    preimage, kept = a_secret()
    _, dropped = a_secret()

    async def until_settled() -> list[tuple[bytes, int]]:
        seen = []
        async for invoice in stream:
            seen.append((invoice.r_hash, invoice.state))
            if seen[-1] == (kept, lnrpc.Invoice.SETTLED):
                break
        return seen

    listening = asyncio.create_task(until_settled())
    await asyncio.sleep(0.3)
    await lock(alice, bob, kept)
    await hold(bob, dropped)
    await bob.cancel_invoice(dropped)
    await bob.settle_invoice(Secret(preimage))
    ours = [entry for entry in await asyncio.wait_for(listening, PATIENCE_S) if entry[0] in {kept, dropped}]
    assert ours == [(kept, lnrpc.Invoice.OPEN), (dropped, lnrpc.Invoice.OPEN), (kept, lnrpc.Invoice.SETTLED)]


async def test_settled_invoices_are_told_again_from_an_index(alice: GrpcNode, bob: GrpcNode) -> None:
    """After a restart nothing that was settled meanwhile is missed, and nothing before the index comes again."""
    settled = []
    for _ in range(3):
        invoice = await bob.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
        await alice.pay_and_wait(invoice.bolt11, timeout_s=10, fee_limit_msat=0)
        settled.append(await in_state(bob, invoice.payment_hash, InvoiceState.SETTLED))
    watched = bob.watch_invoices(settle_index=settled[0].settle_index)
    told = [await next_of(watched), await next_of(watched)]
    assert [view.payment_hash for view in told] == [view.payment_hash for view in settled[1:]]
    later = await bob.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    await alice.pay_and_wait(later.bolt11, timeout_s=10, fee_limit_msat=0)
    assert (await next_of(watched)).payment_hash == later.payment_hash


async def test_tracking_a_payment_starts_with_its_state_and_ends_with_it(
    alice: GrpcNode, bob: GrpcNode, alice_wire: Wire
) -> None:
    """IN_FLIGHT first, SUCCEEDED last; quiet trackers get the last only."""
    preimage, payment_hash = a_secret()
    await lock(alice, bob, payment_hash)
    uri = "/routerrpc.Router/TrackPaymentV2"
    loud = alice_wire.stream(uri, routerrpc.TrackPaymentRequest(payment_hash=payment_hash))
    quiet = alice_wire.stream(uri, routerrpc.TrackPaymentRequest(payment_hash=payment_hash, no_inflight_updates=True))
    assert (await next_of(loud)).status == lnrpc.Payment.IN_FLIGHT
    ending = asyncio.ensure_future(all_of(quiet))
    await asyncio.sleep(0.2)
    await bob.settle_invoice(Secret(preimage))
    assert statuses(await ending) == [lnrpc.Payment.SUCCEEDED]
    assert statuses(await all_of(loud))[-1] == lnrpc.Payment.SUCCEEDED


async def test_tracking_all_payments_starts_with_those_in_flight(alice: GrpcNode, bob: GrpcNode) -> None:
    """A settler that starts again sees what is still open, then every end."""
    preimage, payment_hash = a_secret()
    await lock(alice, bob, payment_hash)
    watched = alice.watch_payments()
    async with asyncio.timeout(PATIENCE_S):
        async for view in watched:
            if view.payment_hash == payment_hash:
                assert view.status is PaymentStatus.IN_FLIGHT
                break
        await bob.settle_invoice(Secret(preimage))
        async for view in watched:
            if view.payment_hash == payment_hash and view.status is PaymentStatus.SETTLED:
                assert view.preimage == Secret(preimage)
                return


async def test_sending_streams_from_the_first_update_to_the_last(
    alice: GrpcNode, bob: GrpcNode, alice_wire: Wire
) -> None:
    """The first update has no HTLC yet; none of it is final but the last."""
    invoice = await bob.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    request = routerrpc.SendPaymentRequest(payment_request=invoice.bolt11, timeout_seconds=10)
    updates = await all_of(alice_wire.stream("/routerrpc.Router/SendPaymentV2", request))
    assert list(updates[0].htlcs) == []
    assert statuses(updates[:-1]) == [lnrpc.Payment.IN_FLIGHT] * (len(updates) - 1)
    assert updates[-1].status == lnrpc.Payment.SUCCEEDED
    assert updates[-1].payment_preimage != "00" * 32
    assert updates[0].payment_preimage == "00" * 32


async def test_blocks_come_from_the_tip_on(backend: Backend, alice: GrpcNode, alice_wire: Wire) -> None:
    """The present height first, then one by one."""
    height = (await alice.info()).block_height
    watched = alice.watch_blocks()
    assert await next_of(watched) == height
    await backend.mine(3)
    assert [await next_of(watched) for _ in range(3)] == [height + 1, height + 2, height + 3]
    raw = alice_wire.stream("/chainrpc.ChainNotifier/RegisterBlockEpochNtfn", chainrpc.BlockEpoch())
    assert len((await next_of(raw)).hash) == 32


def statuses(updates: list[Any]) -> list[int]:
    """Of some `lnrpc.Payment`s."""
    return [update.status for update in updates]


async def test_added_invoices_are_told_again_from_an_index(bob: GrpcNode, bob_wire: Wire) -> None:
    """Whoever was away gets what was added meanwhile and is still open; what was canceled is never told here."""
    first, second = a_secret()[1], a_secret()[1]
    await hold(bob, first)
    index = (await looked_up(bob_wire, first)).add_index
    await hold(bob, second)
    await bob.cancel_invoice(second)
    third = a_secret()[1]
    await hold(bob, third)
    stream = bob_wire.stream("/lnrpc.Lightning/SubscribeInvoices", lnrpc.InvoiceSubscription(add_index=index))
    told = await next_of(stream)
    assert (told.r_hash, told.state) == (third, lnrpc.Invoice.OPEN)
    await stream.aclose()


async def looked_up(wire: Wire, payment_hash: bytes) -> Any:
    """`lnrpc.Invoice`."""
    return await wire.call("/lnrpc.Lightning/LookupInvoice", lnrpc.PaymentHash(r_hash=payment_hash))


async def test_watching_again_starts_with_the_state_of_now(alice: GrpcNode, bob: GrpcNode) -> None:
    """A watcher that was left at OPEN and comes back sees ACCEPTED at once; two at a time see the same."""
    preimage, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash)
    left = bob.watch_invoice(payment_hash)
    assert (await next_of(left)).state is InvoiceState.OPEN
    await alice.pay(invoice.bolt11, timeout_s=10, fee_limit_msat=0, cltv_limit=200)
    await in_state(bob, payment_hash, InvoiceState.ACCEPTED)
    one, other = bob.watch_invoice(payment_hash), bob.watch_invoice(payment_hash)
    assert (await next_of(one)).state is (await next_of(other)).state is InvoiceState.ACCEPTED
    await bob.settle_invoice(Secret(preimage))
    for watcher in (one, other):
        assert [view.state for view in await all_of(watcher)] == [InvoiceState.SETTLED]
