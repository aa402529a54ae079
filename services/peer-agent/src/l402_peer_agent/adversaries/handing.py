"""Payloads on their way from one identity to another, out of band: what an attacker may have seen of others' work."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from l402core.errors import PeerError

from l402_peer_agent.files import write_whole
from l402_peer_agent.training import Taken


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """A packed payload and whose it is."""

    round: int
    peer: str
    packed: bytes


def hand_over(path: Path, handed: HandOver) -> None:
    """Leave a payload for the accomplices; whole or not at all."""
    write_whole(path, msgspec.json.encode(handed))


def taken_from(paths: Sequence[Path], round_: int) -> tuple[Taken, ...]:
    """What has been left for this round so far, in the order of the paths. Raises PeerError for other files."""
    return tuple(taken for path in paths if (taken := _taken(path, round_)) is not None)


def _taken(path: Path, round_: int) -> Taken | None:
    try:
        handed = msgspec.json.decode(path.read_bytes(), type=HandOver)
        return Taken(bytes.fromhex(handed.peer), handed.packed) if handed.round == round_ else None
    except FileNotFoundError:
        return None
    except ValueError as error:  # msgspec's errors are ValueErrors
        raise PeerError("hand_over", f"not a hand-over file: {error}") from error
