"""The model's objects as LND's messages. Pure; the only place that knows LND's field names for answers."""

import hashlib
from typing import Any, Final

from l402core import bolt11
from l402core.lnd.stubs import lnrpc

from lndsim.channel import Channel
from lndsim.invoice import Invoice, InvoiceState
from lndsim.node import Node
from lndsim.payment import Attempt, AttemptStatus, Payment, PaymentStatus

SAT: Final = 1_000
NO_PREIMAGE: Final = bytes(32).hex()
_INCORRECT_DETAILS: Final = lnrpc.Failure.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS
_STATUS: Final = {
    PaymentStatus.INITIATED: lnrpc.Payment.IN_FLIGHT,  # as LND shows it to callers that do not ask for INITIATED
    PaymentStatus.IN_FLIGHT: lnrpc.Payment.IN_FLIGHT,
    PaymentStatus.SUCCEEDED: lnrpc.Payment.SUCCEEDED,
    PaymentStatus.FAILED: lnrpc.Payment.FAILED,
}


def invoice_message(invoice: Invoice) -> Any:
    """`lnrpc.Invoice`."""
    return lnrpc.Invoice(
        memo=invoice.memo,
        r_preimage=invoice.preimage or b"",
        r_hash=invoice.payment_hash,
        value=invoice.value_msat // SAT,
        value_msat=invoice.value_msat,
        settled=invoice.state is InvoiceState.SETTLED,
        creation_date=invoice.created_s,
        settle_date=invoice.settled_s,
        payment_request=invoice.bolt11,
        description_hash=invoice.description_hash,
        expiry=invoice.expiry_s,
        cltv_expiry=invoice.cltv_expiry,
        add_index=invoice.add_index,
        settle_index=invoice.settle_index,
        amt_paid=invoice.paid_msat,
        amt_paid_sat=invoice.paid_msat // SAT,
        amt_paid_msat=invoice.paid_msat,
        state=int(invoice.state),
        htlcs=[
            lnrpc.InvoiceHTLC(
                chan_id=htlc.channel_id,
                htlc_index=htlc.index,
                amt_msat=htlc.amount_msat,
                accept_height=htlc.accept_height,
                accept_time=htlc.accept_s,
                resolve_time=htlc.resolve_s,
                expiry_height=htlc.expiry_height,
                state=int(htlc.state),
                mpp_total_amt_msat=htlc.amount_msat,
            )
            for htlc in invoice.htlcs
        ],
        payment_addr=invoice.payment_addr,
    )


def payment_message(payment: Payment) -> Any:
    """`lnrpc.Payment`."""
    done = next((attempt for attempt in payment.attempts if attempt.status is AttemptStatus.SUCCEEDED), None)
    fee_msat = done.fee_msat if done else 0
    terms = payment.terms
    return lnrpc.Payment(
        payment_hash=terms.payment_hash.hex(),
        value=terms.amount_msat // SAT,
        value_sat=terms.amount_msat // SAT,
        value_msat=terms.amount_msat,
        creation_date=payment.created_ns // 1_000_000_000,
        creation_time_ns=payment.created_ns,
        fee=fee_msat // SAT,
        fee_sat=fee_msat // SAT,
        fee_msat=fee_msat,
        payment_preimage=done.preimage.hex() if done and done.preimage else NO_PREIMAGE,
        payment_request=terms.bolt11,
        status=_STATUS[payment.status],
        htlcs=[_attempt_message(attempt) for attempt in payment.attempts],
        payment_index=payment.index,
        failure_reason=int(payment.failure),
    )


def _attempt_message(attempt: Attempt) -> Any:
    hops = attempt.hops
    onward = [*hops[1:], hops[-1]]
    first = hops[0]
    message = lnrpc.HTLCAttempt(
        attempt_id=attempt.attempt_id,
        status=int(attempt.status),
        attempt_time_ns=attempt.sent_ns,
        resolve_time_ns=attempt.resolved_ns,
        route=lnrpc.Route(
            total_time_lock=first.expiry_height,
            total_fees=attempt.fee_msat // SAT,
            total_fees_msat=attempt.fee_msat,
            total_amt=first.amount_msat // SAT,
            total_amt_msat=first.amount_msat,
            hops=[
                lnrpc.Hop(
                    chan_id=hop.channel.channel_id,
                    chan_capacity=hop.channel.capacity_msat // SAT,
                    amt_to_forward=following.amount_msat // SAT,
                    amt_to_forward_msat=following.amount_msat,
                    fee=(hop.amount_msat - following.amount_msat) // SAT,
                    fee_msat=hop.amount_msat - following.amount_msat,
                    expiry=following.expiry_height,
                    pub_key=hop.receiver,
                    tlv_payload=True,
                )
                for hop, following in zip(hops, onward, strict=True)
            ],
        ),
    )
    if attempt.status is AttemptStatus.SUCCEEDED and attempt.preimage:
        message.preimage = attempt.preimage
    if attempt.status is AttemptStatus.FAILED:
        message.failure.CopyFrom(lnrpc.Failure(code=_INCORRECT_DETAILS, failure_source_index=len(hops)))
    return message


def channel_message(node: Node, channel: Channel, *, active: bool) -> Any:
    """`lnrpc.Channel`, as `node` sees it."""
    me, peer = node.pubkey, channel.peer_of(node.pubkey)
    return lnrpc.Channel(
        active=active,
        remote_pubkey=peer,
        channel_point=f"{funding_txid(channel)}:0",
        chan_id=channel.channel_id,
        capacity=channel.capacity_msat // SAT,
        local_balance=channel.balances[me] // SAT,
        remote_balance=channel.balances[peer] // SAT,
        unsettled_balance=channel.in_flight_msat // SAT,
        total_satoshis_sent=channel.sent_msat[me] // SAT,
        total_satoshis_received=channel.sent_msat[peer] // SAT,
        num_updates=channel.updates,
        pending_htlcs=[
            lnrpc.HTLC(
                incoming=sender != me,
                amount=htlc.amount_msat // SAT,
                hash_lock=htlc.payment_hash,
                expiration_height=htlc.expiry_height,
                htlc_index=htlc.index,
            )
            for sender in (me, peer)
            for htlc in channel.outgoing[sender].values()
        ],
        initiator=channel.ends[0] == me,
        chan_status_flags="ChanStatusDefault",
        local_chan_reserve_sat=channel.reserve_msat // SAT,
        remote_chan_reserve_sat=channel.reserve_msat // SAT,
        commitment_type=lnrpc.ANCHORS,
        static_remote_key=True,
    )


def funding_txid(channel: Channel) -> str:
    """A made-up but stable transaction id."""
    return hashlib.sha256(b"funding" + channel.channel_id.to_bytes(8, "big")).hexdigest()


def amount_message(msat: int) -> Any:
    """`lnrpc.Amount`."""
    return lnrpc.Amount(sat=msat // SAT, msat=msat)


def pay_req_message(request: bolt11.Invoice) -> Any:
    """`lnrpc.PayReq`."""
    amount_msat = request.amount_msat or 0
    return lnrpc.PayReq(
        destination=request.payee.hex(),
        payment_hash=request.payment_hash.hex(),
        num_satoshis=amount_msat // SAT,
        num_msat=amount_msat,
        timestamp=request.timestamp,
        expiry=request.expiry,
        description=request.description or "",
        description_hash=(request.description_hash or b"").hex(),
        cltv_expiry=request.min_final_cltv,
        payment_addr=request.payment_secret,
    )
