"""What a caller sees when something goes wrong by script: unknown is not failed, and the hash tells what happened.

Only lndsim can be asked for these; a real lnd is killed instead (`test_lightning_restarts.py`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from l402core.errors import Unavailable
from l402core.lnd.grpc import GrpcNode, connect
from l402core.lnd.port import InvoiceState, PaymentStatus
from l402core.secret import Secret
from lndsim import Control, Fault, FaultKind, Faults, Simulation

from tests.contract.lightning.backends import a_secret
from tests.contract.lightning.killable import killable_sim
from tests.contract.lightning.test_lightning_invoices import AMOUNT_MSAT, hold, in_state, lock
from tests.contract.lightning.test_lightning_payments import ended
from tests.contract.lightning.test_lightning_streams import next_of

CAPACITY_MSAT = 2_000_000_000


@pytest.fixture
async def simulation(tmp_path: Path) -> AsyncIterator[Simulation]:
    """alice - bob, all money with alice."""
    async with await Simulation.start(tmp_path) as simulation:
        for name in ("alice", "bob"):
            await simulation.add_node(name)
        simulation.network.open_channel("alice", "bob", CAPACITY_MSAT)
        yield simulation


@pytest.fixture
async def alice(simulation: Simulation) -> AsyncIterator[GrpcNode]:
    """The payer, with a short deadline."""
    node = connect(msgspec.structs.replace(simulation.endpoint("alice"), deadline_s=1.0))
    yield node
    await node.close()


@pytest.fixture
async def bob(simulation: Simulation) -> AsyncIterator[GrpcNode]:
    """The payee, with a short deadline."""
    node = connect(msgspec.structs.replace(simulation.endpoint("bob"), deadline_s=1.0))
    yield node
    await node.close()


async def pay(payer: GrpcNode, request: str) -> PaymentStatus:
    """What is known at once."""
    return (await payer.pay(request, timeout_s=5, fee_limit_msat=0, cltv_limit=200)).status


UNARY = {
    FaultKind.LOST_CALL: ("lnd_unavailable", False),
    FaultKind.LOST_ANSWER: ("lnd_unavailable", True),
    FaultKind.DELAY: ("lnd_deadline", True),
}
"""The code that the caller sees, which is the same with and without the effect, and whether there was one."""


@pytest.mark.parametrize("kind", UNARY)
@pytest.mark.parametrize("method", ["AddHoldInvoice", "SettleInvoice", "CancelInvoice"])
async def test_a_caller_cannot_tell_a_lost_call_from_a_lost_answer(
    simulation: Simulation, alice: GrpcNode, bob: GrpcNode, method: str, kind: FaultKind
) -> None:
    """Unavailable, whether or not it was done: the hash says which, and the same call again ends it either way."""
    preimage, payment_hash = a_secret()
    code, done = UNARY[kind]
    calls: dict[str, tuple[Callable[[], Awaitable[object]], InvoiceState | None, InvoiceState]] = {
        "AddHoldInvoice": (lambda: hold(bob, payment_hash), None, InvoiceState.OPEN),
        "SettleInvoice": (lambda: bob.settle_invoice(Secret(preimage)), InvoiceState.ACCEPTED, InvoiceState.SETTLED),
        "CancelInvoice": (lambda: bob.cancel_invoice(payment_hash), InvoiceState.ACCEPTED, InvoiceState.CANCELED),
    }
    call, before, after = calls[method]
    if before:
        await lock(alice, bob, payment_hash)
    simulation.faults.plan(Fault(kind=kind, method=method, node="bob", seconds=30))
    with pytest.raises(Unavailable) as unsure:
        await call()
    assert unsure.value.code == code
    found = await bob.lookup_invoice(payment_hash)
    assert (found.state if found else None) == (after if done else before)
    await call()
    await in_state(bob, payment_hash, after)
    assert [entry[2] for entry in simulation.faults.happened] == [kind]


@pytest.mark.parametrize(
    ("kind", "sent"), [(FaultKind.LOST_CALL, False), (FaultKind.LOST_ANSWER, True), (FaultKind.CUT, True)]
)
async def test_a_payment_whose_answer_is_lost_is_found_by_its_hash(
    simulation: Simulation, alice: GrpcNode, bob: GrpcNode, kind: FaultKind, *, sent: bool
) -> None:
    """Sending again under the same hash never makes a second payment, whatever became of the first call."""
    preimage, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash)
    simulation.faults.plan(Fault(kind=kind, method="SendPaymentV2", messages=1))
    with pytest.raises(Unavailable):
        await pay(alice, invoice.bolt11)
    known = await alice.lookup_payment(payment_hash)
    assert (known is not None) is sent
    assert await pay(alice, invoice.bolt11) is PaymentStatus.IN_FLIGHT
    await bob.settle_invoice(Secret(preimage))
    assert (await ended(alice, payment_hash)).status is PaymentStatus.SETTLED
    assert simulation.network.nodes["alice"].payments_begun == 1
    assert simulation.network.switch.attempts_made == 1


async def test_a_late_answer_to_a_payment_is_unknown(simulation: Simulation, alice: GrpcNode, bob: GrpcNode) -> None:
    """The deadline passes, the money is locked: UNKNOWN, and the look-up knows."""
    _, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash)
    simulation.faults.plan(Fault(kind=FaultKind.DELAY, method="SendPaymentV2", seconds=30))
    unsure = await alice.pay_and_wait(invoice.bolt11, timeout_s=1, fee_limit_msat=0)
    assert unsure.status is PaymentStatus.UNKNOWN
    known = await alice.lookup_payment(payment_hash)
    assert known is not None
    assert known.status is PaymentStatus.IN_FLIGHT


async def test_a_cut_stream_is_unavailable_and_starts_again_with_the_state(
    simulation: Simulation, alice: GrpcNode, bob: GrpcNode
) -> None:
    """Whoever watches resubscribes and misses nothing."""
    preimage, payment_hash = a_secret()
    await lock(alice, bob, payment_hash)
    for method, watch in (
        ("SubscribeSingleInvoice", lambda: bob.watch_invoice(payment_hash)),
        ("TrackPayments", alice.watch_payments),
        ("RegisterBlockEpochNtfn", alice.watch_blocks),
    ):
        simulation.faults.plan(Fault(kind=FaultKind.CUT, method=method, messages=1))
        watched = watch()
        first = await next_of(watched)
        with pytest.raises(Unavailable):
            await next_of(watched)
        assert await next_of(watch()) == first
    await bob.settle_invoice(Secret(preimage))


async def test_a_node_that_is_down_answers_nothing_and_has_lost_nothing(
    simulation: Simulation, alice: GrpcNode, bob: GrpcNode
) -> None:
    """Unavailable while it is down; afterwards everything is as it was."""
    preimage, payment_hash = a_secret()
    held = await lock(alice, bob, payment_hash)
    await simulation.set_listening("bob", False)
    with pytest.raises(Unavailable):
        await bob.settle_invoice(Secret(preimage))
    await simulation.set_listening("bob", True)
    async with asyncio.timeout(20):
        while True:
            try:
                assert await bob.lookup_invoice(payment_hash) == held
                break
            except Unavailable:
                await asyncio.sleep(0.05)
    await bob.settle_invoice(Secret(preimage))
    assert (await ended(alice, payment_hash)).status is PaymentStatus.SETTLED


async def test_a_stuck_htlc_is_in_flight_and_not_accepted(
    simulation: Simulation, alice: GrpcNode, bob: GrpcNode
) -> None:
    """IN_FLIGHT at the payer does not prove that the payee holds anything; when it gets through, it is held."""
    _, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash)
    simulation.network.set_stuck("bob", True)
    assert await pay(alice, invoice.bolt11) is PaymentStatus.IN_FLIGHT
    await in_state(bob, payment_hash, InvoiceState.OPEN)
    assert payment_hash in (await alice.channels())[0].pending_out_hashes
    simulation.network.set_stuck("bob", False)
    await in_state(bob, payment_hash, InvoiceState.ACCEPTED)


async def test_an_htlc_stuck_until_its_expiry_closes_the_channel_and_refunds(
    simulation: Simulation, alice: GrpcNode, bob: GrpcNode
) -> None:
    """Money comes back on-chain only, and the payment is FAILED then, not before."""
    _, payment_hash = a_secret()
    invoice = await hold(bob, payment_hash, cltv_expiry=30)
    simulation.network.set_stuck("bob", True)
    await pay(alice, invoice.bolt11)
    simulation.network.mine(32)
    known = await alice.lookup_payment(payment_hash)
    assert known is not None
    assert known.status is PaymentStatus.IN_FLIGHT
    simulation.network.mine(1)
    assert (await ended(alice, payment_hash)).status is PaymentStatus.FAILED
    assert await alice.channels() == []
    assert simulation.network.nodes["alice"].wallet_msat == CAPACITY_MSAT
    simulation.network.set_stuck("bob", False)
    await in_state(bob, payment_hash, InvoiceState.OPEN)


async def test_a_payee_who_is_away_at_expiry_loses_the_reward_and_the_channel(
    simulation: Simulation, alice: GrpcNode, bob: GrpcNode
) -> None:
    """Nobody cancels for him: the payer's node goes on-chain, and his invoice is canceled when he is back."""
    _, payment_hash = a_secret()
    held = await lock(alice, bob, payment_hash, cltv_expiry=30)
    simulation.network.set_online("bob", False)
    simulation.network.mine(held.htlc_expiry_heights[0] - simulation.network.height)
    assert (await ended(alice, payment_hash)).status is PaymentStatus.FAILED
    assert await alice.channels() == []
    simulation.network.set_online("bob", True)
    await in_state(bob, payment_hash, InvoiceState.CANCELED)


