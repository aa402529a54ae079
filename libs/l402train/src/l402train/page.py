"""The run as one HTML page that needs nothing else: styles, picture and waterfall are inside it."""

import base64
from html import escape

from l402train.report import LedgerReport, Report, RoundReport
from l402train.screen import by_peer, sat, score
from l402train.spans import Waterfall

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
.trace td { border: 0; padding: .05rem .4rem; font-size: .85rem } .trace td.s { white-space: nowrap }
.track { position: relative; min-width: 12rem; height: 1.1em } .track i { position: absolute; top: .25em; height: .6em;
  min-width: 2px; border-radius: 2px }
"""


def render(report: Report, picture: bytes, waterfall: Waterfall | None, *, faults: list[str]) -> str:
    """The whole page."""
    body = [
        "<h1>A training run in which every gradient was paid for</h1>",
        f"<p>{escape(_summary(report))}</p>",
        *(f'<p class="bad">{escape(fault)}</p>' for fault in faults),
        _figure(picture),
        "<h2>Over the run</h2>",
        _totals(report.rounds),
        *(_round(round_) for round_ in report.rounds),
        "<h2>Trial balance</h2>",
        _ledger(report.ledger),
        _trace(waterfall) if waterfall else "",
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
    return (
        f"{len(report.rounds)} rounds on {parts.nats}, {parts.redis}, {parts.database} and {parts.lightning}. "
        "Amounts are in satoshi; a score is the drop in loss on hidden text, in nats per byte, with 3 standard errors."
    )


def _figure(picture: bytes) -> str:
    encoded = base64.b64encode(picture).decode()
    return (
        f'<figure><img src="data:image/png;base64,{encoded}" alt="Held-out loss by round, and rewards paid to each peer">'
        "<figcaption>The model gets better; who made it better was paid.</figcaption></figure>"
    )


def _table(head: list[str], rows: list[list[str]], *, numbers: set[int], foot: list[str] | None = None) -> str:
    def line(cells: list[str], tag: str) -> str:
        inside = "".join(f"<{tag}{' class=n' if i in numbers else ''}>{cell}</{tag}>" for i, cell in enumerate(cells))
        return f"<tr>{inside}</tr>"

    body = "".join(line(row, "td") for row in rows)
    end = f"<tfoot>{line(foot, 'th')}</tfoot>" if foot else ""
    return f'<div class="wide"><table><thead>{line(head, "th")}</thead><tbody>{body}</tbody>{end}</table></div>'


def _totals(rounds: tuple[RoundReport, ...]) -> str:
    rows = []
    for (peer, kind), mine in by_peer(rounds).items():
        fees, rewards = sum(one.fee_msat for one in mine), sum(one.reward_msat for one in mine)
        net = f'<span class="{"good" if rewards > fees else "bad"}">{sat(rewards - fees)}</span>'
        rows.append([escape(peer[:16]), escape(kind), str(len(mine)), sat(fees), sat(rewards), net])
    return _table(["peer", "kind", "submitted", "fees", "rewards", "net"], rows, numbers={2, 3, 4, 5})


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
    head = ["peer", "kind", "fee", "locked", "score", "reward", "verdict and reason"]
    return f"<h2>Round {report.round}{loss}</h2>" + _table(head, rows, numbers={2, 3, 4, 5})


def _ledger(ledger: LedgerReport) -> str:
    rows = [
        [
            f"<code>{escape(name)}</code>",
            sat(account.debits_msat),
            sat(account.credits_msat),
            sat(account.pending_debits_msat + account.pending_credits_msat),
        ]
        for name, account in ledger.accounts.items()
    ]
    foot = ["all", sat(ledger.debits_msat), sat(ledger.credits_msat), f"{ledger.open_escrows} open"]
    return _table(["account", "debits", "credits", "pending"], rows, numbers={1, 2, 3}, foot=foot)


def _trace(waterfall: Waterfall) -> str:
    total = waterfall.total_ms or 1.0
    rows = "".join(
        f'<tr><td class="s" style="color:var(--{escape(bar.service)})">{escape(bar.service)}</td>'
        f'<td class="s" style="padding-left:{0.4 + 0.7 * min(bar.depth, 8):.1f}rem">{escape(bar.name)}</td>'
        f'<td class="n">{bar.length_ms:.1f}</td><td><div class="track"><i style="left:{100 * bar.start_ms / total:.2f}%;'
        f'width:{100 * bar.length_ms / total:.2f}%;background:var(--{escape(bar.service)},var(--soft))"></i></div></td></tr>'
        for bar in waterfall.bars
    )
    hidden = f"; {waterfall.hidden} shorter spans are not shown" if waterfall.hidden else ""
    return (
        "<h2>One payment's whole life</h2>"
        f"<p>Trace <code>{waterfall.trace_id}</code>: {waterfall.spans} spans over {total / 1000:.1f} s in "
        f"{escape(', '.join(waterfall.services))}{hidden}. Lengths in milliseconds.</p>"
        f'<div class="wide"><table class="trace"><tbody>{rows}</tbody></table></div>'
    )
