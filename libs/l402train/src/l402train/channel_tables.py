"""What a person sees of the coordinator's channels: tables and sentences. It decides nothing."""

from l402core.events import ChannelsView
from rich.console import Console
from rich.table import Table

from l402train.report import ChannelReport
from l402train.screen import lined, sat

COLUMNS = ("capacity", "ours before", "after", "fees in", "rewards out", "net, newest last", "slots")


def table_of(channels: tuple[ChannelReport, ...]) -> Table:
    """Each channel before and after: fees came in over it, rewards went out."""
    table = lined("The coordinator's channels, in satoshi")
    table.show_footer = True
    sums = sums_of(channels)
    table.add_column("with", footer="all")
    for name, total in zip(COLUMNS, sums, strict=True):
        table.add_column(name, justify="right", footer=total)
    for one in channels:
        table.add_row(one.peer[:16], *cells(one, rounds=3))
    return table


def cells(one: ChannelReport, *, rounds: int) -> tuple[str, ...]:
    """A channel's numbers, under `COLUMNS`; the net flow of so many rounds, the newest last."""
    return (
        sat(one.capacity_msat), sat(one.local_before_msat), sat(one.local_after_msat), sat(one.fees_msat),
        sat(one.rewards_msat), _nets([flow.net_msat for flow in one.flow[-rounds:]]),
        f"{one.slots_used}/{one.slots_used + one.slots_free}",
    )  # fmt: skip


def _nets(rounds_msat: list[int]) -> str:
    return " ".join(f"{net_msat / 1000:+,.0f}" for net_msat in rounds_msat) or "-"


def sums_of(channels: tuple[ChannelReport, ...]) -> tuple[str, ...]:
    """The sums of the same."""
    columns = ("capacity_msat", "local_before_msat", "local_after_msat", "fees_msat", "rewards_msat")
    sums = (sat(sum(getattr(one, name) for one in channels)) for name in columns)
    used = sum(one.slots_used for one in channels)
    return (*sums, "", f"{used}/{used + sum(one.slots_free for one in channels)}")


def rebalanced(channels: tuple[ChannelReport, ...], sponsors_msat: int = 0) -> str:
    """What the run moved, in a sentence: measured at the node, beside what the books say."""
    moved = sum(one.local_after_msat - one.local_before_msat for one in channels)
    fees, rewards = sum(one.fees_msat for one in channels), sum(one.rewards_msat for one in channels)
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
    for name in ("capacity", "ours", "theirs", "fees in", "rewards out", "net, newest last", "slots"):
        table.add_column(name, justify="right")
    for one in view.channels:
        flow = flows[one.node]
        table.add_row(
            one.node[:16], sat(one.capacity_msat), sat(one.local_msat), sat(one.remote_msat), sat(flow.fees_msat),
            sat(flow.rewards_msat), _nets([each.net_msat for each in flow.rounds[-3:]]),
            f"{one.slots_used}/{one.slots_used + one.slots_free}",
        )  # fmt: skip
    out.print(table)
    needed = f"A full next round takes up to {sat(view.needed_msat)} sat and {view.slots_needed} HTLC slots"
    out.print(f"{needed}; {sat(view.sendable_msat)} sat and {view.slots_free} are there.", soft_wrap=True)
    for who, warning in [("next round", view.warning), *((one.node[:16], one.warning) for one in view.channels)]:
        if warning:
            out.print(f"{who}: {warning}", style="yellow", soft_wrap=True)
