"""A whole Lightning network in one process: deterministic, synchronous, and re-told from its journal after a restart.

It does no I/O but the journal's, and reads no clock but the one it is given.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable
from typing import Any, Self

from lndsim.channel import Channel
from lndsim.clock import Clock
from lndsim.invoice import Invoice, InvoiceState
from lndsim.journal import Journal
from lndsim.node import Node
from lndsim.payment import FailureReason, Payment, PaymentStatus, Terms
from lndsim.payreq import terms_of
from lndsim.refusal import Refusal
from lndsim.switch import Switch, Watcher

FORMAT = 1
START_HEIGHT = 400


class Network:
    """Everything that changes the network is a method here and is journaled before it happens.

    What LND's callers do costs the same in a large network as in a small one, but for finding a way over forwarders.
    Refusals of LND are raised as `Refusal`; mistakes in using the simulator as ValueError or KeyError.
    """

    def __init__(
        self, *, seed: bytes, clock: Clock, height: int = START_HEIGHT, journal: Journal | None = None
    ) -> None:
        self.clock = clock
        self.seed = seed
        self.nodes: dict[str, Node] = {}
        """By name."""
        self.switch = Switch(height)
        self.minted_msat = 0
        self._now_ns = clock()
        self._journal = journal
        self._channels_opened = 0
        self._expiries: list[tuple[int, int, str, bytes]] = []
        self._deadlines: list[tuple[int, int, str, bytes]] = []
        if journal is not None:
            journal.append(["network", FORMAT, seed, height])

    @classmethod
    def restore(cls, journal: Journal, clock: Clock) -> Self | None:
        """The network of a journal, as it was; None for an empty one. Raises ValueError for another format."""
        entries = iter(journal.entries())
        header = next(entries, None)
        if header is None:
            return None
        if header[:2] != ["network", FORMAT]:
            raise ValueError(f"{journal.path} is not a journal of format {FORMAT}")
        network = cls(seed=header[2], clock=clock, height=header[3])
        network._replay(entries)
        network._journal = journal
        return network

    def _replay(self, entries: Iterable[list[Any]]) -> None:
        for operation, now_ns, arguments in entries:
            self._now_ns = now_ns
            self._pass_time()
            try:
                getattr(self, f"_{operation}")(**arguments)
            except Refusal:
                continue  # it was refused the first time, too

    def _do(self, operation: str, **arguments: Any) -> Any:
        """Journal, let time pass, act. The journal comes first: what was answered can be told again."""
        if operation != "add_node" and "name" in arguments and arguments["name"] not in self.nodes:
            raise KeyError(arguments["name"])
        self._now_ns = max(self._now_ns, self.clock())
        if self._journal is not None:
            self._journal.append([operation, self._now_ns, arguments])
        self._pass_time()
        return getattr(self, f"_{operation}")(**arguments)

    # What the simulator's owner may do.

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` of every change from now on."""
        self.switch.watchers.append(watcher)

    def add_node(self, name: str) -> Node:
        """A new node without money; an existing name returns the node it names."""
        if name not in self.nodes:
            self._do("add_node", name=name)
        return self.nodes[name]

    def _add_node(self, name: str) -> None:
        node = Node(name, self._derive(b"key", name.encode()), _stream(self._derive(b"random", name.encode())))
        self.nodes[name] = node
        self.switch.add_node(node)

    def open_channel(self, opener: str, peer: str, capacity_msat: int, push_msat: int = 0) -> Channel:
        """A usable channel at once; `opener` pays for it with new money, and `push_msat` of it is the peer's."""
        if opener == peer or capacity_msat <= 0 or not 0 <= push_msat <= capacity_msat:
            raise ValueError("a channel has two different ends, a capacity and at most that to push")
        _ = self.nodes[opener], self.nodes[peer]
        opened: Channel = self._do(
            "open_channel", opener=opener, peer=peer, capacity_msat=capacity_msat, push_msat=push_msat
        )
        return opened

    def _open_channel(self, opener: str, peer: str, capacity_msat: int, push_msat: int) -> Channel:
        self._channels_opened += 1
        ends = (self.nodes[opener].pubkey, self.nodes[peer].pubkey)
        channel = Channel(
            channel_id=self.switch.height << 40 | self._channels_opened << 16,
            ends=ends,
            capacity_msat=capacity_msat,
            balances={ends[0]: capacity_msat - push_msat, ends[1]: push_msat},
        )
        self.minted_msat += capacity_msat
        self.switch.add_channel(channel)
        return channel

    def mine(self, blocks: int = 1) -> int:
        """Mine; returns the new height."""
        if blocks < 1:
            raise ValueError("at least one block is mined")
        self._do("mine", blocks=blocks)
        return self.switch.height

    def _mine(self, blocks: int) -> None:
        self.switch.mine(blocks, self._now_ns)

    def tick(self) -> None:
        """Let time pass: expired invoices are canceled, payments past their deadline fail."""
        due = [queue[0][0] for queue in (self._expiries, self._deadlines) if queue]
        if due and min(due) < self.clock():
            self._do("tick")

    def _tick(self) -> None:
        pass  # time passes before every operation

    def set_online(self, name: str, online: bool) -> None:
        """Take a node off the network (its channels freeze) or bring it back (what waited goes on)."""
        self._do("set_online", name=name, online=online)

    def _set_online(self, name: str, online: bool) -> None:
        self.nodes[name].online = online
        if online:
            self.switch.cancel_due(self._now_ns)
            self.switch.resume(self._now_ns)

    def set_dispatching(self, name: str, dispatching: bool) -> None:
        """False keeps a node's new payments in INITIATED until it is True again or they time out."""
        self._do("set_dispatching", name=name, dispatching=dispatching)

    def _set_dispatching(self, name: str, dispatching: bool) -> None:
        node = self.nodes[name]
        node.dispatching = dispatching
        if dispatching:
            for payment in node.undispatched():
                self.switch.dispatch(node, payment, self._now_ns)

    def set_stranding(self, name: str, stranding: bool) -> None:
        """True: what the node pays from now on stays IN_FLIGHT for ever, and no HTLC is ever sent for it."""
        self._do("set_stranding", name=name, stranding=stranding)

    def _set_stranding(self, name: str, stranding: bool) -> None:
        self.nodes[name].stranding = stranding

    def set_hold_expiry_delta(self, name: str, blocks: int) -> None:
        """So many blocks before an HTLC expires this node cancels the invoice that holds it, of those to come."""
        if blocks < 1:
            raise ValueError("an invoice is canceled before its HTLC expires")
        self._do("set_hold_expiry_delta", name=name, blocks=blocks)

    def _set_hold_expiry_delta(self, name: str, blocks: int) -> None:
        self.nodes[name].hold_expiry_delta = blocks

    def set_stuck(self, name: str, stuck: bool) -> None:
        """True: HTLCs are locked on the way to this node, and its invoices do not hear of them until it is False."""
        self._do("set_stuck", name=name, stuck=stuck)

    def _set_stuck(self, name: str, stuck: bool) -> None:
        self.nodes[name].stuck = stuck
        if not stuck:
            self.switch.deliver(self.nodes[name], self._now_ns)

    def fill(self, name: str, peer: str) -> int:
        """Take all HTLC slots from `name` to `peer` with HTLCs that end only by `drain`; returns how many."""
        _ = self.nodes[peer]
        taken: int = self._do("fill", name=name, peer=peer)
        return taken

    def _fill(self, name: str, peer: str) -> int:
        return self.switch.fill(self.nodes[name].pubkey, self.nodes[peer].pubkey)

    def drain(self, name: str, peer: str) -> int:
        """Free the slots that `fill` took; returns how many."""
        _ = self.nodes[peer]
        freed: int = self._do("drain", name=name, peer=peer)
        return freed

    def _drain(self, name: str, peer: str) -> int:
        return self.switch.drain(self.nodes[name].pubkey, self.nodes[peer].pubkey)

    # What LND's callers may do.

    def add_invoice(
        self,
        name: str,
        *,
        payment_hash: bytes = b"",
        preimage: bytes = b"",
        memo: str = "",
        description_hash: bytes = b"",
        value_msat: int = 0,
        expiry_s: int = 0,
        cltv_expiry: int = 0,
    ) -> Invoice:
        """A plain invoice, or a hold invoice when `payment_hash` is given; 0 means LND's default. Raises Refusal."""
        invoice: Invoice = self._do(
            "add_invoice",
            name=name,
            payment_hash=payment_hash,
            preimage=preimage,
            memo=memo,
            description_hash=description_hash,
            value_msat=value_msat,
            expiry_s=expiry_s,
            cltv_expiry=cltv_expiry,
        )
        return invoice

    def _add_invoice(self, name: str, **terms: Any) -> Invoice:
        node = self.nodes[name]
        invoice = node.add_invoice(self._now_ns, **terms)
        heapq.heappush(self._expiries, (invoice.expires_ns, invoice.add_index, name, invoice.payment_hash))
        self.switch.invoice_changed(node, invoice)
        return invoice

    def settle_invoice(self, name: str, preimage: bytes) -> None:
        """SettleInvoice: SETTLED again is fine, every other state but ACCEPTED is refused."""
        self._do("settle_invoice", name=name, preimage=preimage)

    def _settle_invoice(self, name: str, preimage: bytes) -> None:
        node = self.nodes[name]
        invoice = node.invoice(hashlib.sha256(preimage).digest())
        if invoice.state is InvoiceState.SETTLED:
            return
        invoice.check_settleable()
        self.switch.settle(node, invoice, preimage, self._now_ns)

    def cancel_invoice(self, name: str, payment_hash: bytes) -> None:
        """CancelInvoice: CANCELED again is fine, SETTLED is refused."""
        self._do("cancel_invoice", name=name, payment_hash=payment_hash)

    def _cancel_invoice(self, name: str, payment_hash: bytes) -> None:
        node = self.nodes[name]
        self.switch.cancel(node, node.invoice(payment_hash), self._now_ns)

    def begin_payment(
        self,
        name: str,
        bolt11: str,
        *,
        amount_msat: int = 0,
        fee_limit_msat: int = 0,
        cltv_limit: int = 0,
        timeout_s: int = 0,
        allow_self: bool = False,
        outgoing_channels: tuple[int, ...] = (),
    ) -> Payment:
        """Record a payment as INITIATED; `dispatch` sends it. Raises Refusal, also for a hash that is not FAILED."""
        payment: Payment = self._do(
            "begin_payment",
            name=name,
            bolt11=bolt11,
            amount_msat=amount_msat,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            timeout_s=timeout_s,
            allow_self=allow_self,
            outgoing_channels=outgoing_channels,
        )
        return payment

    def _begin_payment(self, name: str, bolt11: str, outgoing_channels: Iterable[int], **limits: Any) -> Payment:
        node = self.nodes[name]
        terms = terms_of(bolt11, self._now_ns, outgoing_channels=tuple(outgoing_channels), **limits)
        return self._begin(node, terms)

    def _begin(self, node: Node, terms: Terms) -> Payment:
        payment = node.begin_payment(terms, self._now_ns)
        heapq.heappush(self._deadlines, (payment.deadline_ns, payment.index, node.name, terms.payment_hash))
        self.switch.payment_changed(node, payment)
        return payment

    def dispatch(self, name: str, payment_hash: bytes) -> None:
        """Send an INITIATED payment, unless the node is not dispatching; any other is left as it is."""
        if self.nodes[name].dispatching:
            self._do("dispatch", name=name, payment_hash=payment_hash)

    def _dispatch(self, name: str, payment_hash: bytes) -> None:
        node = self.nodes[name]
        self.switch.dispatch(node, node.payments[payment_hash], self._now_ns)

    def pay(self, name: str, bolt11: str, **limits: Any) -> Payment:
        """Begin and dispatch at once; the payment returned changes as its HTLC does."""
        payment = self.begin_payment(name, bolt11, **limits)
        self.dispatch(name, payment.terms.payment_hash)
        return payment

    # What anybody may ask.

    @property
    def height(self) -> int:
        return self.switch.height

    @property
    def now_ns(self) -> int:
        """The time of the last operation."""
        return self._now_ns

    def block_hash(self, height: int) -> bytes:
        """A made-up but stable hash, 32 bytes."""
        return self._derive(b"block", height.to_bytes(8, "big"))

    def total_msat(self) -> int:
        """All money there is; always `minted_msat`."""
        channels = sum(sum(c.balances.values()) + c.in_flight_msat for c in self.switch.channels.values())
        return channels + sum(node.wallet_msat for node in self.nodes.values())

    def _pass_time(self) -> None:
        """Whatever is due happens before the operation that comes after it."""
        while self._expiries and self._expiries[0][0] < self._now_ns:
            _, _, name, payment_hash = heapq.heappop(self._expiries)
            node = self.nodes[name]
            invoice = node.invoices[payment_hash]
            if invoice.state is InvoiceState.OPEN:
                self.switch.cancel(node, invoice, self._now_ns)
        while self._deadlines and self._deadlines[0][0] < self._now_ns:
            _, index, name, _ = heapq.heappop(self._deadlines)
            node = self.nodes[name]
            payment = node.by_index.get(index)
            if payment is not None and payment.status is PaymentStatus.INITIATED:
                self.switch.fail_payment(node, payment, FailureReason.TIMEOUT)

    def _derive(self, *what: bytes) -> bytes:
        return hashlib.sha256(b"\0".join((self.seed, *what))).digest()


def _stream(key: bytes) -> Callable[[], bytes]:
    """32 pseudorandom bytes a call, the same ones for the same key."""
    drawn = 0

    def draw() -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.sha256(key + drawn.to_bytes(8, "big")).digest()

    return draw
