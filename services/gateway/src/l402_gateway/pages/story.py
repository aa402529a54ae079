"""The page of one submission: its life as a waterfall, why it earned what it did, and its place beside the others. Pure.

Times are the books' own; what happens inside a step is in the trace, under the id that the page names.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from l402core.documents import Receipt, Terms
from l402core.events import StoryLine, StoryView, SubmissionView
from l402core.explanation import Explanation, Place

from l402_gateway.pages import frame
from l402_gateway.pages.overview import STATES, VERDICTS

WIDTH: Final = 400
SHOWN: Final = 100
"""Bars at most; the best, and always one's own."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a submission's life, from one moment that the books know to the next."""

    what: str
    from_ms: int
    took_ms: int
    amount_msat: int
    kind: str
    """Of its bar: money that waits, comes in or goes out, or work."""
    x: float
    width: float


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One submission of the round on the line of drops."""

    place: Place
    x: float
    width: float
    low: float
    high: float


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody who was measured, on one scale."""

    bars: tuple[Bar, ...]
    marks: tuple[tuple[float, str, int], ...]
    """Where pay begins, the reference and the whole ladder lie: place, name, drop."""


def page(
    story: StoryView,
    view: SubmissionView,
    terms: Terms,
    receipt: Receipt | None,
    told: Explanation | None,
    *,
    now_ms: int,
) -> bytes:
    """The whole page; of what is not judged yet, its life so far."""
    return frame.rendered(
        "story.html", story=story, view=view, terms=terms, receipt=receipt, told=told, stages=stages(story.lines),
        began_ms=story.lines[0].first_ms if story.lines else 0, beside=beside(told) if told else None,
        now_ms=now_ms, ended=story.state == "ended",
        fell=receipt is None and story.state in ("failed", "ended"), verdicts=VERDICTS, states=STATES, width=WIDTH,
    )  # fmt: skip


def stages(lines: tuple[StoryLine, ...]) -> tuple[Stage, ...]:
    """The steps that the books can date, in order."""
    by = {line.what: line for line in lines}
    found = [step for step in _steps(by) if step is not None]
    if not found:
        return ()
    begin = min(first for _, first, _, _, _ in found)
    whole = max(1, max(last for _, _, last, _, _ in found) - begin)

    def at(ms: int) -> float:
        return round((ms - begin) / whole * WIDTH, 1)

    return tuple(
        Stage(
            what=what, from_ms=first - begin, took_ms=last - first, amount_msat=amount, kind=kind,
            x=min(at(first), WIDTH - 2.0), width=max(2.0, round(at(last) - at(first), 1)),
        )
        for what, first, last, amount, kind in found
    )  # fmt: skip


_Step = tuple[str, int, int, int, str] | None


def _steps(by: dict[str, StoryLine]) -> tuple[_Step, ...]:
    opened, locks = by.get("opened"), by.get("rung pending")
    decided = by.get("decided") or by.get("locked") or locks
    return (
        _between("its fee is paid, and it opens", by.get("fee received"), opened, "fees"),
        _between("the oracle offers, the peer makes an invoice for each rung", opened, locks, "work"),
        _between("the reward is locked in them, seen at both nodes", locks, by.get("locked"), "hold", money=locks),
        _between("commits close, the sealed gradient is uploaded", by.get("locked"), by.get("uploaded"), "work"),
        _between("uploads close, the oracle measures and decides", by.get("uploaded"), by.get("decided"), "work"),
        _until("the earned rungs settle", decided, by.get("rung post"), "rewards"),
        _until("the other rungs return" if "rung post" in by else "every rung returns", decided, by.get("rung void"), "back"),
        _until("its fee becomes a credit", opened, by.get("fee credited"), "back"),
    )  # fmt: skip


def _between(
    what: str, first: StoryLine | None, last: StoryLine | None, kind: str, *, money: StoryLine | None = None
) -> _Step:
    if first is None or last is None:
        return None
    amount_msat = (money or first).amount_msat if money or kind == "fees" else 0
    return what, min(first.first_ms, last.first_ms), last.first_ms, amount_msat, kind


def _until(what: str, first: StoryLine | None, last: StoryLine | None, kind: str) -> _Step:
    """To the last of several; it began when it could, or when the first of them is known."""
    if last is None:
        return None
    return what, min(first.first_ms if first else last.first_ms, last.first_ms), last.last_ms, last.amount_msat, kind


def beside(told: Explanation) -> Beside | None:
    """Drops with their intervals on one scale, and where pay begins, is half, and ends."""
    places = told.places[:SHOWN] + tuple(place for place in told.places[SHOWN:] if place.mine)
    if not places:
        return None
    lowest = min(0, *(place.low for place in places))
    highest = max(told.whole, told.floor, 1, *(place.high for place in places))

    def x(drop: int) -> float:
        return round(2 + (drop - lowest) / (highest - lowest) * (WIDTH - 4), 1)

    marks = ((0, "no change"), (told.floor, "pay begins"), (told.reference, "reference"), (told.whole, "whole ladder"))
    return Beside(
        bars=tuple(_bar(place, x) for place in places),
        marks=tuple((x(drop), name, drop) for drop, name in marks if told.reference or not drop),
    )


def _bar(place: Place, x: Callable[[int], float]) -> Bar:
    zero, end = x(0), x(place.drop)
    return Bar(place=place, x=min(zero, end), width=max(abs(end - zero), 1.0), low=x(place.low), high=x(place.high))
