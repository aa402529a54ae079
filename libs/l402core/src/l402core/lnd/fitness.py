"""Whether a node is fit to be trusted with money now: pure words on what it tells of itself. It asks nothing."""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from l402core.errors import L402Error
from l402core.lnd.port import ChannelView, NodeInfo

VERSION_MIN: Final = (0, 19, 0)
"""It fixed faults through which funds could be stolen."""
CHECKS: Final = (
    "answers", "unlocked", "macaroon", "network", "version", "synced", "channels", "liquidity", "slots",
)  # fmt: skip
"""All that may be said against a node, in the order in which they are looked at."""
_SILENCES: Final = {"lnd_locked": "unlocked", "lnd_no_wallet": "unlocked", "lnd_macaroon": "macaroon"}


class Trouble(msgspec.Struct, frozen=True):
    """One of `CHECKS` that failed."""

    check: str
    sentence: str


def version_of(text: str) -> tuple[int, int, int] | None:
    """The numbers in "0.21.0-beta commit=v0.21.0-beta"; None where there are none."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def silence(error: L402Error) -> Trouble:
    """What a call that failed says of the node: that it is locked, refuses our macaroon, or does not answer."""
    return Trouble(_SILENCES.get(error.code, "answers"), error.detail)


def trouble(info: NodeInfo, *, network: str) -> Trouble | None:
    """Why nothing may be begun on a node that answers; None where nothing is wrong with it."""
    if info.network != network:
        return Trouble("network", f"the node is on {info.network or 'no network'}, configured is {network}")
    version = version_of(info.version)
    floor = ".".join(map(str, VERSION_MIN))
    if version is None or version < VERSION_MIN:
        return Trouble("version", f"the node says it is lnd {info.version!r}, and {floor} or newer is needed")
    if not info.synced:
        return Trouble("synced", f"the node is not synced to the chain; it is at height {info.block_height}")
    return None


def readiness(part: str, failing: str) -> dict[str, bool]:
    """For `/readyz`: whether a part is fit, and by name the check that it fails; "" for none."""
    return {part: not failing, **({f"{part}_{failing}": False} if failing else {})}


def slots_free(channel: ChannelView, per_channel: int) -> int:
    """HTLCs that it still takes from us."""
    return max(0, per_channel - channel.pending_out)


def shortage(
    channels: Iterable[ChannelView], *, needed_msat: int, needed_slots: int, slots_per_channel: int
) -> Trouble | None:
    """Why a ladder of this size cannot be locked now; None where it can.

    Sums over active channels: whether one route carries one rung is for the node to find out.
    """
    active = [channel for channel in channels if channel.active]
    if not active:
        return Trouble("channels", "no channel of the node is active")
    has_msat = sum(channel.sendable_msat for channel in active)
    if has_msat < needed_msat:
        return Trouble("liquidity", f"the node can send {has_msat} msat, and {needed_msat} are needed")
    slots = sum(slots_free(channel, slots_per_channel) for channel in active)
    if slots < needed_slots:
        return Trouble("slots", f"{slots} HTLC slots are free, and {needed_slots} are needed")
    return None
