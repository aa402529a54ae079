"""The coordinator's channels over a run: before, after, and what flowed between. It asks the settler, and moves nothing."""

import asyncio
import json
import time
from collections.abc import Iterable

from l402core.events import ChannelStanding, ChannelsView, NodeFlow, ReadChannels

from l402train.asking import ask
from l402train.folder import Folder
from l402train.report import ChannelReport, FlowReport, NextRoundReport

QUIET_S = 5.0
"""A node that says SUCCEEDED may take a moment until the channel's balance says so too."""


async def now(nats_url: str) -> ChannelsView:
    """The channels as they are. Raises Stop."""
    return await ask(nats_url, ReadChannels(), ChannelsView)


async def at_rest(nats_url: str) -> ChannelsView:
    """The channels once nothing is in flight on them and no balance moves; after `QUIET_S`, as they are. Raises Stop.

    What comes in (a sponsor's tranche) takes no slot of ours, so it is seen by its balance alone.
    """
    ends_at, before = time.monotonic() + QUIET_S, None
    while True:
        view = await now(nats_url)
        rests = view.channels == before and not any(one.slots_used for one in view.channels)
        if rests or time.monotonic() > ends_at:
            return view
        before = view.channels
        await asyncio.sleep(0.5)


def names(folder: Folder) -> dict[str, str]:
    """Public key of each Lightning node of a local network to its name there; none where they are not told."""
    try:
        listed = json.loads(folder.nodes.read_text())
    except (OSError, ValueError):
        return {}
    return {one["pubkey"]: name for name, one in listed.items() if isinstance(one, dict) and "pubkey" in one}


def compare(before: ChannelsView, after: ChannelsView, known: dict[str, str]) -> tuple[ChannelReport, ...]:
    """Each channel of `after`, beside what it was; those that did not exist before began empty of change."""
    was = {one.channel_id: one.local_msat for one in before.channels}
    flows = {flow.node: flow for flow in after.flows}
    return tuple(_compared(one, was, flows.get(one.node), known) for one in after.channels)


def next_round(view: ChannelsView) -> NextRoundReport | None:
    """What stands against one more round; None without any channel."""
    if not view.channels:
        return None
    return NextRoundReport(
        needed_msat=view.needed_msat, sendable_msat=view.sendable_msat, slots_needed=view.slots_needed,
        slots_free=view.slots_free, warning=view.warning,
    )  # fmt: skip


def _compared(one: ChannelStanding, was: dict[str, int], flow: NodeFlow | None, known: dict[str, str]) -> ChannelReport:
    return ChannelReport(
        channel_id=one.channel_id,
        peer=known.get(one.node, one.node),
        capacity_msat=one.capacity_msat,
        local_before_msat=was.get(one.channel_id, one.local_msat),
        local_after_msat=one.local_msat,
        remote_after_msat=one.remote_msat,
        needed_msat=one.needed_msat,
        slots_used=one.slots_used,
        slots_free=one.slots_free,
        fees_msat=flow.fees_msat if flow else 0,
        rewards_msat=flow.rewards_msat if flow else 0,
        flow=tuple(_reported(flow)),
        warning=one.warning,
    )


def _reported(flow: NodeFlow | None) -> Iterable[FlowReport]:
    for one in flow.rounds if flow else ():
        yield FlowReport(round=one.round, fees_msat=one.fees_msat, rewards_msat=one.rewards_msat)
