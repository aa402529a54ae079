"""Finding the cheapest route backwards from the payee. Pure: it reads balances and moves nothing."""

import heapq
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from lndsim.channel import Channel
from lndsim.payment import BLOCK_PADDING, FailureReason, Hop, Terms

BASE_FEE_MSAT = 1_000
FEE_RATE_PPM = 1
TIME_LOCK_DELTA = 80
"""LND's default forwarding policy."""
MAX_HOPS = 20


class Graph(Protocol):
    """What routing reads of a network."""

    def channels_of(self, node: str) -> Iterable[Channel]:
        """Usable channels of a node: open, and both ends there."""
        ...

    def channels_between(self, node: str, peer: str) -> Iterable[Channel]:
        """Those of them that lead to `peer`, however many others there are."""
        ...


class NoRoute(Exception):
    """Nothing carries this payment; `reason` is what LND would put into the payment."""

    def __init__(self, reason: FailureReason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class _Leg(msgspec.Struct, frozen=True):
    """The best known way from a node to the payee: what must arrive there, and over which channel it leaves."""

    arrives_msat: int
    delta: int
    hops: int
    channel: Channel | None
    towards: "_Leg | None"


def forwarding_fee_msat(amount_msat: int) -> int:
    """What a node charges for forwarding `amount_msat`."""
    return BASE_FEE_MSAT + amount_msat * FEE_RATE_PPM // 1_000_000


def find_route(graph: Graph, payer: str, terms: Terms, height: int) -> list[Hop]:
    """The cheapest route within the fee and time-lock limits. Raises NoRoute with LND's reason."""
    final_delta = terms.final_cltv_delta + BLOCK_PADDING
    leg = _direct(graph, payer, terms, final_delta)
    if leg is None:
        own = [channel for channel in graph.channels_of(payer) if _allowed(channel, terms)]
        if sum(channel.bandwidth_msat(payer) for channel in own) < terms.amount_msat:
            raise NoRoute(FailureReason.INSUFFICIENT_BALANCE)
        leg = _search(graph, payer, own, terms, final_delta)
    if leg is None:
        raise NoRoute(FailureReason.NO_ROUTE)
    return _hops(leg, payer, height)


def _allowed(channel: Channel, terms: Terms) -> bool:
    return not terms.outgoing_channels or channel.channel_id in terms.outgoing_channels


def _direct(graph: Graph, payer: str, terms: Terms, final_delta: int) -> _Leg | None:
    """One hop costs nothing, so nothing is cheaper."""
    end = _Leg(terms.amount_msat, final_delta, 0, None, None)
    for channel in graph.channels_between(payer, terms.target):
        if _allowed(channel, terms) and channel.carries(payer, terms.amount_msat):
            return _Leg(terms.amount_msat, final_delta, 1, channel, end)
    return None


def _search(graph: Graph, payer: str, own: list[Channel], terms: Terms, final_delta: int) -> _Leg | None:
    """Dijkstra from the payee; the first hop is ours and free, every other one charges its fee and time lock."""
    fee_ceiling = terms.amount_msat + terms.fee_limit_msat
    first_hops: dict[str, list[Channel]] = {}
    for channel in own:
        first_hops.setdefault(channel.peer_of(payer), []).append(channel)
    queue = [(terms.amount_msat, final_delta, 0, 0, terms.target, _Leg(terms.amount_msat, final_delta, 0, None, None))]
    done: set[str] = set()
    pushed = 0
    while queue:
        *_, node, leg = heapq.heappop(queue)
        if node in done:
            continue
        done.add(node)
        whole = _first_hop(first_hops.get(node, []), payer, leg)
        if whole is not None:
            return whole
        if leg.hops + 1 >= MAX_HOPS:
            continue
        for step in _steps(graph, node, leg, payer, done.__contains__):
            if step.arrives_msat <= fee_ceiling and step.delta <= terms.cltv_limit and step.channel is not None:
                pushed += 1
                sender = step.channel.peer_of(node)
                heapq.heappush(queue, (step.arrives_msat, step.delta, step.hops, pushed, sender, step))
    return None


def _first_hop(channels: list[Channel], payer: str, leg: _Leg) -> _Leg | None:
    for channel in channels:
        if channel is not leg.channel and channel.carries(payer, leg.arrives_msat):
            return _Leg(leg.arrives_msat, leg.delta, leg.hops + 1, channel, leg)
    return None


def _steps(graph: Graph, node: str, leg: _Leg, payer: str, known: Callable[[str], bool]) -> Iterable[_Leg]:
    """All ways to reach `node` from a forwarding neighbour, with what must arrive at that neighbour."""
    arrives = leg.arrives_msat + forwarding_fee_msat(leg.arrives_msat)
    for channel in graph.channels_of(node):
        sender = channel.peer_of(node)
        if sender != payer and not known(sender) and channel.carries(sender, leg.arrives_msat):
            yield _Leg(arrives, leg.delta + TIME_LOCK_DELTA, leg.hops + 1, channel, leg)


def _hops(leg: _Leg, payer: str, height: int) -> list[Hop]:
    """The route as HTLCs, each with its amount and absolute expiry."""
    hops: list[Hop] = []
    sender = payer
    while leg.channel is not None and leg.towards is not None:
        onward = leg.towards
        hops.append(Hop(leg.channel, sender, onward.arrives_msat, height + onward.delta))
        sender = leg.channel.peer_of(sender)
        leg = onward
    return hops
