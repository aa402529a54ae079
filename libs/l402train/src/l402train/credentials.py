"""One macaroon per service, baked by URI: each may call what it needs of its node, and nothing else."""

from pathlib import Path
from typing import Any

from l402core.lnd.stubs import lnrpc
from l402core.lnd.wire import LndEndpoint, Wire

from l402train.folder import Folder
from l402train.parts import COORDINATOR, OBSERVER

_LIGHTNING = "/lnrpc.Lightning/"
_INVOICES = "/invoicesrpc.Invoices/"
_ROUTER = "/routerrpc.Router/"
_BLOCKS = "/chainrpc.ChainNotifier/RegisterBlockEpochNtfn"

ALLOWED: dict[str, tuple[str, ...]] = {
    "invoicer": (
        *(_LIGHTNING + name for name in ("AddInvoice", "LookupInvoice", "SubscribeInvoices", "DecodePayReq")),
        *(_LIGHTNING + name for name in ("ListInvoices", "ListChannels", "GetInfo")),
        *(_INVOICES + name for name in ("AddHoldInvoice", "LookupInvoiceV2")),
        *(_ROUTER + name for name in ("SendPaymentV2", "TrackPaymentV2")),
    ),
    "settler": (
        *(_INVOICES + name for name in ("SettleInvoice", "CancelInvoice", "LookupInvoiceV2", "SubscribeSingleInvoice")),
        *(_ROUTER + name for name in ("TrackPayments", "TrackPaymentV2")),
        *(_LIGHTNING + name for name in ("ListInvoices", "ListPayments", "ListChannels", "LookupInvoice", "GetInfo")),
        _BLOCKS,
    ),
    "attestor": (_LIGHTNING + "GetInfo", _BLOCKS),
    "peer": (
        *(_INVOICES + name for name in ("AddHoldInvoice", "SettleInvoice", "CancelInvoice")),
        *(_INVOICES + name for name in ("SubscribeSingleInvoice", "LookupInvoiceV2")),
        *(_LIGHTNING + name for name in ("DecodePayReq", "LookupInvoice", "GetInfo")),
        *(_ROUTER + name for name in ("SendPaymentV2", "TrackPaymentV2")),
        _BLOCKS,
    ),
}
"""By role. The gateway and the workers have no node."""


async def bake_all(folder: Folder, nodes: dict[str, Any], peers: tuple[str, ...]) -> None:
    """Bake `keys/<service>.macaroon` at the node each service may call. Raises Unavailable, Stop."""
    wanted = [("invoicer", COORDINATOR), ("settler", COORDINATOR), ("attestor", OBSERVER)]
    for service, node in wanted:
        await bake(endpoint_of(nodes[node]), ALLOWED[service], macaroon_of(folder, service))
    for name in peers:
        await bake(endpoint_of(nodes[name]), ALLOWED["peer"], macaroon_of(folder, name))


async def bake(admin: LndEndpoint, uris: tuple[str, ...], path: Path) -> None:
    """One macaroon for these URIs, into a file of mode 0600."""
    wire = Wire(admin)
    try:
        permissions = [lnrpc.MacaroonPermission(entity="uri", action=uri) for uri in uris]
        baked = await wire.call(_LIGHTNING + "BakeMacaroon", lnrpc.BakeMacaroonRequest(permissions=permissions))
    finally:
        await wire.close()
    Folder.write_private(path, bytes.fromhex(baked.macaroon))


def endpoint_of(node: dict[str, Any]) -> LndEndpoint:
    """A node of `nodes.json`, with the macaroon that may bake others."""
    return LndEndpoint(
        host=node["host"], tls_cert_path=Path(node["tls_cert"]), macaroon_path=Path(node["macaroons"]["admin"])
    )


def macaroon_of(folder: Folder, service: str) -> Path:
    """Where a service's macaroon lies."""
    return folder.keys / f"{service}.macaroon"
