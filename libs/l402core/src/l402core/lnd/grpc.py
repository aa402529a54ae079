"""`LightningNode` over LND's gRPC. It knows LND's URIs and habits, and refuses to guess how a payment ended."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final

from l402core import bolt11 as payreq
from l402core.errors import Conflict, NotFound, Unauthorized, Unavailable
from l402core.lnd.answers import PAYMENT_KNOWN
from l402core.lnd.port import ChannelView, InvoiceState, InvoiceView, NodeInfo, PaymentStatus, PaymentView
from l402core.lnd.stubs import chainrpc, invoicesrpc, lnrpc, routerrpc
from l402core.lnd.views import channel_view, dispatched, finished, invoice_view, node_info, payment_view
from l402core.lnd.wire import LndEndpoint, Wire
from l402core.secret import Secret

__all__ = ["GrpcNode", "LndEndpoint", "connect"]

_LIGHTNING: Final = "/lnrpc.Lightning/"
_INVOICES: Final = "/invoicesrpc.Invoices/"
_ROUTER: Final = "/routerrpc.Router/"
_BLOCKS: Final = "/chainrpc.ChainNotifier/RegisterBlockEpochNtfn"
_PAGE: Final = 1_000
_DISPATCH_MARGIN_S: Final = 10
"""Beyond LND's own timeout, how long to wait for a first HTLC before the payment is UNKNOWN to us."""


def connect(endpoint: LndEndpoint) -> "GrpcNode":
    """A node at an endpoint; needs a running event loop, connects lazily. Raises Unavailable for unreadable files."""
    return GrpcNode(Wire(endpoint))


