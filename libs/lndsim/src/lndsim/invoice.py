"""An invoice and its four states, with LND's answers to every call in each of them. It knows no channels."""

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum

from lndsim.clock import NS_PER_S
from lndsim.refusal import (
    INVOICE_ALREADY_CANCELED,
    INVOICE_ALREADY_SETTLED,
    INVOICE_STILL_OPEN,
    Refusal,
)

MIN_CLTV_DELTA = 24
"""`routing.MinCLTVDelta` of lnd 0.21."""
MAX_CLTV_DELTA = 65_535
DEFAULT_CLTV_DELTA = 80
DEFAULT_EXPIRY_S = 86_400
MAX_EXPIRY_S = 365 * 86_400
MAX_MEMO_BYTES = 1_024
MAX_VALUE_MSAT = 100_000 * 100_000_000 * 1_000
"""LND refuses invoices above 100,000 BTC."""
FINAL_CLTV_REJECT_DELTA = 19
"""An HTLC that expires sooner than this is refused, whatever the invoice says."""


class InvoiceState(IntEnum):
    """`lnrpc.Invoice.InvoiceState`."""

    OPEN = 0
    SETTLED = 1
    CANCELED = 2
    ACCEPTED = 3


class HtlcState(IntEnum):
    """`lnrpc.InvoiceHTLCState`."""

    ACCEPTED = 0
    SETTLED = 1
    CANCELED = 2


@dataclass(slots=True)
class InvoiceHtlc:
    """An HTLC that reached an invoice. Heights are absolute."""

    channel_id: int
    index: int
    amount_msat: int
    accept_height: int
    accept_s: int
    expiry_height: int
    state: HtlcState = HtlcState.ACCEPTED
    resolve_s: int = 0


@dataclass(slots=True)
class Invoice:
    """One invoice; `value_msat` 0 means any amount, `preimage` None a hold invoice whose preimage is not known yet."""

    payment_hash: bytes
    preimage: bytes | None
    payment_addr: bytes
    memo: str
    description_hash: bytes
    value_msat: int
    expiry_s: int
    cltv_expiry: int
    created_ns: int
    hold: bool
    add_index: int
    bolt11: str
    state: InvoiceState = InvoiceState.OPEN
    settle_index: int = 0
    settled_s: int = 0
    paid_msat: int = 0
    htlcs: list[InvoiceHtlc] = field(default_factory=list)

    @property
    def created_s(self) -> int:
        return self.created_ns // NS_PER_S

    @property
    def expires_ns(self) -> int:
        """When an OPEN invoice becomes CANCELED by itself."""
        return self.created_ns + self.expiry_s * NS_PER_S

    @property
    def final(self) -> bool:
        return self.state in {InvoiceState.SETTLED, InvoiceState.CANCELED}

    def takes(self, amount_msat: int, payment_addr: bytes, expiry_height: int, height: int) -> bool:
        """Whether an arriving HTLC is accepted (lnd, `invoices/update.go`)."""
        return (
            self.state is InvoiceState.OPEN
            and payment_addr == self.payment_addr
            and amount_msat >= max(1, self.value_msat)
            and expiry_height >= height + max(FINAL_CLTV_REJECT_DELTA, self.cltv_expiry)
        )

    def accept(self, htlc: InvoiceHtlc) -> None:
        """OPEN → ACCEPTED, with the HTLC held. LND counts it as paid from now on, also when it is canceled later."""
        self.htlcs.append(htlc)
        self.paid_msat += htlc.amount_msat
        self.state = InvoiceState.ACCEPTED

    def check_settleable(self) -> None:
        """Raises the Refusal LND gives to SettleInvoice unless ACCEPTED. The caller treats SETTLED as done."""
        if self.state is InvoiceState.OPEN:
            raise Refusal(INVOICE_STILL_OPEN)
        if self.state is InvoiceState.CANCELED:
            raise Refusal(INVOICE_ALREADY_CANCELED)
        if self.state is InvoiceState.SETTLED:
            raise Refusal(INVOICE_ALREADY_SETTLED)

    def settle(self, preimage: bytes, settle_index: int, now_s: int) -> None:
        """ACCEPTED → SETTLED."""
        if hashlib.sha256(preimage).digest() != self.payment_hash:
            raise ValueError("a preimage of another hash")
        self.preimage = preimage
        self.state = InvoiceState.SETTLED
        self.settle_index = settle_index
        self.settled_s = now_s
        for htlc in self.held():
            htlc.state, htlc.resolve_s = HtlcState.SETTLED, now_s

    def cancel(self, now_s: int) -> None:
        """OPEN or ACCEPTED → CANCELED, held HTLCs go back."""
        self.state = InvoiceState.CANCELED
        for htlc in self.held():
            htlc.state, htlc.resolve_s = HtlcState.CANCELED, now_s

    def held(self) -> list[InvoiceHtlc]:
        """HTLCs that wait for our decision."""
        return [htlc for htlc in self.htlcs if htlc.state is HtlcState.ACCEPTED]


def check_terms(*, memo: str, description_hash: bytes, value_msat: int, expiry_s: int, cltv_expiry: int) -> None:
    """LND's validation of AddInvoice and AddHoldInvoice, in its order. 0 means the default. Raises Refusal."""
    memo_bytes = len(memo.encode())
    if memo_bytes > MAX_MEMO_BYTES:
        raise Refusal(f"memo too large: {memo_bytes} bytes (maxsize={MAX_MEMO_BYTES})")
    if description_hash and len(description_hash) != 32:
        raise Refusal(f"description hash is {len(description_hash)} bytes, must be 32")
    if value_msat > MAX_VALUE_MSAT:
        raise Refusal(f"invoice amount {value_msat / 1e11:g} BTC is too large, max is 100000 BTC")
    if expiry_s > MAX_EXPIRY_S:
        raise Refusal(f"expiry of {expiry_s} seconds greater than max expiry of {MAX_EXPIRY_S} seconds")
    if cltv_expiry > MAX_CLTV_DELTA:
        raise Refusal(f"CLTV delta of {cltv_expiry} is too large, max accepted is: {MAX_CLTV_DELTA}")
    if cltv_expiry and cltv_expiry < MIN_CLTV_DELTA:
        raise Refusal(f"CLTV delta of {cltv_expiry} must be greater than minimum of {MIN_CLTV_DELTA}")
