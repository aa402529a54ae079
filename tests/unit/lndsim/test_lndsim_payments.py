"""The model's payments in states that a fast network hardly shows: waiting, timed out, stuck, on-chain."""

import hashlib
from typing import NoReturn

import pytest
from l402core import bolt11
from lndsim import Network, Refusal, VirtualClock
from lndsim.channel import MAX_HTLCS
from lndsim.invoice import InvoiceState
from lndsim.payment import FailureReason, Payment, PaymentStatus
from lndsim.refusal import Code

PREIMAGE = bytes(range(32))
HASH = hashlib.sha256(PREIMAGE).digest()


@pytest.fixture
def clock() -> VirtualClock:
    """Stands still until told."""
    return VirtualClock()


@pytest.fixture
def network(clock: VirtualClock) -> Network:
    """ann → ben → cat, all money with the openers."""
    network = Network(seed=b"seed".ljust(32), clock=clock)
    for name in ("ann", "ben", "cat"):
        network.add_node(name)
    network.open_channel("ann", "ben", 10_000_000_000)
    network.open_channel("ben", "cat", 10_000_000_000)
    return network


def locked(network: Network, payee: str = "ben", cltv_expiry: int = 80) -> Payment:
    """A payment by ann that the payee holds."""
    invoice = network.add_invoice(payee, payment_hash=HASH, value_msat=1_000_000, cltv_expiry=cltv_expiry)
    payment = network.pay("ann", invoice.bolt11, fee_limit_msat=10_000)
    assert status(payment) is PaymentStatus.IN_FLIGHT
    return payment


def status(payment: Payment) -> PaymentStatus:
    """As it is now: payments change under the reader's eyes."""
    return payment.status


def test_an_initiated_payment_exists(network: Network) -> None:
    """A second send while the first has not left yet: `payment already exists`."""
    invoice = network.add_invoice("ben", payment_hash=HASH, value_msat=1_000_000)
    network.set_dispatching("ann", False)
    payment = network.pay("ann", invoice.bolt11)
    assert status(payment) is PaymentStatus.INITIATED
    with pytest.raises(Refusal, match="payment already exists") as refused:
        network.pay("ann", invoice.bolt11)
    assert refused.value.code is Code.ALREADY_EXISTS
    network.set_dispatching("ann", True)
    assert status(payment) is PaymentStatus.IN_FLIGHT


def test_a_payment_that_never_left_times_out(network: Network, clock: VirtualClock) -> None:
    """The timeout only stops new attempts."""
    invoice = network.add_invoice("ben", payment_hash=HASH, value_msat=1_000_000)
    network.set_dispatching("ann", False)
    payment = network.pay("ann", invoice.bolt11, timeout_s=5)
    clock.advance(6)
    network.tick()
    assert (payment.status, payment.failure) == (PaymentStatus.FAILED, FailureReason.TIMEOUT)
    network.set_dispatching("ann", True)
    assert status(payment) is PaymentStatus.FAILED


def test_what_is_stranded_stays_in_flight_for_ever_and_in_no_channel(network: Network, clock: VirtualClock) -> None:
    """As at lnd that was killed in between: no time, no block and no second send ends it, and its balance is free."""
    invoice = network.add_invoice("ben", payment_hash=HASH, value_msat=1_000_000)
    network.set_stranding("ann", True)
    payment = network.pay("ann", invoice.bolt11, timeout_s=5)
    network.set_stranding("ann", False)
    clock.advance(3_600)
    network.tick()
    network.mine(500)
    assert status(payment) is PaymentStatus.IN_FLIGHT
    assert [attempt.decided for attempt in payment.attempts] == [False]
    assert all(channel.in_flight_msat == 0 for channel in network.switch.channels.values())
    with pytest.raises(Refusal, match="payment is in transition"):
        network.pay("ann", invoice.bolt11)


def test_a_timeout_does_not_touch_an_attempt_in_flight(network: Network, clock: VirtualClock) -> None:
    """It may still settle, long after."""
    payment = locked(network)
    clock.advance(86_400)
    network.tick()
    assert status(payment) is PaymentStatus.IN_FLIGHT
    network.settle_invoice("ben", PREIMAGE)
    assert status(payment) is PaymentStatus.SUCCEEDED


def test_a_retry_after_failure_is_a_new_payment(network: Network) -> None:
    """The old record is replaced; the hash stays the key."""
    payment = locked(network)
    network.cancel_invoice("ben", HASH)
    assert (payment.status, payment.failure) == (PaymentStatus.FAILED, FailureReason.INCORRECT_PAYMENT_DETAILS)
    again = network.pay("ann", payment.terms.bolt11)
    ann = network.nodes["ann"]
    assert again is not payment
    assert list(ann.by_index) == [again.index] == [2]
    assert ann.payments[HASH] is again


def test_all_slots_of_a_direction_can_be_taken(network: Network) -> None:
    """483 HTLCs fit, the next one finds no balance to use; a settled one frees its slot."""
    preimages = [number.to_bytes(32, "big") for number in range(MAX_HTLCS + 1)]
    payments = []
    for preimage in preimages:
        invoice = network.add_invoice("ben", payment_hash=hashlib.sha256(preimage).digest(), value_msat=1_000)
        payments.append(network.pay("ann", invoice.bolt11))
    assert {payment.status for payment in payments[:-1]} == {PaymentStatus.IN_FLIGHT}
    assert payments[-1].failure is FailureReason.INSUFFICIENT_BALANCE
    network.settle_invoice("ben", preimages[0])
    assert network.pay("ann", payments[-1].terms.bolt11).status is PaymentStatus.IN_FLIGHT


