"""One node: its key, wallet, invoices and payments, as its own books have them. It moves no HTLC and sees no peer."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from coincurve import PrivateKey

from lndsim import payreq
from lndsim.clock import NS_PER_S
from lndsim.invoice import (
    DEFAULT_CLTV_DELTA,
    DEFAULT_EXPIRY_S,
    Invoice,
    InvoiceState,
    check_terms,
)
from lndsim.payment import Payment, PaymentStatus, Terms, check_limits
from lndsim.refusal import INVOICE_ALREADY_SETTLED, INVOICE_EXISTS, INVOICE_NOT_FOUND, SELF_PAYMENT, Refusal

HOLD_EXPIRY_DELTA = 18
"""Blocks before an HTLC's expiry at which lnd 0.21 cancels a held invoice; 0.20 did at 12."""


@dataclass(slots=True)
class Node:
    """`random` is this node's own source of preimages and payment addresses, 32 bytes a call."""

    name: str
    secret_key: bytes
    random: Callable[[], bytes]
    pubkey: str = ""
    wallet_msat: int = 0
    online: bool = True
    dispatching: bool = True
    """False holds new payments in INITIATED, as if no route had been tried yet."""
    stranding: bool = False
    """True notes the attempts of new payments and sends none of them, as lnd does that is killed in between."""
    stuck: bool = False
    """True keeps arriving HTLCs from its invoices, as a node does that hangs."""
    hold_expiry_delta: int = HOLD_EXPIRY_DELTA
    invoices: dict[bytes, Invoice] = field(default_factory=dict)
    added: list[Invoice] = field(default_factory=list)
    settled: list[Invoice] = field(default_factory=list)
    payments: dict[bytes, Payment] = field(default_factory=dict)
    by_index: dict[int, Payment] = field(default_factory=dict)
    payments_begun: int = 0

    def __post_init__(self) -> None:
        self.pubkey = PrivateKey(self.secret_key).public_key.format().hex()

    def add_invoice(
        self,
        now_ns: int,
        *,
        payment_hash: bytes = b"",
        preimage: bytes = b"",
        memo: str,
        description_hash: bytes,
        value_msat: int,
        expiry_s: int,
        cltv_expiry: int,
    ) -> Invoice:
        """A hold invoice when only the hash is given, else a plain one (with a preimage of ours if none is given)."""
        check_terms(
            memo=memo,
            description_hash=description_hash,
            value_msat=value_msat,
            expiry_s=expiry_s,
            cltv_expiry=cltv_expiry,
        )
        hold = bool(payment_hash)
        if not hold:
            preimage = preimage or self.random()
            payment_hash = hashlib.sha256(preimage).digest()
        invoice = Invoice(
            payment_hash=payment_hash,
            preimage=None if hold else preimage,
            payment_addr=self.random(),
            memo=memo,
            description_hash=description_hash,
            value_msat=value_msat,
            expiry_s=expiry_s if expiry_s > 0 else DEFAULT_EXPIRY_S,
            cltv_expiry=cltv_expiry or DEFAULT_CLTV_DELTA,
            created_ns=now_ns,
            hold=hold,
            add_index=len(self.added) + 1,
            bolt11="",
        )
        if payment_hash in self.invoices:
            raise Refusal(INVOICE_EXISTS)
        invoice.bolt11 = payreq.write(self.secret_key, invoice)
        self.invoices[payment_hash] = invoice
        self.added.append(invoice)
        return invoice

    def invoice(self, payment_hash: bytes) -> Invoice:
        """Raises LND's `unable to locate invoice`."""
        found = self.invoices.get(payment_hash)
        if found is None:
            raise Refusal(INVOICE_NOT_FOUND)
        return found

    def settle(self, invoice: Invoice, preimage: bytes, now_ns: int) -> None:
        """Book an accepted invoice as settled."""
        self.settled.append(invoice)
        invoice.settle(preimage, len(self.settled), now_ns // NS_PER_S)

    def cancel(self, invoice: Invoice, now_ns: int) -> bool:
        """Book a cancellation; False when it was canceled already. Raises `invoice already settled`."""
        if invoice.state is InvoiceState.SETTLED:
            raise Refusal(INVOICE_ALREADY_SETTLED)
        if invoice.state is InvoiceState.CANCELED:
            return False
        invoice.cancel(now_ns // NS_PER_S)
        return True

    def begin_payment(self, terms: Terms, now_ns: int) -> Payment:
        """Record a payment as INITIATED. Raises Refusal: bad limits, to oneself, or a hash that is not FAILED."""
        check_limits(terms)
        if terms.target == self.pubkey and not terms.allow_self:
            raise Refusal(SELF_PAYMENT)
        earlier = self.payments.get(terms.payment_hash)
        if earlier is not None:
            earlier.check_retry()
            del self.by_index[earlier.index]
        self.payments_begun += 1
        payment = Payment(terms, self.payments_begun, now_ns, now_ns + terms.timeout_s * NS_PER_S)
        self.payments[terms.payment_hash] = payment
        self.by_index[payment.index] = payment
        return payment

    def unfinished(self) -> list[Payment]:
        """Payments that are not final, oldest first."""
        return [payment for payment in self.by_index.values() if not payment.final]

    def undispatched(self) -> list[Payment]:
        """Payments that still wait for their first attempt."""
        return [payment for payment in self.by_index.values() if payment.status is PaymentStatus.INITIATED]
