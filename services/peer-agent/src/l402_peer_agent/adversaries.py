"""Attacks that the demonstration shows failing, each as small as it can be. They pay and lock like anybody else."""

from pathlib import Path
from typing import Final

import msgspec
import torch
from l402core.documents import Terms
from l402core.errors import PeerError
from sparseloco.wire import PayloadError, pack, unpack
from torch import Tensor

from l402_peer_agent.files import write_whole
from l402_peer_agent.training import Alter, binding, spec_of


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """A packed payload on its way from one identity to another, out of band."""

    round: int
    peer: str
    packed: bytes


def honest(delta: Tensor, _seed: bytes) -> Tensor:
    """What was trained."""
    return delta


def sign_flip(delta: Tensor, _seed: bytes) -> Tensor:
    """The opposite of what was trained: it undoes the others' work."""
    return -delta


def noise(delta: Tensor, seed: bytes) -> Tensor:
    """No work at all, at the norm of honest work."""
    generator = torch.Generator().manual_seed(int.from_bytes(seed[:8], "big") >> 1)
    drawn = torch.randn(delta.shape, generator=generator)
    return drawn.mul_(float(delta.norm() / drawn.norm()))


ALTER: Final[dict[str, Alter]] = {"honest": honest, "sign-flip": sign_flip, "noise": noise, "accomplice": honest}


def hand_over(path: Path, handed: HandOver) -> None:
    """Leave a payload for the accomplice; whole or not at all."""
    write_whole(path, msgspec.json.encode(handed))


def take_over(path: Path, terms: Terms, peer: bytes) -> bytes | None:
    """Another's payload of this round under our own key, as our own packed payload; None while there is none.

    Raises PeerError for a file that is no payload of this round.
    """
    try:
        handed = msgspec.json.decode(path.read_bytes(), type=HandOver)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise PeerError("hand_over", f"not a hand-over file: {error}") from error
    if handed.round != terms.round:
        return None
    spec = spec_of(terms)
    try:
        payload = unpack(handed.packed, spec, binding(terms, bytes.fromhex(handed.peer)))
    except (PayloadError, ValueError) as error:
        raise PeerError("hand_over", f"not a payload of this round: {error}") from error
    return pack(payload.sparse, spec, binding(terms, peer))
