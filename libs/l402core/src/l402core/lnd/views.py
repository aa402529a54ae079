"""LND's messages as views of the port. Pure; a preimage leaves only in the view of a settled payment."""

from typing import Any, Final

from l402core.lnd.port import ChannelView, InvoiceState, InvoiceView, NodeInfo, PaymentStatus, PaymentView
from l402core.lnd.stubs import lnrpc
from l402core.money import MSAT_PER_SAT
from l402core.secret import Secret

_STATUS: Final = {
    lnrpc.Payment.IN_FLIGHT: PaymentStatus.IN_FLIGHT,
    lnrpc.Payment.SUCCEEDED: PaymentStatus.SETTLED,
    lnrpc.Payment.FAILED: PaymentStatus.FAILED,
    4: PaymentStatus.IN_FLIGHT,  # INITIATED of newer LNDs, which the stubs do not know
}


def invoice_view(invoice: Any) -> InvoiceView:
    """Of an `lnrpc.Invoice`."""
    return InvoiceView(
        payment_hash=invoice.r_hash,
        bolt11=invoice.payment_request,
        amount_msat=invoice.value_msat,
        paid_msat=invoice.amt_paid_msat,
        state=InvoiceState(lnrpc.Invoice.InvoiceState.Name(invoice.state)),
        expiry_s=invoice.expiry,
        cltv_expiry=invoice.cltv_expiry,
        created_at=invoice.creation_date,
        settle_index=invoice.settle_index,
        settled_at=invoice.settle_date,
        htlc_expiry_heights=tuple(htlc.expiry_height for htlc in invoice.htlcs if htlc.state != lnrpc.CANCELED),
    )


def payment_view(payment: Any) -> PaymentView:
    """Of an `lnrpc.Payment`; a status we do not know is UNKNOWN, never FAILED."""
    status = _STATUS.get(payment.status, PaymentStatus.UNKNOWN)
    failure = lnrpc.PaymentFailureReason.Name(payment.failure_reason) if status is PaymentStatus.FAILED else ""
    paid_ns = [htlc.attempt_time_ns for htlc in payment.htlcs if htlc.status == lnrpc.HTLCAttempt.SUCCEEDED]
    return PaymentView(
        payment_hash=bytes.fromhex(payment.payment_hash),
        status=status,
        amount_msat=payment.value_msat,
        fee_msat=payment.fee_msat,
        failure=failure,
        preimage=Secret(bytes.fromhex(payment.payment_preimage)) if status is PaymentStatus.SETTLED else None,
        htlc_expiry_heights=tuple(
            htlc.route.total_time_lock for htlc in payment.htlcs if htlc.status != lnrpc.HTLCAttempt.FAILED
        ),
        sent_at_ms=max(paid_ns, default=0) // 1_000_000,
    )


def dispatched(payment: Any) -> bool:
    """Whether an update shows an HTLC that is out, or the end."""
    return payment.status in {lnrpc.Payment.SUCCEEDED, lnrpc.Payment.FAILED} or any(
        htlc.status == lnrpc.HTLCAttempt.IN_FLIGHT for htlc in payment.htlcs
    )


def finished(payment: Any) -> bool:
    """Whether an update is the last one."""
    return payment.status in {lnrpc.Payment.SUCCEEDED, lnrpc.Payment.FAILED}


def channel_view(channel: Any) -> ChannelView:
    """Of an `lnrpc.Channel`; LND gives balances in whole satoshis."""
    outgoing = [htlc for htlc in channel.pending_htlcs if not htlc.incoming]
    return ChannelView(
        channel_id=channel.chan_id,
        remote_pubkey=channel.remote_pubkey,
        active=channel.active,
        capacity_msat=channel.capacity * MSAT_PER_SAT,
        local_msat=channel.local_balance * MSAT_PER_SAT,
        remote_msat=channel.remote_balance * MSAT_PER_SAT,
        reserve_msat=max(channel.local_constraints.chan_reserve_sat, channel.local_chan_reserve_sat) * MSAT_PER_SAT,
        pending_out=len(outgoing),
        pending_out_hashes=tuple(htlc.hash_lock for htlc in outgoing),
    )


def node_info(info: Any) -> NodeInfo:
    """Of an `lnrpc.GetInfoResponse`."""
    return NodeInfo(
        pubkey=info.identity_pubkey,
        alias=info.alias,
        version=info.version,
        block_height=info.block_height,
        network=info.chains[0].network if info.chains else "",
        synced=info.synced_to_chain,
    )
