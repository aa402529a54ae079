"""The run as one HTML page that needs nothing else: styles, picture and all figures are inside it."""

import base64
from html import escape

from l402train import channel_tables, sponsored
from l402train.lives import Life, Moment
from l402train.report import LedgerReport, Report, RoundReport, sponsors_msat
from l402train.screen import account_name, by_peer, sat, score

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #57606a; --line: #d9dee3; --good: #1a7f37;
  --bad: #cf222e; --peer-agent: #0891b2; --gateway: #a21caf; --settler: #15803d; --invoicer: #b45309; --oracle: #1d4ed8 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --soft: #9198a1; --line: #30363d;
  --good: #3fb950; --bad: #f85149; --peer-agent: #22d3ee; --gateway: #e879f9; --settler: #4ade80; --invoicer: #fbbf24;
  --oracle: #60a5fa } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 70rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper) }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem } p, figcaption { color: var(--soft) }
figure { margin: 1rem 0 } img { width: 100%; height: auto; border-radius: .4rem; background: #fff }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th { color: var(--soft); font-weight: 600 } .n { text-align: right; white-space: nowrap }
.good { color: var(--good); font-weight: 600 } .bad { color: var(--bad); font-weight: 600 }
code { font: .85em ui-monospace, monospace; overflow-wrap: anywhere }
td:first-child { white-space: nowrap } .lines td, .lines th { white-space: nowrap }
.trace td, .trace th { padding: .1rem .5rem; font-size: .85rem; white-space: nowrap } .trace td { border: 0 }
.track { position: relative; min-width: 12rem; height: 1.1em } .track i { position: absolute; top: .25em; height: .6em;
  min-width: 3px; border-radius: 2px }
@media (max-width: 40rem) { h1 { font-size: 1.25rem } th, td { padding: .3rem .3rem } td, th { font-size: .9rem }
  .round thead { display: none } .round tr { display: grid; grid-template-columns: 4.5rem 1fr auto; padding: .3rem 0;
  border-bottom: 1px solid var(--line) } .round td { border: 0; padding: .05rem .3rem }
  .round td:nth-child(3), .round td:nth-child(4), .totals :is(td, th):nth-child(3) { display: none }
  .round td:nth-child(6) { grid-area: 1 / 3 } .round td:nth-child(6)::after { content: " sat" }
  .round td:nth-child(5) { grid-area: 2 / 1 / 2 / 4; text-align: left } .round td:last-child { grid-area: 3 / 1 / 3 / 4 }
  .round td:nth-child(5)::before { content: "score " } figure { overflow-x: auto } img { min-width: 36rem } }
"""


def render(report: Report, picture: bytes, life: Life | None, *, faults: list[str]) -> str:
    """The whole page."""
    body = [
        "<h1>A training run in which every gradient was paid for</h1>",
        f"<p>{escape(_summary(report))}</p>",
        *(f'<p class="bad">{escape(fault)}</p>' for fault in faults),
        _figure(picture),
        "<h2>Over the run</h2>",
        _totals(report.rounds),
        f"<p>{escape(sponsored.totals(report.rounds))}</p>",
        *(_round(round_) for round_ in report.rounds),
        _channels(report) if report.channels else "",
        "<h2>Trial balance</h2>",
        _ledger(report.ledger),
        _trace(life) if life else "",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>l402-train: a run</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _summary(report: Report) -> str:
    parts = report.parts
    count = f"{len(report.rounds)} round{'s' if len(report.rounds) != 1 else ''}"
    return (
        f"{count} on {parts.nats}, {parts.redis}, {parts.database} and {parts.lightning}. Amounts are in satoshi. "
        "A score is how far the gradient lowers the loss on hidden text, in nats per byte (here a token is a byte), "
        "± 3 standard errors."
    )


def _figure(picture: bytes) -> str:
    encoded = base64.b64encode(picture).decode()
    told = "Held-out loss by round, and what each peer earned after its fees"
    return (
        f'<figure><img src="data:image/png;base64,{encoded}" alt="{told}">'
        "<figcaption>The model gets better; who made it better earned more than its fees.</figcaption></figure>"
    )


def _table(
    head: list[str], rows: list[list[str]], *, numbers: set[int], foot: list[str] | None = None, kind: str = "lines"
) -> str:
    def line(cells: list[str], tag: str) -> str:
        inside = "".join(f"<{tag}{' class=n' if i in numbers else ''}>{cell}</{tag}>" for i, cell in enumerate(cells))
        return f"<tr>{inside}</tr>"

    body = "".join(line(row, "td") for row in rows)
    end = f"<tfoot>{line(foot, 'th')}</tfoot>" if foot else ""
    return f'<div class="wide"><table class="{kind}"><thead>{line(head, "th")}</thead><tbody>{body}</tbody>{end}</table></div>'


def _totals(rounds: tuple[RoundReport, ...]) -> str:
    rows = []
    for (peer, kind), mine in by_peer(rounds).items():
        fees, rewards = sum(one.fee_msat for one in mine), sum(one.reward_msat for one in mine)
        net = f'<span class="{"good" if rewards > fees else "bad"}">{sat(rewards - fees)}</span>'
        rows.append([escape(peer[:16]), escape(kind), str(len(mine)), sat(fees), sat(rewards), net])
    return _table(
        ["peer", "kind", "submitted", "fees", "rewards", "net"], rows, numbers={2, 3, 4, 5}, kind="lines totals"
    )


def _round(report: RoundReport) -> str:
    loss = ""
    if report.loss_before is not None and report.loss_after is not None:
        loss = f": held-out loss {report.loss_before:.4f} → {report.loss_after:.4f}"
    rows = [
        [
            escape(one.peer[:16]),
            escape(one.kind),
            sat(one.fee_msat),
            sat(one.locked_msat),
            score(one),
            f'<span class="{"good" if one.reward_msat else ""}">{sat(one.reward_msat)}</span>',
            f"{escape(one.verdict)}<br><small>{escape('; '.join(one.reasons))}</small>",
        ]
        for one in report.submissions
    ]
    head = ["peer", "kind", "fee", "locked", "score ± 3 SE", "reward", "verdict and reason"]
    told = f"<p>{escape(sponsored.line(report).strip())}</p>" if report.tranche else ""
    return f"<h2>Round {report.round}{loss}</h2>" + _table(head, rows, numbers={2, 3, 4, 5}, kind="round") + told


def _channels(report: Report) -> str:
    channels = report.channels
    rows = [[escape(one.peer[:16]), *map(escape, channel_tables.cells(one))] for one in channels]
    table = _table(
        ["with", *channel_tables.COLUMNS], rows, numbers=set(range(1, 1 + len(channel_tables.COLUMNS))),
        foot=["all", *channel_tables.sums_of(channels)],
    )  # fmt: skip
    warned = "".join(
        f'<p class="bad">{escape(one.peer[:16])}: {escape(one.warning)}</p>' for one in channels if one.warning
    )
    told = escape(channel_tables.rebalanced(channels, sponsors_msat(report.ledger)))
    need = ""
    if one := report.next_round:
        short = f'<p class="bad">{escape(one.warning)}</p>' if one.warning else ""
        need = f"<p>{escape(channel_tables.needs(one))}</p>{short}"
    return f"<h2>The coordinator's channels</h2><p>{told}</p>{table}{need}{warned}"


def _ledger(ledger: LedgerReport) -> str:
    rows = [
        [
            f'<code title="{escape(name)}">{escape(account_name(name))}</code>',
            sat(account.debits_msat),
            sat(account.credits_msat),
            sat(account.pending_debits_msat + account.pending_credits_msat),
        ]
        for name, account in ledger.accounts.items()
    ]
    foot = ["all", sat(ledger.debits_msat), sat(ledger.credits_msat), f"{ledger.open_escrows} open"]
    return _table(["account", "debits", "credits", "pending"], rows, numbers={1, 2, 3}, foot=foot)


def _trace(life: Life) -> str:
    total = life.total_ms or 1.0
    rows = "".join(
        f'<tr><td class="n">{one.start_ms / 1000:.2f}</td><td class="what">{escape(one.what)}</td>'
        f'<td style="color:var(--{escape(one.service)})">{escape(one.service)}</td><td><code>{escape(one.span)}</code>'
        f'{_times(one)}</td><td class="n">{one.busy_ms:.1f}</td><td><div class="track">{_track(one, total)}</div></td></tr>'
        for one in life.moments
    )
    return (
        "<h2>One payment's whole life</h2>"
        f"<p>{len(life.moments)} steps over {total / 1000:.1f} s, of {life.spans} spans in all; "
        f"<code>l402-train trace {escape(life.trace_id[:12])} --all</code> shows every one.</p>"
        '<div class="wide"><table class="trace"><thead><tr><th class="n">at s</th><th>what happens</th><th>service</th>'
        f'<th>span</th><th class="n">ms</th><th></th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _times(one: Moment) -> str:
    return f" x{len(one.pieces)}" if len(one.pieces) > 1 else ""


def _track(one: Moment, total_ms: float) -> str:
    return "".join(
        f'<i style="left:{min(100 * start / total_ms, 99):.2f}%;width:{100 * length / total_ms:.2f}%;'
        f'background:var(--{escape(one.service)},var(--soft))"></i>'
        for start, length in one.pieces
    )
