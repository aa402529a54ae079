"""`l402-train demo`: a whole run on this machine, watched while it happens, checked and told at the end."""

import asyncio
import sys
import time
from pathlib import Path

import msgspec
from rich.console import Console

from l402train import (
    auditing,
    books,
    channel_tables,
    channels,
    comparing,
    lives,
    page,
    picture,
    screen,
    spans,
    sponsored,
    stack,
)
from l402train import report as reports
from l402train.exits import Exit, Stop, stop_for
from l402train.facts import Facts
from l402train.folder import Folder
from l402train.lives import Life
from l402train.report import PartsReport, Report
from l402train.screen import Progress
from l402train.spans import FIVE
from l402train.stack import Network, Plan
from l402train.watch import watching

ROUND_LIMIT_S = 240
"""All deadlines of a round add up to less; a run that takes longer is stuck, and says so."""
SETTLE_LIMIT_S = 30.0
TO_STDOUT = Path("-")


async def demo(folder: Folder, plan: Plan, *, replace: bool, json_file: Path | None, color: bool) -> Exit:
    """Run, tell, check. Raises Stop."""
    plan.checked()
    out = screen.console(color=color, to_stderr=json_file == TO_STDOUT)
    folder.create(replace=replace)
    out.print(
        f"l402-train demo: {len(plan.kinds)} peers, {plan.rounds} rounds, everything in {folder.root}", style="bold"
    )
    async with stack.running(folder, plan, lambda line: out.print(f"  {line}")) as network:
        facts = Facts(network.cast, lambda: network.age_s)
        async with watching(network.nats_url, facts.take):
            before = await channels.now(network.nats_url)
            await _follow(network, facts, out)
            after = await channels.at_rest(network.nats_url)
            compared = await comparing.ask(network.nats_url)
            await asyncio.to_thread(auditing.keep_rounds, folder, network.attestor_url, plan.rounds)
    report = gather(folder, facts, plan)
    report = msgspec.structs.replace(
        report, channels=channels.compare(before, after, channels.names(folder)), next_round=channels.next_round(after)
    )
    found = reports.faults(report, settled_msat=facts.settled_msat(), services=FIVE)
    found += [comparing.sentence(compared)] if comparing.contradicts(compared) else []
    trace = _paid_trace(folder, report)
    _write(folder, report, trace, found, json_file)
    _tell(out, report, trace)
    out.print(f"{comparing.sentence(compared)}\n", soft_wrap=True)
    out.print(screen.set_up_lines(network.set_up_s, facts.first_paid_s))
    out.print(screen.places(_places(folder)), soft_wrap=True)
    for fault in found:
        out.print(f"NOT AS IT SHOULD BE: {fault}", style="bold red")
    return Exit.UNTRUE if found else Exit.FINE


async def _follow(network: Network, facts: Facts, out: Console) -> None:
    """Show progress and tables until every round is over and settled, or a part ends by itself."""
    progress = Progress(out, network.plan.rounds)
    parts_live = asyncio.ensure_future(network.watch())
    ends_at = time.monotonic() + ROUND_LIMIT_S * network.plan.rounds
    told = sponsored_told = 0
    try:
        with progress.moving():
            while told < network.plan.rounds:
                if parts_live.done():
                    parts_live.result()
                if time.monotonic() > ends_at:
                    raise Stop(Exit.PART_FAILED, f"round {told + 1} is not over after {network.age_s:.0f} s")
                progress.show(facts, network.age_s)
                if facts.is_over(told + 1):
                    told += 1
                    out.print(screen.round_table(facts.report(told)))
                if network.plan.sponsored and sponsored_told < told and facts.tranches.is_over(sponsored_told + 1):
                    sponsored_told += 1
                    out.print(sponsored.line(facts.report(sponsored_told)), soft_wrap=True)
                await asyncio.sleep(0.1)
            await _until_settled(facts)
            for number in range(sponsored_told + 1, told + 1) if network.plan.sponsored else ():
                out.print(sponsored.line(facts.report(number)), soft_wrap=True)
    finally:
        parts_live.cancel()


async def _until_settled(facts: Facts) -> None:
    """Give the last round's peers time to collect; what is still open then, the report says."""
    ends_at = time.monotonic() + SETTLE_LIMIT_S
    while not facts.is_settled() and time.monotonic() < ends_at:  # noqa: ASYNC110 - facts come from a callback
        await asyncio.sleep(0.1)


def gather(folder: Folder, facts: Facts, plan: Plan) -> Report:
    """The report, from the facts, the books and the spans; of channels it knows nothing."""
    rounds = tuple(facts.report(number) for number in range(1, plan.rounds + 1))
    wanted = frozenset(one.trace_id for round_ in rounds for one in round_.submissions)
    return Report(
        parts=PartsReport(**stack.part_versions(folder, plan)),
        rounds=rounds,
        ledger=books.ledger(folder.books),
        traces=spans.summaries(spans.read(folder.traces), wanted),
    )


def _paid_trace(folder: Folder, report: Report) -> Life | None:
    """The life of the best paid submission of the last round that paid any."""
    for round_ in reversed(report.rounds):
        paid = [one for one in round_.submissions if one.reward_msat and one.trace_id in report.traces]
        if paid:
            best = max(paid, key=lambda one: one.reward_msat)
            mine = [span for span in spans.read(folder.traces) if span.trace_id == best.trace_id]
            return lives.life(mine) if mine else None
    return None


def _write(folder: Folder, report: Report, trace: Life | None, found: list[str], json_file: Path | None) -> None:
    drawn = picture.draw(report.rounds)
    encoded = reports.encode(report)
    try:
        (folder.root / "run.png").write_bytes(drawn)
        (folder.root / "report.json").write_bytes(encoded)
        html = page.render(report, drawn, trace, faults=found)
        (folder.root / "report.html").write_text(html)
        if json_file is not None and json_file != TO_STDOUT:
            json_file.write_bytes(encoded)
    except OSError as error:
        raise stop_for(error, error.filename or folder.root) from error
    if json_file == TO_STDOUT:
        sys.stdout.buffer.write(encoded)
        sys.stdout.flush()


def _tell(out: Console, report: Report, trace: Life | None) -> None:
    out.print(screen.totals_table(report.rounds))
    if told := sponsored.totals(report.rounds):
        out.print(f"\n{told}", soft_wrap=True)
    if trace is not None:
        out.print(screen.life_table(trace, width=out.width))
    out.print(screen.ledger_table(report.ledger))
    if report.channels:
        out.print(channel_tables.table_of(report.channels))
        out.print(channel_tables.rebalanced(report.channels, reports.sponsors_msat(report.ledger)), soft_wrap=True)
    if report.next_round:
        out.print(f"{channel_tables.needs(report.next_round)}\n", soft_wrap=True)
        channel_tables.warn(out, report.next_round.warning, report.channels)


def _places(folder: Folder) -> dict[str, Path]:
    places = {
        "page": folder.root / "report.html",
        "picture": folder.root / "run.png",
        "report": folder.root / "report.json",
        "receipts": folder.receipts,
        "traces": folder.traces,
        "logs": folder.logs,
    }
    return {**places, "books": folder.books} if isinstance(folder.books, Path) else places
