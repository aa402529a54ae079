"""One sponsor's tranche from the books: what was pledged, when the money waited, how it was judged, and where it went.

It reads, and refuses to judge: the numbers are those that the oracle signed and the journal holds.
"""

from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from l402core.money import show_sat
from l402core.pledges import TrancheLocked, TrancheReceipt
from rich.console import Console
from rich.table import Table

from l402train.books import Line, journal, opened
from l402train.exits import Exit, Stop
from l402train.explaining import FreezeStory, WriteOffStory, freezes_of, signed, written_off_of
from l402train.screen import account_name, lined, sat
from l402train.story_screen import clock

_FIND = """
    select t.*, s.sponsor, s.opened_at_ms, s.traceparent, s.reason as ended from tranches t
    join sponsorships s on s.sponsorship = t.sponsorship
    where t.payment_hash like :w or (t.sponsorship like :w and t.tranche = 0) order by t.payment_hash limit 6
"""


class TrancheStory(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one tranche."""

    payment_hash: str
    sponsorship: str
    tranche: int
    sponsor: str
    amount_msat: int
    margin: int
    state: str
    round: int
    why: str
    """In one sentence, where the money is and why."""
    locked: TrancheLocked | None
    receipt: TrancheReceipt | None
    trace_id: str
    frozen: bool
    freezes: tuple[FreezeStory, ...]
    held: tuple[str, ...]
    written_off: tuple[WriteOffStory, ...]
    lines: tuple[Line, ...]


def tranche(where: Path | str, wanted: str) -> TrancheStory | None:
    """By its payment hash, or the first of a sponsorship by its id; None where none begins so. Raises Stop."""
    with opened(where) as books:
        rows = books.execute(sa.text(_FIND), {"w": f"{wanted}%"}).all()
        if not rows:
            return None
        if len(rows) > 1:
            raise Stop(Exit.NOT_FOUND, f"{wanted} fits several: {', '.join(r.payment_hash[:16] + '…' for r in rows)}")
        (row,) = rows
        ends = tuple(f"{kind}:{row.payment_hash}" for kind in ("tranche", "end", "write-off"))
        lines = tuple(one for one in journal(books, commitment=row.sponsorship) if one.id in ends)
        freezes, held = freezes_of(books, row.payment_hash)
        written_off = written_off_of(books, row.payment_hash)
    receipt = signed(row.receipt, TrancheReceipt)
    return TrancheStory(
        payment_hash=row.payment_hash, sponsorship=row.sponsorship, tranche=row.tranche, sponsor=row.sponsor,
        amount_msat=row.amount_msat, margin=row.margin, state=row.state, round=row.round or 0, why=_why(row, receipt),
        locked=signed(row.locked, TrancheLocked), receipt=receipt, frozen=bool(row.frozen), freezes=freezes, held=held,
        written_off=written_off,
        trace_id=row.traceparent.split("-")[1] if row.traceparent else "", lines=lines,
    )  # fmt: skip


def _why(row: Any, receipt: TrancheReceipt | None) -> str:
    amount = show_sat(row.amount_msat)
    if row.state == "settled":
        return f"{amount} were earned by round {row.round} and taken: {row.reason}"
    if row.state == "returned":
        had = "went back to the sponsor" if row.locked else "were never paid"
        return f"{amount} {had}: {row.reason or (receipt.reason if receipt else 'our node cancelled the invoice')}"
    waiting = {
        "announced": f"{amount} are not asked for yet: one tranche waits at a time.",
        "minting": f"{amount} are to be asked for: the invoicer makes the invoice.",
        "minted": f"{amount} are asked for, and wait for the sponsor's payment.",
        "locked": f"{amount} wait at our node for the next round.",
        "funding": f"{amount} wait at our node for the oracle's judgement of round {row.round}.",
        "settling": f"{amount} are earned by round {row.round}, and about to be taken.",
        "returning": f"{amount} are on their way back: {row.reason}",
    }
    return waiting.get(str(row.state), str(row.state))


def tell(out: Console, story: TrancheStory) -> None:
    """One screen: the sentence first, then what it rests on."""
    frozen = ", FROZEN" if story.frozen else ""
    out.print(
        f"\nTranche {story.tranche} of sponsorship {story.sponsorship[:16]}…: {story.state}{frozen}", style="bold"
    )
    out.print(story.why)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for name, value in _facts(story):
        facts.add_row(name, value)
    out.print(facts)
    table = lined("Ledger, in satoshi")
    for name in ("at", "what", "debit", "credit", "amount"):
        table.add_column(name, justify="right" if name == "amount" else "left", no_wrap=True)
    for line in story.lines:
        what = f"{line.kind} {line.phase}"
        table.add_row(
            clock(line.at_ms), what, account_name(line.debit), account_name(line.credit), sat(line.amount_msat)
        )
    out.print(table)


def _facts(story: TrancheStory) -> list[tuple[str, str]]:
    told = [("sponsor", story.sponsor), ("payment hash", story.payment_hash)]
    told.append(("agreed", f"{sat(story.amount_msat)} sat for {story.margin / 1e9:.4f} nats per token"))
    if locked := story.locked:
        told.append(("locked", f"signed at {clock(locked.locked_at_ms)}, until height {locked.expiry_height}"))
    if receipt := story.receipt:
        low, high = receipt.drop_low / 1e9, receipt.drop_high / 1e9
        told.append(
            ("measured", f"{receipt.drop_mean / 1e9:.4f} ({low:.4f} to {high:.4f}) on {len(receipt.shards)} shards")
        )
        told.append(("judged", f"{'earned' if receipt.earned else 'not earned'}: {receipt.reason}"))
    told += [(one.action, f"{clock(one.at_ms)} by {one.by}: {one.reason} ({one.code})") for one in story.freezes]
    told += [("written off", f"{clock(one.at_ms)} {one.sentence()}") for one in story.written_off]
    if story.held:
        told.append(("held", ", ".join(story.held)))
    return [*told, ("trace", story.trace_id)]
