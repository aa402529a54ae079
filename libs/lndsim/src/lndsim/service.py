"""LND's RPCs of one node, answered from the network. It knows requests and answers, not sockets or macaroon bytes."""

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, TypeVar

from l402core.lnd.stubs import SERVICES, invoicesrpc, lnrpc, statesrpc

from lndsim import payreq
from lndsim.calls import TABLE
from lndsim.guise import Guise
from lndsim.hub import BLOCKS, Hub, block_message, invoice_topic, invoices_topic, payment_topic, payments_topic
from lndsim.invoice import InvoiceState
from lndsim.macaroon import Bakery, Permission, check_bakeable
from lndsim.messages import (
    SAT,
    amount_message,
    channel_message,
    invoice_message,
    pay_req_message,
    payment_message,
)
from lndsim.network import Network
from lndsim.node import Node
from lndsim.payment import Payment
from lndsim.refusal import INVOICE_NOT_FOUND, NO_INVOICES, PAYMENT_UNKNOWN, Code, Refusal

_ALL_URIS: Final = frozenset(
    f"/{service}/{method}" for service, described in SERVICES.items() for method in described.methods_by_name
)
_DEFAULT_PAGE: Final = 100
_TOLD_TO_ALL: Final = frozenset({InvoiceState.OPEN, InvoiceState.SETTLED})
_T = TypeVar("_T")