def test_a_preimage_waits_for_the_node_that_forwards(network: Network) -> None:
    """Ben is away: cat has settled, ann still waits, and gets it when he is back."""
    payment = locked(network, "cat")
    network.set_online("ben", False)
    network.settle_invoice("cat", PREIMAGE)
    assert status(payment) is PaymentStatus.IN_FLIGHT
    network.set_online("ben", True)
    assert status(payment) is PaymentStatus.SUCCEEDED
    assert network.total_msat() == network.minted_msat


def test_a_payee_that_stays_away_costs_a_channel(network: Network) -> None:
    """At the HTLC's expiry the channel closes on-chain, the payer has his money back, the books balance."""
    payment = locked(network, cltv_expiry=30)
    network.set_online("ben", False)
    [channel] = network.switch.all_channels_of(network.nodes["ann"].pubkey)
    expiry = payment.attempts[0].hops[0].expiry_height
    network.mine(expiry - network.height - 1)
    assert status(payment) is PaymentStatus.IN_FLIGHT
    assert not channel.closed
    network.mine()
    assert (payment.status, channel.closed) == (PaymentStatus.FAILED, True)
    assert network.nodes["ann"].wallet_msat == 10_000_000_000
    network.set_online("ben", True)
    assert network.nodes["ben"].invoices[HASH].state is InvoiceState.CANCELED
    assert network.total_msat() == network.minted_msat


def test_a_held_invoice_is_let_go_18_blocks_early(network: Network) -> None:
    """While the payee is there no channel is ever closed over a held invoice."""
    payment = locked(network, cltv_expiry=40)
    expiry = payment.attempts[0].hops[0].expiry_height
    network.mine(expiry - 18 - network.height - 1)
    assert status(payment) is PaymentStatus.IN_FLIGHT
    network.mine()
    assert status(payment) is PaymentStatus.FAILED
    assert network.nodes["ben"].invoices[HASH].state is InvoiceState.CANCELED


def test_the_cheapest_route_wins(network: Network) -> None:
    """A second forwarder on a longer way is not used; when the short way is gone, it is."""
    for name in ("dan", "eve"):
        network.add_node(name)
    network.open_channel("ann", "dan", 10_000_000_000)
    network.open_channel("dan", "eve", 10_000_000_000)
    network.open_channel("eve", "cat", 10_000_000_000)
    first = network.pay("ann", network.add_invoice("cat", value_msat=10**6).bolt11, fee_limit_msat=10_000)
    assert [len(attempt.hops) for attempt in first.attempts] == [2]
    network.set_online("ben", False)
    second = network.pay("ann", network.add_invoice("cat", value_msat=10**6).bolt11, fee_limit_msat=10_000)
    assert [len(attempt.hops) for attempt in second.attempts] == [3]
    assert second.attempts[0].fee_msat == 1_001 + 1_001
    heights = [hop.expiry_height - network.height for hop in second.attempts[0].hops]
    assert heights == [80 + 3 + 160, 80 + 3 + 80, 80 + 3]


def test_a_ring_lets_a_node_pay_itself_when_allowed(network: Network) -> None:
    """Out over one channel and in over another, only with `allow_self_payment`."""
    network.open_channel("cat", "ann", 10_000_000_000)
    invoice = network.add_invoice("ann", value_msat=10**6)
    with pytest.raises(Refusal, match="self-payments not allowed"):
        network.pay("ann", invoice.bolt11, fee_limit_msat=10_000)
    paid = network.pay("ann", invoice.bolt11, fee_limit_msat=10_000, allow_self=True)
    assert paid.status is PaymentStatus.SUCCEEDED
    assert len(paid.attempts[0].hops) == 3
    assert network.total_msat() == network.minted_msat


def test_a_payee_wants_its_own_payment_address(network: Network) -> None:
    """Who knows the hash but not the invoice learns nothing and pays nothing."""
    invoice = network.add_invoice("ben", payment_hash=HASH, value_msat=1_000_000)
    probe = bolt11.encode(
        network.nodes["ben"].secret_key,
        payment_hash=HASH,
        payment_secret=bytes(32),
        timestamp=invoice.created_s,
        amount_msat=1_000_000,
        min_final_cltv=invoice.cltv_expiry,
        network="simnet",
    )
    assert network.pay("ann", probe).failure is FailureReason.INCORRECT_PAYMENT_DETAILS
    assert invoice.state is InvoiceState.OPEN


def test_an_htlc_must_pay_enough_and_live_long_enough(network: Network) -> None:
    """The payee refuses less money and less time than its invoice says."""
    invoice = network.add_invoice("ben", payment_hash=HASH, value_msat=1_000_000, cltv_expiry=40)

    def takes(amount_msat: int, expiry_height: int) -> bool:
        return invoice.takes(amount_msat, invoice.payment_addr, expiry_height, height=400)

    assert takes(1_000_000, 440)
    assert not takes(999_999, 440)
    assert not takes(1_000_000, 439)


def test_a_hub_of_thousands_pays_as_fast_as_a_small_one(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """A direct channel is found by its peer: no other channel is looked at."""
    for number in range(50):
        network.add_node(f"peer-{number}")
        network.open_channel("ann", f"peer-{number}", 10**9)
    invoice = network.add_invoice("peer-49", value_msat=1_000_000)

    def untouchable(_: str) -> NoReturn:
        raise AssertionError("all channels were looked at")

    monkeypatch.setattr(network.switch, "channels_of", untouchable)
    assert status(network.pay("ann", invoice.bolt11)) is PaymentStatus.SUCCEEDED
