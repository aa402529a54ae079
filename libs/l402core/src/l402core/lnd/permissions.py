"""Which of LND's calls each service may make, and baking a macaroon for just those. It knows no entity but `uri`."""

from collections.abc import Iterable
from typing import Final

from l402core.lnd.stubs import lnrpc
from l402core.lnd.wire import LndEndpoint, Wire

_LIGHTNING: Final = "/lnrpc.Lightning/"
_INVOICES: Final = "/invoicesrpc.Invoices/"
_ROUTER: Final = "/routerrpc.Router/"

INVOICER: Final = (
    *(
        _LIGHTNING + name
        for name in ("AddInvoice", "LookupInvoice", "SubscribeInvoices", "DecodePayReq", "ListChannels", "GetInfo")
    ),
    _INVOICES + "AddHoldInvoice",
    _ROUTER + "SendPaymentV2",
    _ROUTER + "TrackPaymentV2",
)
"""Begins obligations: mints invoices and pays ladders. It settles and cancels nothing."""

SETTLER: Final = (
    *(_INVOICES + name for name in ("SettleInvoice", "CancelInvoice", "LookupInvoiceV2", "SubscribeSingleInvoice")),
    _ROUTER + "TrackPayments",
    _ROUTER + "TrackPaymentV2",
    *(_LIGHTNING + name for name in ("ListInvoices", "ListPayments", "ListChannels", "LookupInvoice", "GetInfo")),
    "/chainrpc.ChainNotifier/RegisterBlockEpochNtfn",
)
"""Ends obligations. Nothing here sends money."""

PEER: Final = (
    *(
        _INVOICES + name
        for name in (
            "AddHoldInvoice", "SettleInvoice", "CancelInvoice", "SubscribeSingleInvoice", "LookupInvoiceV2",
        )
    ),
    _LIGHTNING + "DecodePayReq",
    _ROUTER + "SendPaymentV2",
    _ROUTER + "TrackPaymentV2",
)  # fmt: skip
"""At the peer's own node: holds and collects rewards, pays its fees."""


async def bake(endpoint: LndEndpoint, uris: Iterable[str]) -> bytes:
    """A macaroon (binary, as LND's files are) that opens these URIs and nothing else.

    `endpoint` carries one that may bake, such as `admin.macaroon`. Raises Unauthorized or Unavailable.
    """
    wire = Wire(endpoint)
    try:
        permissions = [lnrpc.MacaroonPermission(entity="uri", action=uri) for uri in uris]
        answer = await wire.call(_LIGHTNING + "BakeMacaroon", lnrpc.BakeMacaroonRequest(permissions=permissions))
    finally:
        await wire.close()
    return bytes.fromhex(answer.macaroon)