class LndService:
    """One node's answers. Unary methods return a message, streams yield them; refusals are raised as `Refusal`."""

    def __init__(self, network: Network, hub: Hub, node: Node, bakery: Bakery) -> None:
        self._network = network
        self._hub = hub
        self._node = node
        self._bakery = bakery
        self.guise = Guise()

    # lnrpc.Lightning

    def get_info(self, _: Any) -> Any:
        height = self._network.height
        channels = self._network.switch.all_channels_of(self._node.pubkey)
        usable = len(list(self._network.switch.channels_of(self._node.pubkey)))
        return lnrpc.GetInfoResponse(
            version=self.guise.version,
            identity_pubkey=self._node.pubkey,
            alias=self._node.name,
            num_active_channels=usable,
            num_inactive_channels=len(channels) - usable,
            num_peers=len({channel.peer_of(self._node.pubkey) for channel in channels}),
            block_height=height,
            block_hash=self._network.block_hash(height).hex(),
            best_header_timestamp=self._network.now_ns // 1_000_000_000,
            synced_to_chain=self.guise.synced,
            synced_to_graph=True,
            chains=[lnrpc.Chain(chain="bitcoin", network=self.guise.network)],
        )

    def add_invoice(self, request: Any) -> Any:
        invoice = self._network.add_invoice(
            self._node.name,
            preimage=_exactly_32("preimage", request.r_preimage) if request.r_preimage else b"",
            memo=request.memo,
            description_hash=request.description_hash,
            value_msat=_amount(request.value, request.value_msat),
            expiry_s=request.expiry,
            cltv_expiry=request.cltv_expiry,
        )
        return lnrpc.AddInvoiceResponse(
            r_hash=invoice.payment_hash,
            payment_request=invoice.bolt11,
            add_index=invoice.add_index,
            payment_addr=invoice.payment_addr,
        )

    def lookup_invoice(self, request: Any) -> Any:
        payment_hash = bytes.fromhex(request.r_hash_str) if request.r_hash_str else request.r_hash
        if payment_hash and len(payment_hash) != 32:
            raise Refusal(f"payment hash must be exactly 32 bytes, is instead {len(payment_hash)}")
        return self._found(payment_hash, of_none=Code.NOT_FOUND)

    def _found(self, payment_hash: bytes, *, of_none: Code) -> Any:
        """`of_none`: the status where there is no invoice at all, which LND's two look-ups give differently."""
        self._network.tick()
        invoice = self._node.invoices.get(payment_hash)
        if not self._node.invoices:
            raise Refusal(NO_INVOICES, of_none)
        if invoice is None:
            raise Refusal(INVOICE_NOT_FOUND, Code.NOT_FOUND)
        return invoice_message(invoice)

    def list_invoices(self, request: Any) -> Any:
        self._network.tick()
        wanted = [invoice for invoice in self._node.added if not (request.pending_only and invoice.final)]
        page = _page(
            [(invoice.add_index, invoice) for invoice in wanted],
            offset=request.index_offset,
            size=request.num_max_invoices,
            backwards=request.reversed,
        )
        return lnrpc.ListInvoiceResponse(
            invoices=[invoice_message(invoice) for _, invoice in page],
            first_index_offset=page[0][0] if page else 0,
            last_index_offset=page[-1][0] if page else 0,
        )

    def list_payments(self, request: Any) -> Any:
        self._network.tick()
        payments = [
            (payment.index, payment)
            for payment in self._node.by_index.values()
            if request.include_incomplete or payment.status.name == "SUCCEEDED"
        ]
        page = _page(payments, offset=request.index_offset, size=request.max_payments, backwards=request.reversed)
        return lnrpc.ListPaymentsResponse(
            payments=[payment_message(payment) for _, payment in page],
            first_index_offset=page[0][0] if page else 0,
            last_index_offset=page[-1][0] if page else 0,
            total_num_payments=len(self._node.by_index) if request.count_total_payments else 0,
        )

    def list_channels(self, request: Any) -> Any:
        usable = {channel.channel_id for channel in self._network.switch.channels_of(self._node.pubkey)}
        messages = [
            channel_message(self._node, channel, active=channel.channel_id in usable)
            for channel in self._network.switch.all_channels_of(self._node.pubkey)
            if not request.peer or channel.peer_of(self._node.pubkey) == request.peer.hex()
        ]
        wanted = [
            message
            for message in messages
            if not (request.active_only and not message.active) and not (request.inactive_only and message.active)
        ]
        return lnrpc.ListChannelsResponse(channels=wanted)

    def pending_channels(self, _: Any) -> Any:
        """None ever: a channel opens and closes at once here."""
        return lnrpc.PendingChannelsResponse()

    def channel_balance(self, _: Any) -> Any:
        me = self._node.pubkey
        channels = self._network.switch.all_channels_of(me)
        local = sum(channel.balances[me] for channel in channels)
        remote = sum(channel.balances[channel.peer_of(me)] for channel in channels)
        out = sum(htlc.amount_msat for channel in channels for htlc in channel.outgoing[me].values())
        come = sum(htlc.amount_msat for channel in channels for htlc in channel.outgoing[channel.peer_of(me)].values())
        return lnrpc.ChannelBalanceResponse(
            balance=local // SAT,
            local_balance=amount_message(local),
            remote_balance=amount_message(remote),
            unsettled_local_balance=amount_message(out),
            unsettled_remote_balance=amount_message(come),
            pending_open_local_balance=amount_message(0),
            pending_open_remote_balance=amount_message(0),
        )

    def wallet_balance(self, _: Any) -> Any:
        sat = self._node.wallet_msat // SAT
        return lnrpc.WalletBalanceResponse(total_balance=sat, confirmed_balance=sat)

    def decode_pay_req(self, request: Any) -> Any:
        return pay_req_message(payreq.read(request.pay_req))

    def bake_macaroon(self, request: Any) -> Any:
        permissions: list[Permission] = [(asked.entity, asked.action) for asked in request.permissions]
        if not request.allow_external_permissions:
            check_bakeable(permissions, _ALL_URIS)
        # Never from the node's own stream: baking is not in the journal, and every address after it would come out other.
        baked = self._bakery.mint(permissions, nonce=secrets.token_bytes(16), root_key_id=request.root_key_id)
        return lnrpc.BakeMacaroonResponse(macaroon=baked.hex())

    def delete_macaroon_id(self, request: Any) -> Any:
        return lnrpc.DeleteMacaroonIDResponse(deleted=self._bakery.delete(request.root_key_id))

    def list_permissions(self, _: Any) -> Any:
        """What a macaroon must allow for each call that asks for one."""
        asked = {uri: permission for uri, (permission, _) in TABLE.items() if permission is not None}
        return lnrpc.ListPermissionsResponse(
            method_permissions={
                uri: lnrpc.MacaroonPermissionList(permissions=[lnrpc.MacaroonPermission(entity=entity, action=action)])
                for uri, (entity, action) in asked.items()
            }
        )

    async def subscribe_invoices(self, request: Any) -> AsyncIterator[Any]:
        """New and settled ones, also of the past. An index of 0 brings no past ones, as LND reads it."""
        with self._hub.listen(invoices_topic(self._node.pubkey)) as feed:
            added = self._node.added[request.add_index :] if request.add_index else []
            settled = self._node.settled[request.settle_index :] if request.settle_index else []
            told = [invoice for invoice in (*added, *settled) if invoice.state in _TOLD_TO_ALL]
            for message in [invoice_message(invoice) for invoice in told]:
                yield message
            async for message in feed:
                yield message

    # invoicesrpc.Invoices

    def add_hold_invoice(self, request: Any) -> Any:
        invoice = self._network.add_invoice(
            self._node.name,
            payment_hash=_exactly_32("hash", request.hash),
            memo=request.memo,
            description_hash=request.description_hash,
            value_msat=_amount(request.value, request.value_msat),
            expiry_s=request.expiry,
            cltv_expiry=request.cltv_expiry,
        )
        return invoicesrpc.AddHoldInvoiceResp(
            payment_request=invoice.bolt11, add_index=invoice.add_index, payment_addr=invoice.payment_addr
        )

    def settle_invoice(self, request: Any) -> Any:
        self._network.settle_invoice(self._node.name, _exactly_32("preimage", request.preimage))
        return invoicesrpc.SettleInvoiceResp()

    def cancel_invoice(self, request: Any) -> Any:
        self._network.cancel_invoice(self._node.name, _exactly_32("hash", request.payment_hash))
        return invoicesrpc.CancelInvoiceResp()

    def lookup_invoice_v2(self, request: Any) -> Any:
        asked = request.WhichOneof("invoice_ref")
        if asked == "payment_hash":
            if len(request.payment_hash) != 32:
                raise Refusal(
                    f"unable to parse pay hash: invalid hash length of {len(request.payment_hash)}, want 32",
                    Code.INVALID_ARGUMENT,
                )
            return self._found(request.payment_hash, of_none=Code.UNKNOWN)
        if asked is None:
            raise Refusal("invoice ref must be set", Code.INVALID_ARGUMENT)
        for invoice in self._node.added:
            if invoice.payment_addr == request.payment_addr:
                return invoice_message(invoice)
        raise Refusal(INVOICE_NOT_FOUND, Code.NOT_FOUND)

    async def subscribe_single_invoice(self, request: Any) -> AsyncIterator[Any]:
        """The current state first (nothing yet for an unknown hash), then each new one; ends after a final one."""
        payment_hash = _exactly_32("hash", request.r_hash)
        self._network.tick()
        with self._hub.listen(invoice_topic(self._node.pubkey, payment_hash)) as feed:
            invoice = self._node.invoices.get(payment_hash)
            if invoice is not None:
                message = invoice_message(invoice)
                yield message
                if _final_invoice(message):
                    return
            async for message in feed:
                yield message
                if _final_invoice(message):
                    return

    # routerrpc.Router

    async def send_payment_v2(self, request: Any) -> AsyncIterator[Any]:
        """Recorded, then sent before the first update leaves: a caller that goes away changes nothing."""
        payment = self._begin(request)
        payment_hash = payment.terms.payment_hash
        with self._hub.listen(payment_topic(self._node.pubkey, payment_hash)) as feed:
            first = payment_message(payment)
            self._network.dispatch(self._node.name, payment_hash)
            async for message in _updates(first, feed, quiet=request.no_inflight_updates):
                yield message

    def _begin(self, request: Any) -> Payment:
        if not request.payment_request:
            raise Refusal("payment_request must be specified")
        if request.dest or request.payment_hash or request.final_cltv_delta:
            what = "dest" if request.dest else "payment_hash" if request.payment_hash else "final_cltv_delta"
            raise Refusal(f"{what} and payment_request cannot appear together")
        return self._network.begin_payment(
            self._node.name,
            request.payment_request,
            amount_msat=_amount(request.amt, request.amt_msat),
            fee_limit_msat=_amount(request.fee_limit_sat, request.fee_limit_msat),
            cltv_limit=request.cltv_limit,
            timeout_s=request.timeout_seconds,
            allow_self=request.allow_self_payment,
            outgoing_channels=tuple(request.outgoing_chan_ids),
        )

    async def track_payment_v2(self, request: Any) -> AsyncIterator[Any]:
        """The current state first; ends after a final one."""
        payment_hash = _exactly_32("hash", request.payment_hash)
        self._network.tick()
        payment = self._node.payments.get(payment_hash)
        if payment is None:
            raise Refusal(PAYMENT_UNKNOWN, Code.NOT_FOUND)
        with self._hub.listen(payment_topic(self._node.pubkey, payment_hash)) as feed:
            async for message in _updates(payment_message(payment), feed, quiet=request.no_inflight_updates):
                yield message

    async def track_payments(self, request: Any) -> AsyncIterator[Any]:
        """Those in flight first, then every update of every payment."""
        with self._hub.listen(payments_topic(self._node.pubkey)) as feed:
            for message in [payment_message(payment) for payment in self._node.unfinished()]:
                if not request.no_inflight_updates:
                    yield message
            async for message in feed:
                if _final_payment(message) or not request.no_inflight_updates:
                    yield message

    # chainrpc.ChainNotifier, lnrpc.State

    async def register_block_epoch_ntfn(self, request: Any) -> AsyncIterator[Any]:
        """The tip first (or all blocks after the given one), then each new block."""
        with self._hub.listen(BLOCKS) as feed:
            tip = self._network.height
            first = request.height + 1 if request.height and any(request.hash) else tip
            for height in range(first, tip + 1):
                yield block_message(self._network, height)
            async for message in feed:
                yield message

    def get_state(self, _: Any) -> Any:
        state = statesrpc.LOCKED if self.guise.locked else statesrpc.SERVER_ACTIVE
        return statesrpc.GetStateResponse(state=state)