class GrpcNode:
    """See `LightningNode` for what each method promises."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lookup_uri = _INVOICES + "LookupInvoiceV2"

    async def info(self) -> NodeInfo:
        return node_info(await self._wire.call(_LIGHTNING + "GetInfo", lnrpc.GetInfoRequest()))

    async def add_invoice(self, *, amount_msat: int, memo: str, expiry_s: int, cltv_expiry: int) -> InvoiceView:
        request = lnrpc.Invoice(value_msat=amount_msat, memo=memo, expiry=expiry_s, cltv_expiry=cltv_expiry)
        answer = await self._wire.call(_LIGHTNING + "AddInvoice", request)
        return _fresh(answer.r_hash, answer.payment_request, amount_msat)

    async def add_hold_invoice(
        self, payment_hash: bytes, *, amount_msat: int, memo: str, expiry_s: int, cltv_expiry: int
    ) -> InvoiceView:
        request = invoicesrpc.AddHoldInvoiceRequest(
            hash=payment_hash, value_msat=amount_msat, memo=memo, expiry=expiry_s, cltv_expiry=cltv_expiry
        )
        try:
            answer = await self._wire.call(_INVOICES + "AddHoldInvoice", request, payment_hash=payment_hash)
        except Conflict as refused:
            if refused.code != "invoice_exists":
                raise
            return await self._same_invoice(payment_hash, (amount_msat, expiry_s, cltv_expiry))
        return _fresh(payment_hash, answer.payment_request, amount_msat)

    async def _same_invoice(self, payment_hash: bytes, terms: tuple[int, int, int]) -> InvoiceView:
        """The invoice that has the hash already, if its terms are these; LND gives no payment request on a conflict."""
        existing = await self.lookup_invoice(payment_hash)
        if existing is None:
            raise Unavailable("lnd_inconsistent", "LND says the invoice exists and then does not find it")
        if (existing.amount_msat, existing.expiry_s, existing.cltv_expiry) != terms:
            raise Conflict("invoice_exists", f"an invoice on {payment_hash.hex()} exists with other terms")
        return existing

    async def settle_invoice(self, preimage: Secret) -> None:
        await self._wire.call(_INVOICES + "SettleInvoice", invoicesrpc.SettleInvoiceMsg(preimage=preimage.reveal()))

    async def cancel_invoice(self, payment_hash: bytes) -> None:
        request = invoicesrpc.CancelInvoiceMsg(payment_hash=payment_hash)
        await self._wire.call(_INVOICES + "CancelInvoice", request, payment_hash=payment_hash)

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None:
        try:
            return await self._lookup(payment_hash)
        except NotFound:
            return None

    async def _lookup(self, payment_hash: bytes) -> InvoiceView:
        """By whichever of LND's two look-ups our macaroon allows; a service is given one of them only."""
        if self._lookup_uri.startswith(_INVOICES):
            request = invoicesrpc.LookupInvoiceMsg(payment_hash=payment_hash)
            try:
                return invoice_view(await self._wire.call(self._lookup_uri, request, payment_hash=payment_hash))
            except Unauthorized:
                self._lookup_uri = _LIGHTNING + "LookupInvoice"
        request = lnrpc.PaymentHash(r_hash=payment_hash)
        return invoice_view(await self._wire.call(self._lookup_uri, request, payment_hash=payment_hash))

    async def watch_invoice(self, payment_hash: bytes) -> AsyncIterator[InvoiceView]:
        request = invoicesrpc.SubscribeSingleInvoiceRequest(r_hash=payment_hash)
        uri = _INVOICES + "SubscribeSingleInvoice"
        async with aclosing(self._wire.stream(uri, request, payment_hash=payment_hash)) as updates:
            async for invoice in updates:
                view = invoice_view(invoice)
                yield view
                if view.state in {InvoiceState.SETTLED, InvoiceState.CANCELED}:
                    return
        raise _cut(uri)

    async def watch_invoices(self, *, settle_index: int) -> AsyncIterator[InvoiceView]:
        uri = _LIGHTNING + "SubscribeInvoices"
        async with aclosing(self._wire.stream(uri, lnrpc.InvoiceSubscription(settle_index=settle_index))) as updates:
            async for invoice in updates:
                if invoice.state == lnrpc.Invoice.SETTLED:
                    yield invoice_view(invoice)
        raise _cut(uri)

    async def pay(
        self, bolt11: str, *, timeout_s: int, fee_limit_msat: int, cltv_limit: int, max_parts: int = 1
    ) -> PaymentView:
        request = routerrpc.SendPaymentRequest(
            payment_request=bolt11,
            timeout_seconds=timeout_s,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            max_parts=max_parts,
        )
        return await self._send(request, until=dispatched, deadline_s=timeout_s + _DISPATCH_MARGIN_S)

    async def pay_and_wait(
        self, bolt11: str, *, timeout_s: int, fee_limit_msat: int, cltv_limit: int = 0
    ) -> PaymentView:
        request = routerrpc.SendPaymentRequest(
            payment_request=bolt11,
            timeout_seconds=timeout_s,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            max_parts=1,
            no_inflight_updates=True,
        )
        return await self._send(request, until=finished, deadline_s=timeout_s)

    async def _send(self, request: Any, *, until: Callable[[Any], bool], deadline_s: float) -> PaymentView:
        """Send, or find what this hash was sent as before; nothing certain by the deadline is UNKNOWN."""
        invoice = payreq.decode(request.payment_request)
        payment_hash = invoice.payment_hash
        uri = _ROUTER + "SendPaymentV2"
        try:
            return await self._first(uri, request, payment_hash, until, deadline_s)
        except Conflict as answer:
            if answer.code not in PAYMENT_KNOWN:
                raise
            unsure = PaymentView(
                payment_hash=payment_hash, status=PaymentStatus.UNKNOWN, amount_msat=invoice.amount_msat or 0
            )
            if until is finished:
                return await self._track(payment_hash, deadline_s) or unsure
            return await self.lookup_payment(payment_hash) or unsure
        except Unavailable as silence:
            if silence.code != "lnd_deadline":
                raise
            return PaymentView(
                payment_hash=payment_hash, status=PaymentStatus.UNKNOWN, amount_msat=invoice.amount_msat or 0
            )

    async def _track(self, payment_hash: bytes, deadline_s: float) -> PaymentView | None:
        """The end of a payment sent before; None where it does not come in time."""
        request = routerrpc.TrackPaymentRequest(payment_hash=payment_hash, no_inflight_updates=True)
        try:
            return await self._first(_ROUTER + "TrackPaymentV2", request, payment_hash, finished, deadline_s)
        except Unavailable as silence:
            if silence.code != "lnd_deadline":
                raise
            return None

    async def _first(
        self, uri: str, request: Any, payment_hash: bytes, until: Callable[[Any], bool], deadline_s: float
    ) -> PaymentView:
        """The first update that satisfies `until`."""
        updates = self._wire.stream(uri, request, payment_hash=payment_hash, deadline_s=deadline_s)
        async with aclosing(updates):
            async for update in updates:
                if until(update):
                    return payment_view(update)
        raise _cut(uri)

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        request = routerrpc.TrackPaymentRequest(payment_hash=payment_hash)
        try:
            return await self._first(_ROUTER + "TrackPaymentV2", request, payment_hash, _any, _DISPATCH_MARGIN_S)
        except NotFound:
            return None

    async def watch_payments(self) -> AsyncIterator[PaymentView]:
        uri = _ROUTER + "TrackPayments"
        async with aclosing(self._wire.stream(uri, routerrpc.TrackPaymentsRequest())) as updates:
            async for payment in updates:
                yield payment_view(payment)
        raise _cut(uri)

    async def list_payments(self) -> list[PaymentView]:
        return [view async for page in self.payment_pages() for view in page]

    async def list_invoices(self) -> list[InvoiceView]:
        return [view async for page in self.invoice_pages() for view in page]

    async def payment_pages(self) -> AsyncIterator[list[PaymentView]]:
        offset = 0
        while True:
            request = lnrpc.ListPaymentsRequest(include_incomplete=True, index_offset=offset, max_payments=_PAGE)
            page = await self._wire.call(_LIGHTNING + "ListPayments", request)
            yield [payment_view(payment) for payment in page.payments]
            if len(page.payments) < _PAGE:
                return
            offset = page.last_index_offset

    async def invoice_pages(self) -> AsyncIterator[list[InvoiceView]]:
        offset = 0
        while True:
            request = lnrpc.ListInvoiceRequest(index_offset=offset, num_max_invoices=_PAGE)
            page = await self._wire.call(_LIGHTNING + "ListInvoices", request)
            yield [invoice_view(invoice) for invoice in page.invoices]
            if len(page.invoices) < _PAGE:
                return
            offset = page.last_index_offset

    async def channels(self) -> list[ChannelView]:
        answer = await self._wire.call(_LIGHTNING + "ListChannels", lnrpc.ListChannelsRequest())
        return [channel_view(channel) for channel in answer.channels]

    async def closing_channels(self) -> int:
        answer = await self._wire.call(_LIGHTNING + "PendingChannels", lnrpc.PendingChannelsRequest())
        return len(answer.waiting_close_channels) + len(answer.pending_force_closing_channels)

    async def watch_blocks(self) -> AsyncIterator[int]:
        async with aclosing(self._wire.stream(_BLOCKS, chainrpc.BlockEpoch())) as updates:
            async for block in updates:
                yield block.height
        raise _cut(_BLOCKS)

    async def close(self) -> None:
        await self._wire.close()


def _any(_: Any) -> bool:
    return True


def _fresh(payment_hash: bytes, bolt11: str, amount_msat: int) -> InvoiceView:
    """The view of an invoice just made: what LND did not answer is read from its own payment request."""
    written = payreq.decode(bolt11)
    return InvoiceView(
        payment_hash=payment_hash,
        bolt11=bolt11,
        amount_msat=amount_msat,
        paid_msat=0,
        state=InvoiceState.OPEN,
        expiry_s=written.expiry,
        cltv_expiry=written.min_final_cltv,
        created_at=written.timestamp,
    )


def _cut(uri: str) -> Unavailable:
    return Unavailable("lnd_stream_cut", f"LND ended {uri} before its time")