async def test_a_full_channel_carries_nothing_until_a_slot_is_free(
    simulation: Simulation, alice: GrpcNode, bob: GrpcNode
) -> None:
    """483 HTLCs in one direction: the next payment fails for want of balance, and the port shows the slots."""
    assert simulation.network.fill("alice", "bob") == 483
    [channel] = await alice.channels()
    assert channel.pending_out == 483
    invoice = await bob.add_invoice(amount_msat=AMOUNT_MSAT, memo="", expiry_s=600, cltv_expiry=40)
    failed = await alice.pay(invoice.bolt11, timeout_s=5, fee_limit_msat=0, cltv_limit=200)
    assert (failed.status, failed.failure) == (PaymentStatus.FAILED, "FAILURE_REASON_INSUFFICIENT_BALANCE")
    assert simulation.network.drain("alice", "bob") == 483
    assert await pay(alice, invoice.bolt11) is PaymentStatus.IN_FLIGHT
    assert (await ended(alice, invoice.payment_hash)).status is PaymentStatus.SETTLED
    assert simulation.network.total_msat() == simulation.network.minted_msat


def test_a_plan_is_matched_by_node_method_and_count() -> None:
    """The first so many go well, then so many do not; other nodes and methods are not touched."""
    faults = Faults()
    faults.plan(Fault(kind=FaultKind.LOST_CALL, method="SettleInvoice", node="bob", skip=1, times=2))
    uri = "/invoicesrpc.Invoices/SettleInvoice"
    assert faults.take("alice", uri) is None
    assert faults.take("bob", "/invoicesrpc.Invoices/CancelInvoice") is None
    met = [faults.take("bob", uri) for _ in range(4)]
    assert [fault is not None for fault in met] == [False, True, True, False]
    assert (faults.left, faults.happened) == (0, [("bob", uri, FaultKind.LOST_CALL)] * 2)
    with pytest.raises(ValueError, match="at least once"):
        faults.plan(Fault(kind=FaultKind.CUT, method="TrackPayments", times=0))


