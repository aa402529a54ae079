"""Killed with SIGKILL in every state, before, during and after each call: the hash tells what was done."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from l402core.errors import Conflict, L402Error, Unavailable
from l402core.lnd.grpc import GrpcNode
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.lnd.stubs import invoicesrpc
from l402core.secret import Secret

from tests.contract.lightning.backends import a_secret, said
from tests.contract.lightning.killable import Killable
from tests.contract.lightning.test_lightning_invoices import (
    ADD_HOLD,
    AMOUNT_MSAT,
    CANCEL,
    ROWS,
    SETTLE,
    bring,
    hold,
    in_state,
    lock,
)
from tests.contract.lightning.test_lightning_payments import ended, pay

KILLED_AFTER_S = (0.0, 0.02, 0.08)
"""Into the calls: before they are read, while they are worked on, when some are answered."""

NEVER_SENT_S = 15.0
"""So long, at least, lnd leaves an attempt in flight that it has noted and not sent."""

pytestmark = pytest.mark.timeout(300)


async def again(network: Killable, name: str) -> None:
    """SIGKILL, and the same node again."""
    await network.kill(name)
    await network.revive(name)


async def state(payee: GrpcNode, payment_hash: bytes) -> str:
    """ "" for an unknown hash."""
    view = await payee.lookup_invoice(payment_hash)
    return view.state if view else ""


def test_a_payee_killed_in_each_state_answers_as_if_it_had_not_been(killable: Killable, runner: asyncio.Runner) -> None:
    """LND's whole table once more, with a kill before each call and another one after it."""
    runner.run(_payee_killed(killable))


async def _payee_killed(network: Killable) -> None:
    alice, bob, wire = network.nodes["alice"], network.nodes["bob"], network.wires["bob"]
    rows = [(row, a_secret()) for row in ROWS]
    for (_, before, _, _), secret in rows:
        await bring(alice, bob, secret, before)
    await again(network, "bob")
    for (uri, before, answer, _), (preimage, payment_hash) in rows:
        assert await state(bob, payment_hash) == ("" if before == "unknown" else before), (uri, before)
        request = {
            SETTLE: invoicesrpc.SettleInvoiceMsg(preimage=preimage),
            CANCEL: invoicesrpc.CancelInvoiceMsg(payment_hash=payment_hash),
            ADD_HOLD: invoicesrpc.AddHoldInvoiceRequest(hash=payment_hash, value_msat=AMOUNT_MSAT),
        }[uri]
        assert await said(wire, uri, request) == answer, (uri, before)
    await again(network, "bob")
    for (uri, before, _, after), (preimage, payment_hash) in rows:
        assert await state(bob, payment_hash) == after, (uri, before)
        if before == "ACCEPTED" and after != "ACCEPTED":
            paid = await ended(alice, payment_hash)
            assert paid.status is (PaymentStatus.SETTLED if after == "SETTLED" else PaymentStatus.FAILED)
            assert (paid.preimage == Secret(preimage)) is (after == "SETTLED")
        if after == "ACCEPTED":
            await bob.cancel_invoice(payment_hash)


def test_a_payer_killed_in_each_state_has_one_payment_per_hash(killable: Killable, runner: asyncio.Runner) -> None:
    """Unknown, in flight, settled and failed: all are found again, and paying again changes nothing but the unknown."""
    runner.run(_payer_killed(killable))


async def _payer_killed(network: Killable) -> None:
    alice, bob = network.nodes["alice"], network.nodes["bob"]
    unknown, flying, settled, failed = (a_secret() for _ in range(4))
    requests = {unknown: (await hold(bob, unknown[1])).bolt11}
    for secret in (flying, settled, failed):
        requests[secret] = (await lock(alice, bob, secret[1])).bolt11
    await bob.settle_invoice(Secret(settled[0]))
    await ended(alice, settled[1])
    await bob.cancel_invoice(failed[1])
    await ended(alice, failed[1])
    await again(network, "alice")
    known = [await alice.lookup_payment(secret[1]) for secret in (unknown, flying, settled, failed)]
    assert [view and view.status for view in known] == [
        None, PaymentStatus.IN_FLIGHT, PaymentStatus.SETTLED, PaymentStatus.FAILED,
    ]  # fmt: skip
    assert known[2] == await pay(alice, requests[settled])
    assert (await pay(alice, requests[flying])).status is PaymentStatus.IN_FLIGHT
    await pay(alice, requests[unknown])
    await in_state(bob, unknown[1], InvoiceState.ACCEPTED)
    await again(network, "alice")
    out = [held for channel in await alice.channels() for held in channel.pending_out_hashes]
    assert (out.count(flying[1]), out.count(unknown[1])) == (1, 1)
    for preimage, payment_hash in (flying, unknown):
        await bob.settle_invoice(Secret(preimage))
        assert (await ended(alice, payment_hash)).preimage == Secret(preimage)
    listed = [view.payment_hash for view in await alice.list_payments()]
    assert [listed.count(secret[1]) for secret in (unknown, flying, settled, failed)] == [1, 1, 1, 1]


