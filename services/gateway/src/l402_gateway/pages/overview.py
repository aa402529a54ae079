"""The page of the whole network: each block's words and its one picture, from one look. Pure."""

from typing import Final

import msgspec
from l402core.documents import Terms
from l402core.events import ChannelStanding, ChannelsView, LineupView, NodeFlow, OracleView, PeerLine, StatusView
from l402core.money import MSAT_PER_SAT, show_sat

from l402_gateway.pages import drawing, frame
from l402_gateway.pages.drawing import Column, Curve, Frame
from l402_gateway.pages.now import now
from l402_gateway.seeing import Part, Seen

CHART: Final = Frame(width=560, height=210, left=54, right=10, top=12, bottom=10)
FLOW: Final = Frame(width=560, height=210)
BAR: Final = 100
CHANNELS_SHOWN: Final = 40
NETS_SHOWN: Final = 3
ROUNDS_DRAWN: Final = 48

STATES: Final[dict[str, tuple[str, str]]] = {
    "opened": ("paid its fee", "wait"),
    "offered": ("has its offer", "wait"),
    "locking": ("reward being locked", "wait"),
    "locked": ("reward locked", "locked"),
    "uploaded": ("uploaded", "locked"),
    "scored": ("decided, settling", "locked"),
    "failed": ("fell through", "bad"),
    "owed": ("decided, owed", "wait"),
    "due": ("owed, new offer asked", "wait"),
    "reoffered": ("owed, offered again", "wait"),
    "relocking": ("owed, being locked", "wait"),
    "relocked": ("owed, locked", "locked"),
    "ended": ("over", "wait"),
}
"""An escrow's state in plain words, and the kind of its dot."""
VERDICTS: Final = {
    "accepted": ("accepted", "good"),
    "rejected": ("rejected", "bad"),
    "unscored": ("not judged", "wait"),
}
WORKS: Final = {
    "gateway": "takes requests, sells places",
    "invoicer": "makes fee invoices, locks rewards",
    "settler": "keeps the books",
    "attestor": "decides and reveals",
    "worker": "measures gradients",
}


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """How the model gets better."""

    first: int
    last: int
    from_round: int
    to_round: int
    curve: Curve


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """What came in and went out."""

    in_msat: int
    out_msat: int
    columns: tuple[Column, ...]
    zero: float
    titles: tuple[str, ...]
    from_round: int
    to_round: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """One part in a line."""

    name: str
    works: str
    kind: str
    """good or bad, for the dot; the words say it too."""
    says: str


def page(seen: Seen, terms: Terms | None) -> bytes:
    """Everything that is to be had, in its order."""
    status, view = seen.status, seen.round
    return frame.rendered(
        "overview.html",
        seen=seen,
        now=now(view, terms, now_ms=seen.now_ms) if view and terms else None,
        terms=terms,
        loss=loss(seen.oracle) if seen.oracle else None,
        money=money(status) if status else None,
        status=status,
        groups=[group for group in (seen.lineup, seen.before) if group is not None and group.submissions],
        states=STATES,
        verdicts=VERDICTS,
        peers=status.peers if status else (),
        widest_msat=max((abs(net(one)) for one in status.peers), default=0) if status else 0,
        net=net,
        plan=seen.oracle.plan if seen.oracle else None,
        channels=seen.channels,
        channel_rows=channel_rows(seen.channels) if seen.channels else (),
        health=tuple(health(part) for part in seen.parts),
        share=drawing.share,
        chart=CHART,
        bar=BAR,
    )


def loss(view: OracleView) -> Loss | None:
    """From the first checkpoint that is told to the newest."""
    told = view.checkpoints
    if not told:
        return None
    return Loss(
        first=told[0].held_out, last=told[-1].held_out, from_round=told[0].round - 1, to_round=told[-1].round - 1,
        curve=drawing.curve([one.held_out for one in told], CHART, scale=frame.NANO),
    )  # fmt: skip


def money(status: StatusView) -> Money:
    """Up what fees and sponsors brought, down what rewards took, round by round."""
    rounds = status.rounds[-ROUNDS_DRAWN:]
    columns, zero = drawing.columns(
        [((one.fees_msat, one.sponsored_msat), one.rewards_msat) for one in rounds], FLOW
    )  # fmt: skip
    titles = tuple(
        f"Round {one.round}: {show_sat(one.fees_msat)} in fees, {show_sat(one.sponsored_msat)} from a sponsor, "
        f"{show_sat(one.rewards_msat)} out in rewards"
        for one in rounds
    )
    return Money(
        in_msat=status.fees_msat + status.sponsored_msat, out_msat=status.rewards_msat, columns=columns, zero=zero,
        titles=titles, from_round=rounds[0].round if rounds else 0, to_round=rounds[-1].round if rounds else 0,
    )  # fmt: skip


def net(one: PeerLine) -> int:
    """What a peer has after its fees."""
    return one.rewards_msat - one.fees_msat


def channel_rows(view: ChannelsView) -> tuple[tuple[ChannelStanding, str], ...]:
    """The widest channels, each with what flowed to and from its node."""
    flows = {flow.node: flow for flow in view.flows}
    told = []
    for one in view.channels[:CHANNELS_SHOWN]:
        flow = flows.get(one.node)
        told.append((one, _flowed(flow) if flow else "nothing"))
    return tuple(told)


def _flowed(flow: NodeFlow) -> str:
    """Both sums, and what the last rounds left with the coordinator, the newest last."""
    both = f"{show_sat(flow.fees_msat)} in fees, {show_sat(flow.rewards_msat)} out in rewards"
    nets = " ".join(f"{one.net_msat / MSAT_PER_SAT:+,.0f}" for one in flow.rounds[-NETS_SHOWN:])
    return f"{both}; net by round {nets}" if nets else both


def health(part: Part) -> Health:
    """In a word: ready, not ready and why, or silent."""
    works = WORKS.get(part.name, "")
    if part.needs is None:
        return Health(name=part.name, works=works, kind="bad", says="silent")
    missing = [name.replace("_", " ") for name, fine in part.needs.items() if not fine]
    if missing:
        return Health(name=part.name, works=works, kind="bad", says=f"not ready: {', '.join(missing)}")
    return Health(name=part.name, works=works, kind="good", says="ready")


def title_of(group: LineupView, current: int) -> str:
    """A round's name on the page."""
    return "This round" if group.round == current else f"Round {group.round}"
