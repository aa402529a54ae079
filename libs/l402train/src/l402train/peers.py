"""Who takes part in a local network: names, kinds, and how each peer is started. It knows no training."""

import json

import msgspec

from l402train import services
from l402train.folder import Folder
from l402train.services import Wiring

CYCLE = ("honest", "honest", "honest", "accomplice", "sign-flip", "noise")
"""Kinds in order of the peers' numbers, again and again: six peers are three honest ones and one cheat of each kind."""
HONEST = "honest"
POOL = "pool-"
"""Attacks of one owner with several identities begin so."""
POOL_MEMBERS = 3
HANDED_OVER = "handed-over.json"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One peer of a demo."""

    name: str
    kind: str
    identity: str
    """Its public key."""
    leader: str = ""
    """Of a pool's member: the public key of the first."""
    member: int = 0


def names(count: int) -> tuple[str, ...]:
    """`peer-1`, `peer-2`, ..."""
    return tuple(f"peer-{number}" for number in range(1, count + 1))


def kinds(count: int, adversaries: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Everybody's kind: `count` peers of the usual mix, or that many honest ones and then the adversaries."""
    if not adversaries:
        return tuple(CYCLE[number % len(CYCLE)] for number in range(count))
    cheats = [kind for kind in adversaries for _ in range(POOL_MEMBERS if kind.startswith(POOL) else 1)]
    return (*(HONEST,) * count, *cheats)


def cast(identities: tuple[str, ...], kinds_: tuple[str, ...]) -> tuple[Peer, ...]:
    """Everybody with a name and a kind."""
    return tuple(
        Peer(
            name=name,
            kind=kind,
            identity=identity,
            leader=identities[kinds_.index(kind)] if kind.startswith(POOL) else "",
            member=number - kinds_.index(kind) if kind.startswith(POOL) else 0,
        )
        for number, (name, kind, identity) in enumerate(zip(names(len(identities)), kinds_, identities, strict=True))
    )


def environment(peer: Peer, everybody: tuple[Peer, ...], folder: Folder, wiring: Wiring, url: str) -> dict[str, str]:
    """The variables of one peer's process; `url` is the gateway's."""
    told: dict[str, object] = {
        **services.lnd(folder, wiring, peer.name, peer.name),
        "gateway_url": url,
        "kind": peer.kind,
        "name": peer.name,
        "rounds": wiring.rounds,
        "key_file": folder.keys / f"{peer.name}.json",
        "data_dir": folder.peers / peer.name,
        "trace_file": folder.trace(peer.name),
        "settler": wiring.public.settler,
        "attestor": wiring.public.attestor,
        **_attack(peer, everybody, folder),
    }
    return {**services.base_environment(), **{f"L402_PEER_{key.upper()}": str(value) for key, value in told.items()}}


def _attack(peer: Peer, everybody: tuple[Peer, ...], folder: Folder) -> dict[str, object]:
    """Honest peers hand their payloads over, out of band; cheats look for them there, the first peer's first."""
    if peer.kind == HONEST:
        return {"hand_over_to": folder.peers / peer.name / HANDED_OVER}
    sources = [str(folder.peers / other.name / HANDED_OVER) for other in everybody if other.kind == HONEST]
    pool = {"pool_leader": peer.leader, "pool_member": peer.member, "pool_members": POOL_MEMBERS} if peer.leader else {}
    return {"hand_over_from": json.dumps(sources), **pool}