@pytest.mark.parametrize("after_s", KILLED_AFTER_S)
def test_a_payee_killed_in_the_middle_of_calls_is_asked_again_by_hash(
    killable: Killable, runner: asyncio.Runner, after_s: float
) -> None:
    """Done or not done, never half: the look-up says which, and the same call again ends what it began."""
    runner.run(_payee_killed_during(killable, after_s))


async def _payee_killed_during(network: Killable, after_s: float) -> None:
    alice, bob = network.nodes["alice"], network.nodes["bob"]
    to_settle, to_cancel, to_add = ([a_secret() for _ in range(3)] for _ in range(3))
    for _, payment_hash in (*to_settle, *to_cancel):
        await lock(alice, bob, payment_hash)

    async def calls() -> list[Any]:
        return await asyncio.gather(
            *(unsure(bob.settle_invoice(Secret(preimage))) for preimage, _ in to_settle),
            *(unsure(bob.cancel_invoice(payment_hash)) for _, payment_hash in to_cancel),
            *(unsure(hold(bob, payment_hash)) for _, payment_hash in to_add),
        )

    await killed_during(network, "bob", calls, after_s)
    for wanted, was, group in (
        ("SETTLED", "ACCEPTED", to_settle),
        ("CANCELED", "ACCEPTED", to_cancel),
        ("OPEN", "", to_add),
    ):
        for _, payment_hash in group:
            assert await state(bob, payment_hash) in {wanted, was}
    assert await calls() == [None] * 9
    for preimage, payment_hash in to_settle:
        assert (await ended(alice, payment_hash)).preimage == Secret(preimage)
    for _, payment_hash in to_cancel:
        assert (await ended(alice, payment_hash)).status is PaymentStatus.FAILED
    for _, payment_hash in to_add:
        assert await state(bob, payment_hash) == "OPEN"


@pytest.mark.parametrize("after_s", KILLED_AFTER_S)
def test_a_payer_killed_in_the_middle_of_payments_sends_no_second_htlc(
    killable: Killable, runner: asyncio.Runner, after_s: float
) -> None:
    """Looked up by hash, what LND has never seen is sent; every other payment goes on by itself or has failed."""
    runner.run(_payer_killed_during(killable, after_s))


async def _payer_killed_during(network: Killable, after_s: float) -> None:
    alice, bob = network.nodes["alice"], network.nodes["bob"]
    secrets = [a_secret() for _ in range(4)]
    requests = {payment_hash: (await hold(bob, payment_hash)).bolt11 for _, payment_hash in secrets}

    async def calls() -> list[Any]:
        return await asyncio.gather(*(unsure(pay(alice, request)) for request in requests.values()))

    await killed_during(network, "alice", calls, after_s)
    for payment_hash, request in requests.items():
        if await alice.lookup_payment(payment_hash) is None:
            await pay(alice, request)
    for preimage, payment_hash in secrets:
        outcome = await came_to(alice, bob, payment_hash)
        out = [held for channel in await alice.channels() for held in channel.pending_out_hashes]
        assert out.count(payment_hash) == (1 if outcome == "held" else 0)
        if outcome == "never sent":
            assert await pay(alice, requests[payment_hash]) == await alice.lookup_payment(payment_hash)
        if outcome != "held":
            continue
        await bob.settle_invoice(Secret(preimage))
        settled = await ended(alice, payment_hash)
        assert (settled.status, settled.amount_msat) == (PaymentStatus.SETTLED, AMOUNT_MSAT)
    listed = [view.payment_hash for view in await alice.list_payments()]
    assert all(listed.count(payment_hash) == 1 for payment_hash in requests)


async def came_to(payer: GrpcNode, payee: GrpcNode, payment_hash: bytes) -> str:
    """ "held", "failed", or "never sent".

    lnd 0.21 notes an attempt before its HTLC is in the channel. Killed in between, it was seen to leave the payment
    IN_FLIGHT with no HTLC in any channel, and a second send refused: not failed, and nothing at the payee.
    """
    view = None
    try:
        async with asyncio.timeout(NEVER_SENT_S):
            while True:
                view = await payer.lookup_payment(payment_hash)
                if view is not None and view.status is PaymentStatus.FAILED:
                    return "failed"
                if view is not None and await state(payee, payment_hash) == "ACCEPTED":
                    return "held"
                await asyncio.sleep(0.05)
    except TimeoutError:
        assert view is not None
        assert view.status is PaymentStatus.IN_FLIGHT
        assert await state(payee, payment_hash) == "OPEN"
        return "never sent"


async def killed_during(network: Killable, name: str, calls: Any, after_s: float) -> None:
    """Kill the node some time after the calls have left, and start it again."""
    calling = asyncio.ensure_future(calls())
    await asyncio.sleep(after_s)
    await network.kill(name)
    await calling
    await network.revive(name)


async def unsure(call: Awaitable[Any]) -> str | None:
    """None when it is answered; what is Unavailable may have been done. Anything else is a failure."""
    try:
        await call
    except Unavailable as silence:
        return silence.code
    except Conflict as answer:
        return answer.code
    except L402Error as error:
        pytest.fail(f"{type(error).__name__}: {error}")
    return None
