"""Which of LND's calls a simulated node has, and what each asks of a macaroon. It knows no request and no answer."""

from typing import Final

from lndsim.macaroon import Permission

TABLE: Final[dict[str, tuple[Permission | None, str]]] = {
    "/lnrpc.Lightning/GetInfo": (("info", "read"), "get_info"),
    "/lnrpc.Lightning/AddInvoice": (("invoices", "write"), "add_invoice"),
    "/lnrpc.Lightning/LookupInvoice": (("invoices", "read"), "lookup_invoice"),
    "/lnrpc.Lightning/ListInvoices": (("invoices", "read"), "list_invoices"),
    "/lnrpc.Lightning/SubscribeInvoices": (("invoices", "read"), "subscribe_invoices"),
    "/lnrpc.Lightning/DecodePayReq": (("offchain", "read"), "decode_pay_req"),
    "/lnrpc.Lightning/ListPayments": (("offchain", "read"), "list_payments"),
    "/lnrpc.Lightning/ListChannels": (("offchain", "read"), "list_channels"),
    "/lnrpc.Lightning/PendingChannels": (("offchain", "read"), "pending_channels"),
    "/lnrpc.Lightning/ChannelBalance": (("offchain", "read"), "channel_balance"),
    "/lnrpc.Lightning/WalletBalance": (("onchain", "read"), "wallet_balance"),
    "/lnrpc.Lightning/BakeMacaroon": (("macaroon", "generate"), "bake_macaroon"),
    "/lnrpc.Lightning/DeleteMacaroonID": (("macaroon", "write"), "delete_macaroon_id"),
    "/lnrpc.Lightning/ListPermissions": (("info", "read"), "list_permissions"),
    "/invoicesrpc.Invoices/AddHoldInvoice": (("invoices", "write"), "add_hold_invoice"),
    "/invoicesrpc.Invoices/SettleInvoice": (("invoices", "write"), "settle_invoice"),
    "/invoicesrpc.Invoices/CancelInvoice": (("invoices", "write"), "cancel_invoice"),
    "/invoicesrpc.Invoices/LookupInvoiceV2": (("invoices", "write"), "lookup_invoice_v2"),
    "/invoicesrpc.Invoices/SubscribeSingleInvoice": (("invoices", "read"), "subscribe_single_invoice"),
    "/routerrpc.Router/SendPaymentV2": (("offchain", "write"), "send_payment_v2"),
    "/routerrpc.Router/TrackPaymentV2": (("offchain", "read"), "track_payment_v2"),
    "/routerrpc.Router/TrackPayments": (("offchain", "read"), "track_payments"),
    "/chainrpc.ChainNotifier/RegisterBlockEpochNtfn": (("onchain", "read"), "register_block_epoch_ntfn"),
    "/lnrpc.State/GetState": (None, "get_state"),
}
"""Every URI with LND's permission for it (None: open to all, as in LND) and the method that answers."""
