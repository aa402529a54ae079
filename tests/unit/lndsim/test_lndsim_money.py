"""Money in the simulated network is neither made nor lost, whatever happens in whatever order."""

import hashlib
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from lndsim import Network, Refusal, VirtualClock
from lndsim.channel import MAX_HTLCS
from lndsim.invoice import HtlcState, InvoiceState
from lndsim.payment import AttemptStatus, PaymentStatus

NODES = ("ann", "ben", "cat", "dan")
CAPACITY_MSAT = 100_000_000
names = st.sampled_from(NODES)


class Economy(RuleBasedStateMachine):
    """A line ann to ben to cat to dan with a shortcut, in which anything may be tried."""

    invoices: Bundle[tuple[str, str, bytes]] = Bundle("invoices")

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.network = Network(seed=bytes(32), clock=self.clock)
        for name in NODES:
            self.network.add_node(name)
        for opener, peer in (("ann", "ben"), ("ben", "cat"), ("cat", "dan"), ("ann", "cat")):
            self.network.open_channel(opener, peer, CAPACITY_MSAT, CAPACITY_MSAT // 2)
        self.made = 0

    @rule(
        target=invoices, name=names, value=st.integers(0, CAPACITY_MSAT), hold=st.booleans(), delta=st.integers(24, 90)
    )
    def make(self, name: str, value: int, hold: bool, delta: int) -> tuple[str, str, bytes]:
        """A new invoice."""
        self.made += 1
        preimage = hashlib.sha256(self.made.to_bytes(8, "big")).digest()
        invoice = self.network.add_invoice(
            name,
            payment_hash=hashlib.sha256(preimage).digest() if hold else b"",
            preimage=b"" if hold else preimage,
            value_msat=value,
            cltv_expiry=delta,
            expiry_s=600,
        )
        return name, invoice.bolt11, preimage

    @rule(
        invoice=invoices, payer=names, fee_limit=st.sampled_from([0, 1_500, 10**6]), amount=st.sampled_from([0, 5_000])
    )
    def pay(self, invoice: tuple[str, str, bytes], payer: str, fee_limit: int, amount: int) -> None:
        """Anyone tries to pay it, also twice."""
        self.attempt(self.network.pay, payer, invoice[1], fee_limit_msat=fee_limit, amount_msat=amount, allow_self=True)

    @rule(invoice=consumes(invoices))
    def settle(self, invoice: tuple[str, str, bytes]) -> None:
        """The payee reveals, where there is something to settle."""
        self.attempt(self.network.settle_invoice, invoice[0], invoice[2])

    @rule(invoice=invoices)
    def cancel(self, invoice: tuple[str, str, bytes]) -> None:
        """The payee lets go."""
        self.attempt(self.network.cancel_invoice, invoice[0], hashlib.sha256(invoice[2]).digest())

    @rule(name=names, online=st.booleans())
    def come_and_go(self, name: str, online: bool) -> None:
        """A node leaves the network or comes back."""
        self.network.set_online(name, online)

    @rule(name=names, dispatching=st.booleans())
    def hold_back(self, name: str, dispatching: bool) -> None:
        """A node stops sending, or goes on."""
        self.network.set_dispatching(name, dispatching)

    @rule(name=names, stranding=st.booleans())
    def strand(self, name: str, stranding: bool) -> None:
        """A node is as if it were always killed between noting and sending, or is well again."""
        self.network.set_stranding(name, stranding)

    @rule(blocks=st.integers(1, 120))
    def mine(self, blocks: int) -> None:
        """Time locks run."""
        self.network.mine(blocks)

    @rule(seconds=st.integers(1, 900))
    def wait(self, seconds: int) -> None:
        """Expiries and timeouts run."""
        self.clock.advance(seconds)
        self.network.tick()

    @staticmethod
    def attempt(act: Any, *arguments: Any, **named: Any) -> None:
        """Refusals are fine."""
        try:
            act(*arguments, **named)
        except Refusal:
            return

    @invariant()
    def money_is_conserved(self) -> None:
        """Balances, HTLCs and wallets add up to what was put in, and nobody owes."""
        assert self.network.total_msat() == self.network.minted_msat
        for channel in self.network.switch.channels.values():
            assert min(channel.balances.values()) >= 0
            if not channel.closed:
                assert sum(channel.balances.values()) + channel.in_flight_msat == channel.capacity_msat

    @invariant()
    def slots_belong_to_attempts_in_flight(self) -> None:
        """Every HTLC in a channel is a locked hop of an attempt that is in flight, and every such hop has its HTLC."""
        attempts = [a for n in self.network.nodes.values() for p in n.payments.values() for a in p.attempts]
        locked = {
            (hop.channel.channel_id, hop.sender, hop.htlc_index)
            for attempt in attempts
            if attempt.status is AttemptStatus.IN_FLIGHT
            for hop in attempt.hops[: attempt.locked]
        }
        slots = {
            (channel.channel_id, sender, index)
            for channel in self.network.switch.channels.values()
            for sender, htlcs in channel.outgoing.items()
            for index in htlcs
        }
        assert slots == locked
        assert all(len(h) <= MAX_HTLCS for c in self.network.switch.channels.values() for h in c.outgoing.values())

    @invariant()
    def both_sides_tell_the_same_story(self) -> None:
        """A succeeded payment has a settled invoice; a held HTLC belongs to an accepted invoice."""
        by_key = {node.pubkey: node for node in self.network.nodes.values()}
        for payer in self.network.nodes.values():
            for payment in payer.payments.values():
                invoice = by_key[payment.terms.target].invoices[payment.terms.payment_hash]
                if payment.status is PaymentStatus.SUCCEEDED:
                    assert invoice.state is InvoiceState.SETTLED
        for node in by_key.values():
            for invoice in node.invoices.values():
                held = [htlc for htlc in invoice.htlcs if htlc.state is HtlcState.ACCEPTED]
                assert bool(held) == (invoice.state is InvoiceState.ACCEPTED)


Economy.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMoney = Economy.TestCase
TestMoney.__doc__ = "Whatever is tried, in whatever order, money is conserved and no HTLC slot leaks."
