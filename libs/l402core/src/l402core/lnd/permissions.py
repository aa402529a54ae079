"""Which of LND's calls each service may make, and baking a macaroon for just those. It knows no entity but `uri`."""

import secrets
from collections.abc import Iterable
from typing import Any, Final

from l402core.errors import Malformed
from l402core.lnd.stubs import lnrpc
from l402core.lnd.wire import LndEndpoint, Wire

_LIGHTNING: Final = "/lnrpc.Lightning/"
_INVOICES: Final = "/invoicesrpc.Invoices/"
_ROUTER: Final = "/routerrpc.Router/"
_BLOCKS: Final = "/chainrpc.ChainNotifier/RegisterBlockEpochNtfn"
ROOT_KEYS: Final = (1 << 53) - 1
"""Root keys have numbers; these are whole also where JSON has only floats."""
_PAY: Final = (_ROUTER + "SendPaymentV2", _ROUTER + "TrackPaymentV2")

INVOICER: Final = (
    *(_LIGHTNING + name for name in ("AddInvoice", "LookupInvoice", "SubscribeInvoices", "ListInvoices", "GetInfo")),
    _INVOICES + "AddHoldInvoice",
    *_PAY,
)
"""Begins obligations: mints fee invoices and sponsors' hold invoices, pays ladders. It settles and cancels nothing.

ListInvoices: fees that settled before the first one was published come in no stream. A payment request is read here, so
that nobody needs DecodePayReq; channels and their slots are counted by the settler, where they are promised.
"""

SETTLER: Final = (
    *(_ROUTER + name for name in ("TrackPayments", "TrackPaymentV2")),
    *(_LIGHTNING + name for name in ("ListInvoices", "ListPayments", "ListChannels", "PendingChannels", "GetInfo")),
    *(_INVOICES + name for name in ("SettleInvoice", "CancelInvoice", "LookupInvoiceV2", "SubscribeSingleInvoice")),
)
"""Keeps the books, and ends sponsors' hold invoices: it takes in or gives back, and can send nothing.

PendingChannels: a payment that a crash left in flight for ever is over only where no channel may still hold it. Invoices are
looked up by LookupInvoiceV2 alone, and a height is read where it is believed, together with the node's state, by GetInfo.
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

    It is made under a root key of its own, so that it can be revoked alone; LND's first root key can never be deleted.
    `endpoint` carries one that may bake, such as `admin.macaroon`. Raises Unauthorized or Unavailable.
    """
    permissions = [lnrpc.MacaroonPermission(entity="uri", action=uri) for uri in uris]
    request = lnrpc.BakeMacaroonRequest(permissions=permissions, root_key_id=1 + secrets.randbelow(ROOT_KEYS))
    answer = await _asked(endpoint, "BakeMacaroon", request)
    return bytes.fromhex(answer.macaroon)


async def revoke(endpoint: LndEndpoint, root_key_id: int) -> bool:
    """Delete a root key: every macaroon that was made under it opens nothing from then on. False where there was none.

    Raises Unauthorized or Unavailable, and Malformed for LND's first root key.
    """
    if root_key_id == 0:
        raise Malformed(
            "root_key", "LND's first root key cannot be deleted; bake another macaroon, and change the node's"
        )
    answer = await _asked(endpoint, "DeleteMacaroonID", lnrpc.DeleteMacaroonIDRequest(root_key_id=root_key_id))
    return bool(answer.deleted)


async def _asked(endpoint: LndEndpoint, name: str, request: Any) -> Any:
    wire = Wire(endpoint)
    try:
        return await wire.call(_LIGHTNING + name, request)
    finally:
        await wire.close()
