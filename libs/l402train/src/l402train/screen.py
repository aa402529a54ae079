"""What a person sees while a network runs: progress, tables, a waterfall, the books. It decides nothing."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from l402train.facts import Facts
from l402train.lives import Life
from l402train.report import LedgerReport, RoundReport, SubmissionReport, by_number
from l402train.spans import Waterfall

WIDTH = 100
"""Every table fits into so many columns."""
BAR_WIDTHS = range(14, 41)
COLORS = {
    "peer-agent": "cyan",
    "gateway": "magenta",
    "settler": "green",
    "invoicer": "yellow",
    "oracle": "blue",
}


def console(*, color: bool = True, to_stderr: bool = False) -> Console:
    """Where everything is drawn. Without a terminal, plain lines of a width that holds the tables."""
    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else WIDTH
    return Console(file=stream, no_color=not color or None, highlight=False, width=width)


def show_json(out: Console, told: object) -> None:
    """One document, in place of text."""
    out.print_json(msgspec.json.encode(told).decode())


def sat(msat: int) -> str:
    """Satoshi with thousands; the millisatoshi only where there are any."""
    return f"{msat // 1000:,}" if msat % 1000 == 0 else f"{msat / 1000:,.3f}"


class Progress:
    """One line that moves on a terminal; a line per phase elsewhere."""

    def __init__(self, out: Console, rounds: int) -> None:
        self._out = out
        self._rounds = rounds
        self._said = ""
        self._since = time.monotonic()
        self._live: Live | None = None

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Inside the block the line moves."""
        if not self._out.is_terminal:
            yield
            return
        with Live(console=self._out, refresh_per_second=8, transient=True) as self._live:
            yield
        self._live = None

    def show(self, facts: Facts, age_s: float) -> None:
        """The line for what is known now."""
        round_ = facts.current()
        if round_ is None:
            where, details = "waiting for the first checkpoint", ""
        else:
            mine = facts.of_round(round_.number)
            counts = {
                "paid": len(mine),
                "locked": sum(one.locked for one in mine),
                "uploaded": sum(one.uploaded for one in mine),
                "scored": sum(one.receipt is not None for one in mine),
            }
            where = f"round {round_.number}/{self._rounds or '∞'} · {round_.phase}"
            details = " · ".join(f"{count} {what}" for what, count in counts.items() if count)
        if where != self._said:
            self._said, self._since = where, time.monotonic()
            if self._live is None:
                self._out.print(f"  {age_s:6.1f} s  {where}")
        if self._live is not None:
            line = f" {where}  {time.monotonic() - self._since:4.1f} s   {details}   [{age_s:.0f} s in all]"
            self._live.update(Spinner("dots", text=Text(line)))