async def _updates(first: Any, feed: Any, *, quiet: bool) -> AsyncIterator[Any]:
    """`first` and what follows until final; only the final one when `quiet`."""
    if _final_payment(first) or not quiet:
        yield first
    if _final_payment(first):
        return
    async for message in feed:
        final = _final_payment(message)
        if final or not quiet:
            yield message
        if final:
            return


def _final_payment(message: Any) -> bool:
    return message.status in {lnrpc.Payment.SUCCEEDED, lnrpc.Payment.FAILED}


def _final_invoice(message: Any) -> bool:
    return message.state in {lnrpc.Invoice.SETTLED, lnrpc.Invoice.CANCELED}


def _amount(sat: int, msat: int) -> int:
    """LND's reading of an amount that is given in one of two units. Raises Refusal."""
    if sat and msat:
        raise Refusal("sat and msat arguments are mutually exclusive")
    if sat < 0 or msat < 0:
        raise Refusal("amount cannot be negative")
    return sat * SAT + msat


def _exactly_32(what: str, data: bytes) -> bytes:
    if len(data) != 32:
        raise Refusal(f"invalid {what} length of {len(data)}, want 32")
    return data


def _page(items: Sequence[tuple[int, _T]], *, offset: int, size: int, backwards: bool) -> list[tuple[int, _T]]:
    """LND's paging by index: after `offset`, or the last ones before it; always oldest first."""
    size = size or _DEFAULT_PAGE
    if backwards:
        return [item for item in items if not offset or item[0] < offset][-size:]
    return [item for item in items if item[0] > offset][:size]
