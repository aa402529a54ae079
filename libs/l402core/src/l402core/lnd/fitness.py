"""Whether a node is fit to be trusted with money now: pure words on what it tells of itself. It asks nothing."""

import re
from collections.abc import Iterable
from typing import Final

from l402core.lnd.port import ChannelView, NodeInfo

VERSION_MIN: Final = (0, 19, 0)
"""It fixed faults through which funds could be stolen."""


def version_of(text: str) -> tuple[int, int, int] | None:
    """The numbers in "0.21.0-beta commit=v0.21.0-beta"; None where there are none."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def trouble(info: NodeInfo, *, network: str) -> str:
    """Why nothing may be begun on this node now, as a sentence; "" where nothing is wrong with it."""
    if info.network != network:
        return f"the node is on {info.network or 'no network'}, and {network} is configured"
    version = version_of(info.version)
    if version is None:
        return f"the node does not tell its version: {info.version!r}"
    if version < VERSION_MIN:
        floor = ".".join(map(str, VERSION_MIN))
        return f"the node is lnd {'.'.join(map(str, version))}, and {floor} or newer is needed"
    if not info.synced:
        return f"the node is not synced to the chain; it is at height {info.block_height}"
    return ""


def shortage(channels: Iterable[ChannelView], *, needed_msat: int, needed_slots: int, slots_per_channel: int) -> str:
    """Why rewards of this size cannot be locked now, as a sentence; "" where they can.

    Sums over active channels: whether one route carries one rung is for the node to find out.
    """
    active = [channel for channel in channels if channel.active]
    if not active:
        return "no channel of the node is active"
    has_msat = sum(channel.local_msat for channel in active)
    if has_msat < needed_msat:
        return f"the node can send {has_msat} msat in all, and {needed_msat} are needed"
    slots = sum(slots_per_channel - channel.pending_out for channel in active)
    if slots < needed_slots:
        return f"{slots} HTLC slots are free in all, and {needed_slots} are needed"
    return ""
