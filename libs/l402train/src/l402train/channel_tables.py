"""What a person sees of the coordinator's channels: tables and sentences. It decides nothing.

The gateway's status page calls the same figures by the same words.
"""

from collections.abc import Callable, Iterable

import msgspec
from l402core.events import ChannelStanding, ChannelsView
from rich.console import Console
from rich.table import Table

from l402train.report import ChannelReport, NextRoundReport
from l402train.screen import lined, sat

NETS_SHOWN = 3
NET, NEXT_ROUND, SLOTS = "net by round", "next round", "slots in use"
"""What the last rounds left with the coordinator, the newest last; what the next one may take; of how many."""
COLUMNS: dict[str, Callable[[ChannelReport], str]] = {
    "capacity": lambda one: sat(one.capacity_msat),
    "ours before": lambda one: sat(one.local_before_msat),
    "after": lambda one: sat(one.local_after_msat),
    "theirs": lambda one: sat(one.remote_after_msat),
    "fees in": lambda one: sat(one.fees_msat),
    "rewards out": lambda one: sat(one.rewards_msat),
    NET: lambda one: _nets([flow.net_msat for flow in one.flow]),
    NEXT_ROUND: lambda one: sat(one.needed_msat),
    SLOTS: lambda one: f"{one.slots_used}/{one.slots_used + one.slots_free}",
}
"""What the page shows of a channel."""
ADDED = ("capacity", "ours before", "after", "theirs", "fees in", "rewards out", SLOTS)
"""Whose sums over all channels mean something."""
ON_A_TERMINAL = ("capacity", "ours before", "after", "fees in", "rewards out", NET, SLOTS)
"""As many as fit: theirs is the rest, and what the next round needs of all is told below."""


def table_of(channels: tuple[ChannelReport, ...]) -> Table:
    """Each channel before and after: fees came in over it, rewards went out."""
    table = lined("The coordinator's channels, in satoshi")
    table.show_footer = True
    sums = dict(zip(COLUMNS, sums_of(channels), strict=True))
    table.add_column("with", footer="all")
    for name in ON_A_TERMINAL:
        table.add_column(name, justify="right", footer=sums[name], overflow="fold", no_wrap=name == NET)
    for one in channels:
        newest = msgspec.structs.replace(one, flow=one.flow[-NETS_SHOWN:])
        table.add_row(one.peer[:16], *(COLUMNS[name](newest) for name in ON_A_TERMINAL))
    return table


def cells(one: ChannelReport) -> tuple[str, ...]:
    """A channel's numbers, under `COLUMNS`."""
    return tuple(column(one) for column in COLUMNS.values())


def _nets(rounds_msat: list[int]) -> str:
    return " ".join(f"{net_msat / 1000:+,.0f}" for net_msat in rounds_msat) or "-"


def sums_of(channels: tuple[ChannelReport, ...]) -> tuple[str, ...]:
    """The sums of the same."""
    names = ("capacity_msat", "local_before_msat", "local_after_msat", "remote_after_msat", "slots_used", "slots_free")
    fees_msat, rewards_msat = _flow_of(channels)
    whole = msgspec.structs.replace(
        channels[0], fees_msat=fees_msat, rewards_msat=rewards_msat,
        **{name: sum(getattr(one, name) for one in channels) for name in names},
    )  # fmt: skip
    return tuple(column(whole) if name in ADDED else "" for name, column in COLUMNS.items())


def _flow_of(channels: tuple[ChannelReport, ...]) -> tuple[int, int]:
    """Fees in and rewards out: each node's once, which stands beside every channel to it."""
    nodes = {one.peer: one for one in channels}.values()
    return sum(one.fees_msat for one in nodes), sum(one.rewards_msat for one in nodes)


def rebalanced(channels: tuple[ChannelReport, ...], sponsors_msat: int = 0) -> str:
    """What the run moved, in a sentence: measured at the node, beside what the books say."""
    moved = sum(one.local_after_msat - one.local_before_msat for one in channels)
    fees, rewards = _flow_of(channels)
    both = sum(1 for one in channels if one.fees_msat and one.rewards_msat)
    brought = " and what sponsors paid" if sponsors_msat else ""
    return (
        f"Both ways over the same channels: {sat(fees)} sat came in as fees and {sat(rewards)} sat went out as rewards; "
        f"{both} of {len(channels)} channels carried both. The node's own balance moved by {sat(moved)} sat "
        f"where fees{brought} less rewards are {sat(fees + sponsors_msat - rewards)} sat."
    )


def tell(out: Console, view: ChannelsView) -> None:
    """The channels now, and what stands against the next round."""
    flows = {flow.node: flow for flow in view.flows}
    table = lined("The coordinator's channels, in satoshi")
    table.add_column("with")
    for name in ("capacity", "ours", "theirs", "fees in", "rewards out", NET, NEXT_ROUND, SLOTS):
        table.add_column(name, justify="right", overflow="fold")
    for one in view.channels:
        flow = flows[one.node]
        table.add_row(
            one.node[:12], sat(one.capacity_msat), sat(one.local_msat), sat(one.remote_msat), sat(flow.fees_msat),
            sat(flow.rewards_msat), _nets([each.net_msat for each in flow.rounds[-NETS_SHOWN:]]), sat(one.needed_msat),
            f"{one.slots_used}/{one.slots_used + one.slots_free}",
        )  # fmt: skip
    out.print(table)
    out.print(needs(view), soft_wrap=True)
    warn(out, view.warning, view.channels)


def needs(one: ChannelsView | NextRoundReport) -> str:
    """What a full next round takes, beside what is there."""
    needed = f"A full next round takes up to {sat(one.needed_msat)} sat and {one.slots_needed} HTLC slots"
    return f"{needed}; {sat(one.sendable_msat)} sat and {one.slots_free} are there."


def warn(out: Console, of_all: str, channels: Iterable[ChannelStanding | ChannelReport]) -> None:
    """Each sentence about what may run short."""
    for who, warning in [("next round", of_all), *((_name(one)[:16], one.warning) for one in channels)]:
        if warning:
            out.print(f"{who}: {warning}", style="yellow", soft_wrap=True)


def _name(one: ChannelStanding | ChannelReport) -> str:
    return one.node if isinstance(one, ChannelStanding) else one.peer
