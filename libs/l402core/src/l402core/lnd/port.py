"""What our services need of a Lightning node, as a Protocol. It knows no gRPC, and refuses booleans for payments."""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Protocol

import msgspec

from l402core.secret import Secret


class InvoiceState(StrEnum):
    """`lnrpc.Invoice.InvoiceState`."""

    OPEN = "OPEN"
    SETTLED = "SETTLED"
    CANCELED = "CANCELED"
    ACCEPTED = "ACCEPTED"


class PaymentStatus(StrEnum):
    """What is known of an outgoing payment. UNKNOWN is not FAILED: only LND may say FAILED."""

    SETTLED = "SETTLED"
    FAILED = "FAILED"
    IN_FLIGHT = "IN_FLIGHT"
    UNKNOWN = "UNKNOWN"


class InvoiceView(msgspec.Struct, frozen=True, kw_only=True):
    """One invoice at our node. Heights are absolute block heights; times unix seconds."""

    payment_hash: bytes
    bolt11: str
    amount_msat: int
    paid_msat: int
    state: InvoiceState
    expiry_s: int
    cltv_expiry: int
    created_at: int
    settle_index: int = 0
    settled_at: int = 0
    """0 where it is not."""
    htlc_expiry_heights: tuple[int, ...] = ()
    """`htlcs[].expiry_height` of the HTLCs that are held or settled."""


class PaymentView(msgspec.Struct, frozen=True, kw_only=True):
    """One outgoing payment. `preimage` only when SETTLED."""

    payment_hash: bytes
    status: PaymentStatus
    amount_msat: int
    fee_msat: int = 0
    failure: str = ""
    preimage: Secret | None = None
    htlc_expiry_heights: tuple[int, ...] = ()
    sent_at_ms: int = 0
    """When the last HTLC of it that was paid went out, by the node's clock; 0 where none was."""

    def __repr__(self) -> str:
        return (
            f"PaymentView({self.payment_hash.hex()}, {self.status}, amount_msat={self.amount_msat}, "
            f"fee_msat={self.fee_msat}, failure={self.failure!r})"
        )


class ChannelView(msgspec.Struct, frozen=True, kw_only=True):
    """One channel as this node sees it."""

    channel_id: int
    remote_pubkey: str
    active: bool
    capacity_msat: int
    local_msat: int
    remote_msat: int
    pending_out: int
    """Outgoing HTLCs in flight; LND allows 483 per direction."""
    pending_out_hashes: tuple[bytes, ...] = ()
    reserve_msat: int = 0
    """What the other side makes us keep in it (BOLT 2, `channel_reserve_satoshis`)."""

    @property
    def sendable_msat(self) -> int:
        """What can be sent over it at most; where we opened it, the next commitment's fee goes off as well."""
        return max(0, self.local_msat - self.reserve_msat)


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`GetInfo`, as far as we use it."""

    pubkey: str
    alias: str
    version: str
    block_height: int
    network: str
    synced: bool


class LightningNode(Protocol):
    """One node. Every method may raise `Unavailable`; those of an effect may then have had it (UNKNOWN).

    Every method raises `Unauthorized` (code `lnd_macaroon`) when the macaroon does not allow it, and `Malformed` (code
    `lnd_refused`) for terms that LND refuses; nothing was done then.
    """

    async def info(self) -> NodeInfo: ...

    async def add_invoice(self, *, amount_msat: int, memo: str, expiry_s: int, cltv_expiry: int) -> InvoiceView:
        """A plain invoice; the node makes the preimage."""
        ...

    async def add_hold_invoice(
        self, payment_hash: bytes, *, amount_msat: int, memo: str, expiry_s: int, cltv_expiry: int
    ) -> InvoiceView:
        """A hold invoice on a hash. If it exists already with the same terms, that one is returned; else Conflict."""
        ...

    async def settle_invoice(self, preimage: Secret) -> None:
        """Settle an accepted hold invoice; settling it again is fine. Raises Conflict (open, canceled), NotFound."""
        ...

    async def cancel_invoice(self, payment_hash: bytes) -> None:
        """Cancel; again is fine. Raises Conflict when settled, NotFound."""
        ...

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None:
        """None when this node has never seen the hash."""
        ...

    def watch_invoice(self, payment_hash: bytes) -> AsyncIterator[InvoiceView]:
        """SubscribeSingleInvoice: the current state first; ends after a final one. Raises Unavailable when cut.

        For a hash the node does not know yet it waits in silence.
        """
        ...

    def watch_invoices(self, *, settle_index: int) -> AsyncIterator[InvoiceView]:
        """SubscribeInvoices from after `settle_index`, SETTLED ones only. Raises Unavailable when cut.

        As in LND, 0 brings none of the past: whoever has booked nothing yet also looks at `list_invoices`, or passes
        the index of the first one he did book less one.
        """
        ...

    async def pay(
        self, bolt11: str, *, timeout_s: int, fee_limit_msat: int, cltv_limit: int, max_parts: int = 1
    ) -> PaymentView:
        """SendPaymentV2 until the first update that is IN_FLIGHT with an HTLC, or final; UNKNOWN if none comes in time.

        A `cltv_limit` of 0 is LND's own limit. Raises TooLate for an expired invoice, Conflict for a payment to oneself.

        "already exists", "in transition" and "already paid" are answers: the payment's present view.
        """
        ...

    async def pay_and_wait(
        self, bolt11: str, *, timeout_s: int, fee_limit_msat: int, cltv_limit: int = 0
    ) -> PaymentView:
        """Pay in one part and wait for the end, at most `timeout_s`; then UNKNOWN, to be tracked by hash.

        No HTLC of it outlives `cltv_limit` blocks; 0 leaves that to the node.
        """
        ...

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """TrackPaymentV2, first update. None when LND has never seen the hash (ambiguous just after dispatch)."""
        ...

    def watch_payments(self) -> AsyncIterator[PaymentView]:
        """TrackPayments: every update of every outgoing payment. Raises Unavailable when cut."""
        ...

    async def list_payments(self) -> list[PaymentView]:
        """All outgoing payments, including failed and in-flight ones."""
        ...

    async def list_invoices(self) -> list[InvoiceView]:
        """All invoices of this node."""
        ...

    def payment_pages(self) -> AsyncIterator[list[PaymentView]]:
        """`list_payments` in pages, in the order in which they began."""
        ...

    def invoice_pages(self) -> AsyncIterator[list[InvoiceView]]:
        """`list_invoices` in pages, in the order in which they were made."""
        ...

    async def channels(self) -> list[ChannelView]:
        """All open channels, active or not."""
        ...

    async def closing_channels(self) -> int:
        """How many channels are being closed, and may hold HTLCs that are decided on the chain."""
        ...

    def watch_blocks(self) -> AsyncIterator[int]:
        """RegisterBlockEpochNtfn: the current height first, then each new one."""
        ...

    async def close(self) -> None: ...
