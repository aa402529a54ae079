"""How statements and one submission's story look on a terminal. It decides nothing, and adds up only lines that are alike."""

from collections import defaultdict
from datetime import UTC, datetime

from l402core.explanation import Explanation, Place, nats
from rich.console import Console
from rich.table import Table

from l402train.books import Line, Statement
from l402train.explaining import Story
from l402train.screen import account_name, lined, sat

BARS_SHOWN, BAR_WIDTH = 6, 40
"""Of a round, and then this submission's own: the story fits a screen."""


def tell_statement(out: Console, statement: Statement) -> None:
    """An account's lines with its running balance."""
    table = lined(f"{statement.account}, in satoshi; balance: credits less debits of what is posted")
    table.add_column("at", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("with", no_wrap=True)
    for name in ("debit", "credit", "pending", "balance"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in statement.entries:
        line = entry.line
        pending = sat(line.amount_msat) if line.phase == "pending" else "ended" if line.phase == "void" else ""
        table.add_row(
            clock(line.at_ms), f"{line.kind} {line.phase}", account_name(entry.other), _some(entry.debit_msat),
            _some(entry.credit_msat), pending, sat(entry.balance_msat),
        )  # fmt: skip
    out.print(table)
    pending = f"; {sat(statement.pending_msat)} sat pending" if statement.pending_msat else ""
    out.print(f"balance {sat(statement.balance_msat)} sat{pending}")


def tell_story(out: Console, story: Story) -> None:
    """One screen: the sentence first, then what it rests on; lines that are alike stand together. `--json` has each of them."""
    out.print(
        f"\nSubmission {story.commitment[:16]}…, round {story.round}, number {story.seq}: {story.state}"
        f"{', FROZEN' if story.frozen else ''}",
        style="bold",
    )
    out.print(story.why, soft_wrap=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for name, value in _facts(story):
        facts.add_row(name, value)
    out.print(facts)
    if story.explanation:
        _tell_place(out, story.explanation)
    if story.rungs:
        out.print(_rungs(story))
    out.print(_lines(story))


def _tell_place(out: Console, told: Explanation) -> None:
    """The round's drops as bars, and what would have earned more."""
    if told.places:
        table = lined("Drops of the round, in nats per token")
        table.add_column("peer", no_wrap=True)
        table.add_column("drop", justify="right", no_wrap=True)
        table.add_column(_scale(told), no_wrap=True)
        table.add_column("units", justify="right")
        for place in told.places[:BARS_SHOWN] + tuple(one for one in told.places[BARS_SHOWN:] if one.mine):
            style = "bold" if place.mine else ""
            name = "this one" if place.mine else f"{place.peer[:12]}…"
            table.add_row(name, nats(place.drop), _bar(place, told), str(place.units), style=style)
        out.print(table)
    out.print(f"What would have earned more: {told.more}", soft_wrap=False)


def _bar(place: Place, told: Explanation) -> str:
    """As long as the drop, on a line that ends with the whole ladder; | marks where pay begins."""
    cells = ["█" if step * _top(told) // BAR_WIDTH < place.drop else " " for step in range(BAR_WIDTH)]
    at = min(BAR_WIDTH - 1, told.floor * BAR_WIDTH // _top(told))
    if told.floor > 0 and cells[at] == " ":
        cells[at] = "|"
    return "".join(cells)


def _top(told: Explanation) -> int:
    return max(1, told.whole, *(place.drop for place in told.places))


def _scale(told: Explanation) -> str:
    return f"0 to {nats(_top(told))}; pay begins at {nats(told.floor)}"


def _facts(story: Story) -> list[tuple[str, str]]:
    told = [
        ("peer", story.peer),
        ("fee", f"{sat(story.fee_msat)} sat, {story.fee_outcome}"),
        ("fee hash", story.fee_payment_hash),
    ]
    if offer := story.offer:
        amounts = " + ".join(sat(amount) for amount in offer.amounts_msat)
        told.append(("offer", f"{amounts} sat, attempt {offer.attempt}, key {offer.key_id}"))
    if story.accepted:
        told.append(("peer's word", f"accepted, expiring at heights {_span(story.accepted.expiry_heights)}"))
    if locked := story.locked:
        told.append(("locked", f"signed at {clock(locked.locked_at_ms)}, good until height {locked.expiry_height}"))
    if receipt := story.receipt:
        low, high = receipt.drop_low * 1e-9, receipt.drop_high * 1e-9
        score = f"drop {receipt.drop_mean * 1e-9:.4f} ({low:.4f} to {high:.4f}) nats per token"
        told.append(
            ("score", f"{score} over {receipt.eval_tokens:,} tokens" if receipt.eval_tokens else "not measured")
        )
        told.append(("decision", f"{receipt.verdict}, {receipt.units} units, rungs {receipt.mask:06b} (highest first)"))
    ends = f"{sat(story.collected_msat)} collected, {sat(story.returned_msat)} returned, {sat(story.forfeited_msat)} forfeited"
    told.append(("settled", f"{ends}, of {sat(story.decided_msat)} sat decided"))
    told += _earlier(story)
    told += [(one.action, f"{clock(one.at_ms)} by {one.by}: {one.reason} ({one.code})") for one in story.freezes]
    told += [("written off", f"{clock(one.at_ms)} {one.sentence()}") for one in story.written_off]
    if story.held:
        told.append(("held", ", ".join(story.held)))
    return [*told, ("trace", story.trace_id)]


def _earlier(story: Story) -> list[tuple[str, str]]:
    """What became of the ladders before the present one."""
    states: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for rung in story.rungs:
        states[rung.attempt][rung.state] += 1
    counted = {
        attempt: ", ".join(f"{count} {state}" for state, count in found.items()) for attempt, found in states.items()
    }
    return [(f"ladder {attempt}", f"rungs: {counted[attempt]}") for attempt in sorted(counted)[:-1]]


def _rungs(story: Story) -> Table:
    """Those of the last ladder."""
    last = max(rung.attempt for rung in story.rungs)
    table = lined("Rungs" if last == 1 else f"Rungs of ladder {last}")
    for name in ("rung", "sat"):
        table.add_column(name, justify="right")
    for name in ("decided", "state", "expires at", "payment hash"):
        table.add_column(name, no_wrap=True)
    for rung in story.rungs:
        if rung.attempt == last:
            table.add_row(
                str(rung.index), sat(rung.amount_msat), "revealed" if rung.decided else "-", rung.state,
                str(rung.expiry_height or "-"), f"{rung.payment_hash[:24]}…",
            )  # fmt: skip
    return table


def _lines(story: Story) -> Table:
    table = lined("Ledger, in satoshi")
    for name in ("from", "what", "debit", "credit"):
        table.add_column(name, no_wrap=True)
    for name in ("lines", "sum"):
        table.add_column(name, justify="right")
    alike: dict[tuple[str, str, str, str], list[Line]] = defaultdict(list)
    for line in story.lines:
        alike[line.kind, line.phase, line.debit, line.credit].append(line)
    for (kind, phase, debit, credit), lines in alike.items():
        table.add_row(
            clock(lines[0].at_ms), kind if phase == "single" else f"{kind} {phase}", account_name(debit),
            account_name(credit), str(len(lines)), sat(sum(line.amount_msat for line in lines)),
        )  # fmt: skip
    return table


def _some(msat: int) -> str:
    return sat(msat) if msat else ""


def _span(heights: tuple[int, ...]) -> str:
    return str(heights[0]) if len(set(heights)) == 1 else f"{min(heights)} to {max(heights)}"


def clock(at_ms: int) -> str:
    """Time of day, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
