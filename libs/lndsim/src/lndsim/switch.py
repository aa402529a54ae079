"""Moving HTLCs: locking a route, handing it to the payee, and carrying the end back hop by hop. It reads no clock."""

import heapq
from collections.abc import Iterable
from typing import Protocol

from lndsim.channel import MIN_HTLC_MSAT, Channel
from lndsim.clock import NS_PER_S
from lndsim.invoice import Invoice, InvoiceHtlc, InvoiceState
from lndsim.node import Node
from lndsim.payment import Attempt, AttemptStatus, FailureReason, Hop, Payment, PaymentStatus
from lndsim.routing import NoRoute, find_route

FILLER_DELTA = 2_016
"""Expiry that an HTLC shows which only takes a slot."""


class Watcher(Protocol):
    """Whoever wants to see changes. Called at once, after the change; it must not call back into the network."""

    def invoice_changed(self, node: Node, invoice: Invoice) -> None: ...

    def payment_changed(self, node: Node, payment: Payment) -> None: ...

    def block_mined(self, height: int) -> None: ...


class Switch:
    """All channels and HTLCs of one network. Nodes are looked up by public key."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.nodes: dict[str, Node] = {}
        self.channels: dict[int, Channel] = {}
        self.watchers: list[Watcher] = []
        self.attempts_made = 0
        self._adjacent: dict[str, list[Channel]] = {}
        self._between: dict[tuple[str, str], list[Channel]] = {}
        self._held: dict[tuple[str, bytes], Attempt] = {}
        self._stuck: dict[int, Attempt] = {}
        self._undelivered: dict[int, tuple[Attempt, Payment]] = {}
        self._fillers: list[tuple[Channel, str, int]] = []
        self._to_cancel: list[tuple[int, int, str, bytes]] = []
        self._to_expire: list[tuple[int, int, int, Attempt]] = []

    def add_node(self, node: Node) -> None:
        """Make a node reachable."""
        self.nodes[node.pubkey] = node
        self._adjacent[node.pubkey] = []

    def add_channel(self, channel: Channel) -> None:
        """Make a channel usable."""
        self.channels[channel.channel_id] = channel
        for end in channel.ends:
            self._adjacent[end].append(channel)
            self._between.setdefault((end, channel.peer_of(end)), []).append(channel)

    def all_channels_of(self, pubkey: str) -> list[Channel]:
        """Open channels of a node, usable or not."""
        return self._adjacent[pubkey]

    def channels_of(self, node: str) -> Iterable[Channel]:
        """Usable channels of a node: open, and both ends online."""
        if not self.nodes[node].online:
            return ()
        return (channel for channel in self._adjacent[node] if self.nodes[channel.peer_of(node)].online)

    def channels_between(self, node: str, peer: str) -> Iterable[Channel]:
        """Usable channels from `node` to `peer`."""
        if (node, peer) in self._between and self.nodes[node].online and self.nodes[peer].online:
            return self._between[node, peer]
        return ()

    def dispatch(self, payer: Node, payment: Payment, now_ns: int) -> None:
        """Try an INITIATED payment: lock a route and hand it to the payee, or fail it with LND's reason."""
        if payment.status is not PaymentStatus.INITIATED:
            return
        terms = payment.terms
        try:
            hops = find_route(self, payer.pubkey, terms, self.height)
        except NoRoute as nothing:
            self.fail_payment(payer, payment, nothing.reason)
            return
        if payer.stranding:
            self._strand(payer, payment, hops, now_ns)
            return
        for hop in hops:
            htlc = hop.channel.offer(hop.sender, terms.payment_hash, hop.amount_msat, hop.expiry_height)
            hop.htlc_index = htlc.index
        self.attempts_made += 1
        attempt = Attempt(self.attempts_made, payer.pubkey, terms.payment_hash, hops, now_ns, len(hops))
        for position, hop in enumerate(hops):
            heapq.heappush(self._to_expire, (hop.expiry_height, attempt.attempt_id, position, attempt))
        payment.attempts.append(attempt)
        payment.status = PaymentStatus.IN_FLIGHT
        self.payment_changed(payer, payment)
        self._arrive(attempt, payment, now_ns)

    def _strand(self, payer: Node, payment: Payment, hops: list[Hop], now_ns: int) -> None:
        """An attempt that is noted and never sent: it is in no channel, and nothing ends it."""
        self.attempts_made += 1
        attempt = Attempt(self.attempts_made, payer.pubkey, payment.terms.payment_hash, hops, now_ns, locked=0)
        payment.attempts.append(attempt)
        payment.status = PaymentStatus.IN_FLIGHT
        self.payment_changed(payer, payment)

    def _arrive(self, attempt: Attempt, payment: Payment, now_ns: int) -> None:
        """The last HTLC reaches the payee: settled, held, or refused."""
        terms, last = payment.terms, attempt.hops[-1]
        payee = self.nodes[terms.target]
        if payee.stuck:
            self._undelivered[attempt.attempt_id] = attempt, payment
            return
        invoice = payee.invoices.get(terms.payment_hash)
        if invoice is None or not invoice.takes(last.amount_msat, terms.payment_addr, last.expiry_height, self.height):
            self.resolve(attempt, now_ns, failure=FailureReason.INCORRECT_PAYMENT_DETAILS)
            return
        invoice.accept(
            InvoiceHtlc(
                channel_id=last.channel.channel_id,
                index=last.htlc_index,
                amount_msat=last.amount_msat,
                accept_height=self.height,
                accept_s=now_ns // NS_PER_S,
                expiry_height=last.expiry_height,
            )
        )
        self._held[payee.pubkey, invoice.payment_hash] = attempt
        if invoice.preimage is not None:
            self.settle(payee, invoice, invoice.preimage, now_ns)
            return
        cancel_at = last.expiry_height - payee.hold_expiry_delta
        heapq.heappush(self._to_cancel, (cancel_at, attempt.attempt_id, payee.pubkey, invoice.payment_hash))
        self.invoice_changed(payee, invoice)

    def deliver(self, payee: Node, now_ns: int) -> None:
        """A node that hung goes on: its invoices hear of the HTLCs that are still there."""
        for attempt_id, (attempt, payment) in list(self._undelivered.items()):
            if payment.terms.target == payee.pubkey:
                del self._undelivered[attempt_id]
                if not attempt.decided:
                    self._arrive(attempt, payment, now_ns)

    def fill(self, sender: str, peer: str) -> int:
        """Smallest HTLCs, on hashes that nobody pays, until no slot is free. They do not expire."""
        taken = 0
        for channel in self.channels_between(sender, peer):
            while channel.carries(sender, MIN_HTLC_MSAT):
                number = len(self._fillers).to_bytes(32, "big")
                htlc = channel.offer(sender, number, MIN_HTLC_MSAT, self.height + FILLER_DELTA)
                self._fillers.append((channel, sender, htlc.index))
                taken += 1
        return taken

    def drain(self, sender: str, peer: str) -> int:
        """Fail those HTLCs."""
        ours = [entry for entry in self._fillers if entry[1] == sender and entry[0].peer_of(sender) == peer]
        for channel, _, index in ours:
            channel.fail(sender, index)
            if channel.closed:
                self._sweep(channel)
        self._fillers = [entry for entry in self._fillers if entry not in ours]
        return len(ours)

    def settle(self, payee: Node, invoice: Invoice, preimage: bytes, now_ns: int) -> None:
        """ACCEPTED → SETTLED, and the preimage travels back to the payer."""
        payee.settle(invoice, preimage, now_ns)
        self.invoice_changed(payee, invoice)
        self.resolve(self._held.pop((payee.pubkey, invoice.payment_hash)), now_ns, preimage=preimage)

    def cancel(self, payee: Node, invoice: Invoice, now_ns: int) -> None:
        """→ CANCELED, and a held HTLC fails back to the payer."""
        if not payee.cancel(invoice, now_ns):
            return
        self.invoice_changed(payee, invoice)
        attempt = self._held.pop((payee.pubkey, invoice.payment_hash), None)
        if attempt is not None:
            self.resolve(attempt, now_ns, failure=FailureReason.INCORRECT_PAYMENT_DETAILS)

    def resolve(
        self,
        attempt: Attempt,
        now_ns: int,
        *,
        preimage: bytes | None = None,
        failure: FailureReason = FailureReason.NONE,
    ) -> None:
        """Decide an attempt once, and carry the decision back as far as nodes are there."""
        if attempt.decided:
            return
        attempt.preimage, attempt.failure = preimage, failure
        self._propagate(attempt, now_ns)

    def _propagate(self, attempt: Attempt, now_ns: int) -> None:
        while attempt.locked:
            hop = attempt.hops[attempt.locked - 1]
            if not hop.channel.closed and not all(self.nodes[end].online for end in hop.channel.ends):
                self._stuck[attempt.attempt_id] = attempt
                return
            self._unlock(attempt)
        self._stuck.pop(attempt.attempt_id, None)
        self._finish(attempt, now_ns)

    def _unlock(self, attempt: Attempt) -> None:
        """Take the last locked HTLC out of its channel, to the side it belongs to."""
        hop = attempt.hops[attempt.locked - 1]
        if attempt.preimage is not None:
            hop.channel.settle(hop.sender, hop.htlc_index)
        else:
            hop.channel.fail(hop.sender, hop.htlc_index)
        attempt.locked -= 1
        if hop.channel.closed:
            self._sweep(hop.channel)

    def _finish(self, attempt: Attempt, now_ns: int) -> None:
        payer = self.nodes[attempt.payer]
        payment = payer.payments[attempt.payment_hash]
        attempt.resolved_ns = now_ns
        if attempt.preimage is not None:
            attempt.status = AttemptStatus.SUCCEEDED
            payment.status = PaymentStatus.SUCCEEDED
            self.payment_changed(payer, payment)
        else:
            attempt.status = AttemptStatus.FAILED
            # LND looks at its clock before it looks at the failure
            late = now_ns > payment.deadline_ns
            self.fail_payment(payer, payment, FailureReason.TIMEOUT if late else attempt.failure)

    def fail_payment(self, payer: Node, payment: Payment, reason: FailureReason) -> None:
        """→ FAILED; nothing of it is in flight any more."""
        payment.status, payment.failure = PaymentStatus.FAILED, reason
        self.payment_changed(payer, payment)

    def mine(self, blocks: int, now_ns: int) -> None:
        """New blocks, one by one: held invoices near their expiry are canceled, expired HTLCs go on-chain."""
        for _ in range(blocks):
            self.height += 1
            for watcher in self.watchers:
                watcher.block_mined(self.height)
            self.cancel_due(now_ns)
            self._expire_due(now_ns)

    def cancel_due(self, now_ns: int) -> None:
        """LND's guard against force-closes: a held invoice is canceled `hold_expiry_delta` blocks early."""
        waiting = []
        while self._to_cancel and self._to_cancel[0][0] <= self.height:
            due = heapq.heappop(self._to_cancel)
            payee = self.nodes[due[2]]
            invoice = payee.invoices[due[3]]
            if invoice.state is not InvoiceState.ACCEPTED:
                continue
            if payee.online:
                self.cancel(payee, invoice, now_ns)
            else:
                waiting.append(due)
        for due in waiting:
            heapq.heappush(self._to_cancel, due)

    def _expire_due(self, now_ns: int) -> None:
        """An HTLC still there at its expiry closes its channel; who knows the preimage takes it, else the sender."""
        while self._to_expire and self._to_expire[0][0] <= self.height:
            _, _, position, attempt = heapq.heappop(self._to_expire)
            if position >= attempt.locked:
                continue
            self._close(attempt.hops[position].channel)
            if attempt.decided:
                self._propagate(attempt, now_ns)
            else:
                self.resolve(attempt, now_ns, failure=FailureReason.NO_ROUTE)

    def _close(self, channel: Channel) -> None:
        if not channel.closed:
            channel.closed = True
            for end in channel.ends:
                self._adjacent[end].remove(channel)
                self._between[end, channel.peer_of(end)].remove(channel)
            self._sweep(channel)

    def _sweep(self, channel: Channel) -> None:
        """What is not in flight in a closed channel belongs to the wallets."""
        for end in channel.ends:
            self.nodes[end].wallet_msat += channel.balances[end]
            channel.balances[end] = 0

    def resume(self, now_ns: int) -> None:
        """A node came back: decisions that waited for it travel on."""
        for attempt in list(self._stuck.values()):
            self._propagate(attempt, now_ns)

    def invoice_changed(self, node: Node, invoice: Invoice) -> None:
        for watcher in self.watchers:
            watcher.invoice_changed(node, invoice)

    def payment_changed(self, node: Node, payment: Payment) -> None:
        for watcher in self.watchers:
            watcher.payment_changed(node, payment)
