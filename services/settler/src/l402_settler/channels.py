"""The coordinator's channels for people: balances, flow, and a warning before they run short. It only looks."""

from collections.abc import Iterable
from typing import Protocol

import msgspec
from l402core.documents import LADDER
from l402core.events import ChannelStanding, ChannelsView, NodeFlow, ReadChannels
from l402core.lnd.fitness import slots_free
from l402core.lnd.port import ChannelView
from l402core.money import show_sat

from l402_settler import flow
from l402_settler.config import Config
from l402_settler.office import Office

CHANNELS_TOLD = 500
"""The widest ones; an answer has to fit into one message."""


class Node(Protocol):
    """What is needed of our node."""

    async def channels(self) -> list[ChannelView]: ...


class Channels:
    """Answers with what the node says now, beside what the books say."""

    def __init__(self, office: Office, node: Node) -> None:
        self._office = office
        self._node = node
        self._over = flow.Flows()

    async def read(self, _question: ReadChannels) -> ChannelsView:
        """Every channel with its flow. Raises Unavailable, Unauthorized where the node does not tell."""
        channels = await self._node.channels()
        over = self._over
        self._over, nodes = await self._office.database.read(lambda tx: flow.read(tx, over))
        return view(channels, nodes, self._office.config, now_ms=self._office.now_ms())


def view(channels: list[ChannelView], nodes: dict[str, NodeFlow], config: Config, *, now_ms: int) -> ChannelsView:
    """The answer, from what the node and the books say."""
    told = sorted(channels, key=lambda one: (-one.capacity_msat, one.channel_id))[:CHANNELS_TOLD]
    standings = tuple(_standing(one, nodes.get(one.remote_pubkey), config) for one in told)
    active = [one for one in channels if one.active]
    sendable_msat = sum(one.sendable_msat for one in active)
    free = sum(slots_free(one, config.slots_per_channel) for one in active)
    needed_msat, slots_needed = config.places * config.routed_ladder_msat(), config.places * len(LADDER)
    return ChannelsView(
        at_ms=now_ms,
        channels=standings,
        flows=_flows([one.node for one in standings], nodes),
        sendable_msat=sendable_msat,
        needed_msat=needed_msat,
        slots_free=free,
        slots_needed=slots_needed,
        warning=_short(sendable_msat, needed_msat, free, slots_needed),
    )


def _standing(channel: ChannelView, known: NodeFlow | None, config: Config) -> ChannelStanding:
    return ChannelStanding(
        channel_id=str(channel.channel_id),
        node=channel.remote_pubkey,
        active=channel.active,
        capacity_msat=channel.capacity_msat,
        local_msat=channel.local_msat,
        remote_msat=channel.remote_msat,
        reserve_msat=channel.reserve_msat,
        slots_used=channel.pending_out,
        slots_free=slots_free(channel, config.slots_per_channel),
        needed_msat=_needed_msat(known, config),
        warning=_channel_short(channel, known, config),
    )


def _needed_msat(known: NodeFlow | None, config: Config) -> int:
    """The next round may take as much as the dearest of the last ones did, and then a ladder must still fit."""
    return _dearest_msat(known) + config.routed_ladder_msat()


def _dearest_msat(known: NodeFlow | None) -> int:
    """What the dearest of the last rounds took from us net."""
    return max(0, *(-one.net_msat for one in known.rounds)) if known and known.rounds else 0


def _channel_short(channel: ChannelView, known: NodeFlow | None, config: Config) -> str:
    """Said one round ahead."""
    if not channel.active:
        return "it is not active"
    free = slots_free(channel, config.slots_per_channel)
    if free < len(LADDER):
        return f"{free} HTLC slots are free, and a ladder takes {len(LADDER)}"
    ladder_msat = config.routed_ladder_msat()
    left_msat = channel.sendable_msat - _dearest_msat(known)
    if channel.sendable_msat < ladder_msat:
        return f"{show_sat(channel.sendable_msat)} can be sent, and a ladder takes up to {show_sat(ladder_msat)}"
    if left_msat < ladder_msat:
        return (
            f"another round like its dearest leaves {show_sat(left_msat)} to send, "
            f"and a ladder takes up to {show_sat(ladder_msat)}"
        )
    return ""


def _short(sendable_msat: int, needed_msat: int, free: int, slots_needed: int) -> str:
    if sendable_msat < needed_msat:
        return (
            f"{show_sat(sendable_msat)} can be sent, and a full next round takes up to {show_sat(needed_msat)}: "
            "open a channel or bring money back into one"
        )
    if free < slots_needed:
        return f"{free} HTLC slots are free, and a full next round takes {slots_needed}: open a channel"
    return ""


def _flows(reached: Iterable[str], nodes: dict[str, NodeFlow]) -> tuple[NodeFlow, ...]:
    direct = dict.fromkeys(reached)
    none = NodeFlow(node="", fees_msat=0, rewards_msat=0, rounds=())
    others = [one for node, one in nodes.items() if node not in direct]
    mine = tuple(nodes.get(node) or msgspec.structs.replace(none, node=node) for node in direct)
    return (*mine, flow.together("", others)) if others else mine