async def test_faults_are_scripted_through_the_door_of_another_process(tmp_path: Path) -> None:
    """The control socket plans a lost answer, fills a channel and sticks a node, as the object in process does."""
    async with killable_sim(tmp_path / "net") as network, Control(tmp_path / "net") as control:
        alice, bob = network.nodes["alice"], network.nodes["bob"]
        _, payment_hash = a_secret()
        await control.plan_fault(Fault(kind=FaultKind.LOST_ANSWER, method="AddHoldInvoice", node="bob"))
        with pytest.raises(Unavailable):
            await hold(bob, payment_hash)
        invoice = await hold(bob, payment_hash)
        happened = await control.faults_happened()
        assert happened == [("bob", "/invoicesrpc.Invoices/AddHoldInvoice", FaultKind.LOST_ANSWER)]
        assert await control.fill("alice", "bob") == 483
        assert await pay(alice, invoice.bolt11) is PaymentStatus.FAILED
        assert await control.drain("alice", "bob") == 483
        await control.set_stuck("bob", True)
        assert await pay(alice, invoice.bolt11) is PaymentStatus.IN_FLIGHT
        await in_state(bob, payment_hash, InvoiceState.OPEN)
    async with killable_sim(tmp_path / "net") as network, Control(tmp_path / "net") as control:
        await control.set_stuck("bob", False)
        await in_state(network.nodes["bob"], payment_hash, InvoiceState.ACCEPTED)
        with pytest.raises(ValueError, match="sideways"):
            await control._ask("plan_fault", kind="sideways", method="GetInfo")
        await control.clear_faults()
