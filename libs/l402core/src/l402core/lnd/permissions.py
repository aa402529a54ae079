"""Which of LND's calls each service may make, and baking a macaroon for just those. It knows no entity but `uri`."""

from collections.abc import Iterable
from typing import Final

from l402core.lnd.stubs import lnrpc
from l402core.lnd.wire import LndEndpoint, Wire

_LIGHTNING: Final = "/lnrpc.Lightning/"
_INVOICES: Final = "/invoicesrpc.Invoices/"
_ROUTER: Final = "/routerrpc.Router/"
_BLOCKS: Final = "/chainrpc.ChainNotifier/RegisterBlockEpochNtfn"
_PAY: Final = (_ROUTER + "SendPaymentV2", _ROUTER + "TrackPaymentV2")

INVOICER: Final = (
    *(_LIGHTNING + name for name in ("AddInvoice", "LookupInvoice", "SubscribeInvoices", "ListInvoices")),
    *(_LIGHTNING + name for name in ("ListChannels", "GetInfo")),
    _INVOICES + "AddHoldInvoice",
    *_PAY,
)
"""Begins obligations: mints fee invoices and sponsors' hold invoices, pays ladders. It settles and cancels nothing.

ListInvoices: fees that settled before the first one was published come in no stream. A payment request is read here, so
that nobody needs DecodePayReq.
"""

SETTLER: Final = (
    *(_ROUTER + name for name in ("TrackPayments", "TrackPaymentV2")),
    *(_LIGHTNING + name for name in ("ListInvoices", "ListPayments", "ListChannels", "PendingChannels", "GetInfo")),
    *(_INVOICES + name for name in ("SettleInvoice", "CancelInvoice", "LookupInvoiceV2", "SubscribeSingleInvoice")),
)
"""Keeps the books, and ends sponsors' hold invoices: it takes in or gives back, and can send nothing.

PendingChannels: a payment that a crash left in flight for ever is over only where no channel may still hold it.
"""

ATTESTOR: Final = (_LIGHTNING + "GetInfo", _BLOCKS)
"""Reads block heights."""

PEER: Final = (
    *(_INVOICES + name for name in ("AddHoldInvoice", "SettleInvoice", "CancelInvoice", "SubscribeSingleInvoice")),
    _INVOICES + "LookupInvoiceV2",
    _LIGHTNING + "GetInfo",
    *_PAY,
)
"""At the peer's own node: holds and collects rewards, pays its fees. GetInfo: the node that rewards go to, and its chain."""

SPONSOR: Final = (_LIGHTNING + "GetInfo", *_PAY)
"""At a sponsor's own node: pays, and looks how its payments ended."""


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
