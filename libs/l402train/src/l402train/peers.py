"""Who takes part in a local network: names, kinds, and how each peer is started. It knows no training."""

import msgspec

from l402train import services
from l402train.folder import Folder
from l402train.services import Wiring

CYCLE = ("honest", "honest", "honest", "accomplice", "sign-flip", "noise")
"""Kinds in order of the peers' numbers, again and again: six peers are three honest ones and one cheat of each kind."""
HONEST = "honest"
HANDED_OVER = "handed-over.json"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One peer of a demo."""

    name: str
    kind: str
    identity: str
    """Its public key."""
    partner: str = ""
    """Whose payload an accomplice is handed."""


def names(count: int) -> tuple[str, ...]:
    """`peer-1`, `peer-2`, ..."""
    return tuple(f"peer-{number}" for number in range(1, count + 1))


def cast(identities: tuple[str, ...]) -> tuple[Peer, ...]:
    """Everybody with a kind. An accomplice copies the first honest peer."""
    return tuple(
        Peer(
            name=name,
            kind=(kind := CYCLE[number % len(CYCLE)]),
            identity=identity,
            partner="peer-1" if kind == "accomplice" else "",
        )
        for number, (name, identity) in enumerate(zip(names(len(identities)), identities, strict=True))
    )


def environment(peer: Peer, folder: Folder, wiring: Wiring, gateway_url: str) -> dict[str, str]:
    """The variables of one peer's process."""
    told: dict[str, object] = {
        **services.lnd(folder, wiring, peer.name, peer.name),
        "gateway_url": gateway_url,
        "kind": peer.kind,
        "name": peer.name,
        "rounds": wiring.rounds,
        "key_file": folder.keys / f"{peer.name}.json",
        "data_dir": folder.peers / peer.name,
        "trace_file": folder.trace(peer.name),
        "settler": wiring.public.settler,
        "attestor": wiring.public.attestor,
        **_with_partner(peer, folder),
    }
    return {**services.base_environment(), **{f"L402_PEER_{key.upper()}": str(value) for key, value in told.items()}}


def _with_partner(peer: Peer, folder: Folder) -> dict[str, object]:
    """The first honest peer hands its payload over, out of band, to every accomplice."""
    if peer.kind == "accomplice":
        return {"hand_over_from": folder.peers / peer.partner / HANDED_OVER}
    return {"hand_over_to": folder.peers / peer.name / HANDED_OVER} if peer.name == "peer-1" else {}