def round_table(report: RoundReport) -> Table:
    """Who paid what for what, and why in short; amounts in satoshi."""
    table = lined(_title(report))
    for name in ("peer", "kind"):
        table.add_column(name, no_wrap=True)
    for name in ("fee", "locked", "score ± 3 SE", "reward"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("why")
    for one in report.submissions:
        table.add_row(
            one.peer[:16],
            one.kind,
            sat(one.fee_msat),
            sat(one.locked_msat),
            score(one),
            Text(sat(one.reward_msat), style="bold green" if one.reward_msat else "dim"),
            one.verdict,
            in_short(one),
        )
    return table


def lined(title: str) -> Table:
    """Rows below one line, without a frame: room for words."""
    return Table(
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def in_short(one: SubmissionReport) -> str:
    """The first reason up to its figures, which are in the page and in the report."""
    if not one.reasons:
        return "-"
    return re.split(r": | \(|[.,;]( |$)", one.reasons[0], maxsplit=1)[0]


def score(one: SubmissionReport) -> str:
    """Score and half of its interval, in nats per token."""
    if one.score is None or one.interval is None:
        return "-"
    low, high = one.interval
    return f"{one.score:+.4f} ± {(high - low) / 2:.4f}"


def _title(report: RoundReport) -> str:
    if report.loss_before is None or report.loss_after is None:
        return f"Round {report.round}"
    loss = f"{report.loss_before:.4f} → {report.loss_after:.4f}"
    return f"Round {report.round}: held-out loss {loss} nats per byte; amounts in satoshi"


def totals_table(rounds: tuple[RoundReport, ...]) -> Table:
    """What the run came to for each peer."""
    table = lined("Over the run, in satoshi")
    table.add_column("peer")
    table.add_column("kind")
    for name in ("submitted", "fees", "rewards", "net"):
        table.add_column(name, justify="right")
    for (peer, kind), mine in by_peer(rounds).items():
        fees, rewards = sum(one.fee_msat for one in mine), sum(one.reward_msat for one in mine)
        net = Text(sat(rewards - fees), style="green" if rewards > fees else "red")
        table.add_row(peer[:16], kind, str(len(mine)), sat(fees), sat(rewards), net)
    return table


def by_peer(rounds: tuple[RoundReport, ...]) -> dict[tuple[str, str], list[SubmissionReport]]:
    """Submissions by (peer, kind), in order of the names."""
    sorted_: dict[tuple[str, str], list[SubmissionReport]] = {}
    everything = [one for round_ in rounds for one in round_.submissions]
    for one in sorted(everything, key=lambda one: by_number(one.peer)):
        sorted_.setdefault((one.peer, one.kind), []).append(one)
    return sorted_


def ledger_table(ledger: LedgerReport) -> Table:
    """The trial balance."""
    table = lined("Trial balance, in satoshi")
    table.show_footer = True
    even = ledger.debits_msat == ledger.credits_msat
    table.add_column("account", footer="sum: debits = credits" if even else "NOT BALANCED")
    table.add_column("debits", justify="right", footer=sat(ledger.debits_msat))
    table.add_column("credits", justify="right", footer=sat(ledger.credits_msat))
    table.add_column("pending", justify="right", footer=f"{ledger.open_escrows} open")
    for name, account in ledger.accounts.items():
        pending = account.pending_debits_msat + account.pending_credits_msat
        table.add_row(
            account_name(name), sat(account.debits_msat), sat(account.credits_msat), sat(pending) if pending else "-"
        )
    return table


def account_name(name: str) -> str:
    """An account's name with no more of a public key than tells it from others."""
    return name if len(name) < 40 else f"{name[:24]}…"


def life_table(life: Life, *, width: int = WIDTH) -> Table:
    """One payment's life in plain words, step after step."""
    title = f"\nTrace {life.trace_id}: {len(life.moments)} steps, {life.spans} spans in all"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    bar_width = _bar_width(width, taken=86)
    table.add_column("at s", justify="right", no_wrap=True)
    for name in ("what happens", "service", "span"):
        table.add_column(name, no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column(f"0 … {life.total_ms / 1000:.1f} s", no_wrap=True)
    for one in life.moments:
        color = COLORS.get(one.service, "white")
        times = f" x{len(one.pieces)}" if len(one.pieces) > 1 else ""
        table.add_row(
            f"{one.start_ms / 1000:.2f}",
            Text(one.what, style="red" if one.failed else ""),
            Text(one.service, style=color),
            one.span + times,
            f"{one.busy_ms:.1f}" if one.busy_ms < 100 else f"{one.busy_ms:.0f}",
            Text(_bar(one.pieces, life.total_ms, bar_width), style=color),
        )
    return table


def waterfall_table(waterfall: Waterfall, *, width: int = WIDTH) -> Table:
    """Every span of a trace as a bar, children below their parent."""
    title = f"\nTrace {waterfall.trace_id}: {waterfall.spans} spans"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    bar_width = _bar_width(width, taken=68)
    table.add_column("service", no_wrap=True)
    table.add_column("span", no_wrap=True, max_width=44, overflow="ellipsis")
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column(f"0 … {waterfall.total_ms / 1000:.1f} s", no_wrap=True)
    for bar in waterfall.bars:
        color = COLORS.get(bar.service, "white")
        name = "  " * min(bar.depth, 6) + bar.name
        drawn = Text(_bar(((bar.start_ms, bar.length_ms),), waterfall.total_ms, bar_width), style=color)
        table.add_row(
            Text(bar.service, style=color), Text(name, style="red" if bar.failed else ""), f"{bar.length_ms:.1f}", drawn
        )
    if waterfall.hidden:
        table.add_row("", f"… {waterfall.hidden} shorter spans", "", "")
    return table


def _bar_width(width: int, *, taken: int) -> int:
    return max(BAR_WIDTHS[0], min(width - taken, BAR_WIDTHS[-1]))


def _bar(pieces: tuple[tuple[float, float], ...], total_ms: float, width: int) -> str:
    scale = width / (total_ms or 1.0)
    drawn = [" "] * width
    for start_ms, length_ms in pieces:
        begin = min(int(start_ms * scale), width - 1)
        length = max(1, min(round(length_ms * scale), width - begin))
        drawn[begin : begin + length] = "━" * length
    return "".join(drawn).rstrip()


def set_up_lines(set_up_s: dict[str, float], first_paid_s: float | None) -> str:
    """How long everything took until the first gradient was paid for."""
    lines = [f"  {seconds:6.1f} s  {step}" for step, seconds in set_up_s.items()]
    if first_paid_s is not None:
        lines.append(f"  {first_paid_s:6.1f} s  first paid gradient")
    return "\n".join(["", "From start to:", *lines])


def places(lines: dict[str, Path]) -> str:
    """Where everything lies."""
    return "\n".join(["", "Where everything lies:", *(f"  {what:<12} {path}" for what, path in lines.items())])
