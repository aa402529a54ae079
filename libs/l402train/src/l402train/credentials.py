"""One macaroon per service, baked by URI: each may call what it needs of its node, and nothing else."""

from pathlib import Path
from typing import Any

from l402core.lnd import permissions
from l402core.lnd.wire import LndEndpoint

from l402train.folder import Folder
from l402train.parts import COORDINATOR, OBSERVER, SPONSOR

ALLOWED = {
    "invoicer": permissions.INVOICER,
    "settler": permissions.SETTLER,
    "attestor": permissions.ATTESTOR,
    "peer": permissions.PEER,
    "sponsor": permissions.SPONSOR,
}
"""By role. The gateway and the workers have no node."""


async def bake_all(folder: Folder, nodes: dict[str, Any], peers: tuple[str, ...]) -> None:
    """Bake `keys/<service>.macaroon` at the node each service, peer or sponsor may call. Raises Unavailable, Stop."""
    wanted = [("invoicer", COORDINATOR), ("settler", COORDINATOR), ("attestor", OBSERVER)]
    for service, node in wanted:
        await bake(endpoint_of(nodes[node]), ALLOWED[service], macaroon_of(folder, service))
    for name in peers:
        role = "sponsor" if name == SPONSOR else "peer"
        await bake(endpoint_of(nodes[name]), ALLOWED[role], macaroon_of(folder, name))


async def bake(admin: LndEndpoint, uris: tuple[str, ...], path: Path) -> None:
    """One macaroon for these URIs, into a file of mode 0600."""
    Folder.write_private(path, await permissions.bake(admin, uris))


def endpoint_of(node: dict[str, Any]) -> LndEndpoint:
    """A node of `nodes.json`, with the macaroon that may bake others."""
    return LndEndpoint(
        host=node["host"], tls_cert_path=Path(node["tls_cert"]), macaroon_path=Path(node["macaroons"]["admin"])
    )


def macaroon_of(folder: Folder, service: str) -> Path:
    """Where a service's macaroon lies."""
    return folder.keys / f"{service}.macaroon"
