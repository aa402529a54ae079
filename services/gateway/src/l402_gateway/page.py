"""One small page for people: the current round and the channels. It needs no script and shows nothing that the reads do not."""

from html import escape

from l402core.documents import Terms
from l402core.events import ChannelStanding, ChannelsView, NodeFlow, RoundView
from l402core.money import show_sat

_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:46rem;padding:0 1rem}"
    "th,td{padding:.2rem 1.5rem .2rem 0;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "th{font-weight:400;opacity:.7;min-width:9rem;overflow-wrap:normal}code{font-size:.85em}a{color:inherit}"
    ".c th{min-width:0}svg{width:100%;height:auto}"
)
_PHASES = {
    "commit": "peers train, pay their fee and have their reward locked",
    "upload": "peers whose reward is locked upload their gradients",
    "judge": "the oracle measures the gradients and decides what each earned",
    "done": "over",
}


CHANNELS_SHOWN = 50


def of_round(view: RoundView, terms: Terms, channels: ChannelsView | None = None, *, now_ms: int) -> str:
    """The page of a round, and of the channels where they are shown."""
    phase = f"{view.phase}: {_PHASES[view.phase]}" if view.phase in _PHASES else view.phase
    sold = (
        "yes" if view.available and view.phase == "commit" else f"no: {view.unavailable_reason or 'not in this phase'}"
    )
    rows = {
        "round": str(view.round),
        "phase": phase,
        "submissions close": _left(terms.commit_until_ms, now_ms),
        "can be bought now": sold,
        "fee": show_sat(terms.fee_msat),
        "reward": f"up to {show_sat(terms.ladder_msat())}, locked before the upload",
        "sponsor": _sponsor(terms),
        "places": f"{view.places_left} of {terms.places} left",
        "submissions": f"{view.opened} opened, {view.uploaded} uploaded, {view.scored} scored",
    }
    hashes = {"model": terms.model_id, "checkpoint": terms.checkpoint.sha256, "terms": terms.digest()}
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
    cells += "".join(
        f"<tr><th>{escape(name)}</th><td><code>{escape(value)}</code></td></tr>" for name, value in hashes.items()
    )
    shown = _channels(channels) if channels else ""
    return document(
        "<p>A training network in which every gradient is paid for, both ways, over Lightning.</p>"
        f"<table>{cells}</table>{shown}<p><a href='/.well-known/l402.json'>What is sold here, for programs</a></p>"
    )


def _sponsor(terms: Terms) -> str:
    tranche = terms.tranche
    if tranche is None:
        return "none: the treasury pays"
    worth = f"if the new checkpoint is better by {tranche.margin / 1e9:.4f} nats per token"
    return f"pays {show_sat(tranche.amount_msat)} {worth}; it waits locked, and else goes back"


def nothing(detail: str) -> str:
    """The page while there is no round to show."""
    return document(f"<p>{escape(detail)}</p>")


def _channels(view: ChannelsView) -> str:
    flows = {flow.node: flow for flow in view.flows}
    shown = view.channels[:CHANNELS_SHOWN]
    head = "".join(
        f"<th>{name}</th>" for name in ("channel with", "ours", "theirs", "HTLC slots", "flow with its node")
    )
    rows = "".join(_channel(one, flows.get(one.node)) for one in shown)
    more = f"<p>and {len(view.channels) - len(shown)} more</p>" if len(view.channels) > len(shown) else ""
    others = f"<p>With nodes behind others: {escape(_flow(flows['']))}.</p>" if "" in flows else ""
    need = (
        f"A full next round takes up to {show_sat(view.needed_msat)} and {view.slots_needed} HTLC slots; "
        f"{show_sat(view.sendable_msat)} and {view.slots_free} are there."
    )
    warning = f"<p><strong>{escape(view.warning)}</strong></p>" if view.warning else ""
    return f"<h2>Channels</h2><p>{need}</p>{warning}<table class='c'><tr>{head}</tr>{rows}</table>{more}{others}"


def _channel(one: ChannelStanding, flow: NodeFlow | None) -> str:
    warning = f"<br><strong>{escape(one.warning)}</strong>" if one.warning else ""
    cells = (
        f"<code>{escape(one.node[:16])}…</code>{warning}",
        f"{show_sat(one.local_msat)} of {show_sat(one.capacity_msat)}",
        show_sat(one.remote_msat),
        f"{one.slots_used} used, {one.slots_free} free",
        escape(_flow(flow)) if flow else "nothing",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _flow(flow: NodeFlow) -> str:
    latest = flow.rounds[-1] if flow.rounds else None
    net = f"; round {latest.round}: net {show_sat(latest.fees_msat - latest.rewards_msat)}" if latest else ""
    return f"{show_sat(flow.fees_msat)} in fees, {show_sat(flow.rewards_msat)} out in rewards{net}"


def _left(until_ms: int, now_ms: int) -> str:
    seconds = (until_ms - now_ms) / 1_000
    return f"in {seconds:.0f} s" if seconds > 0 else "they have closed"


def document(content: str) -> str:
    """A whole page around its content."""
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>l402-train</title><style>{_STYLE}</style><h1>l402-train</h1>{content}</html>"
    )
