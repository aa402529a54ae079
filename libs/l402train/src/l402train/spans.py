"""Spans from the files that services write: finding a trace, and laying it out as a waterfall. It prints nothing."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from l402train.exits import Exit, Stop
from l402train.report import TraceReport

FIVE = frozenset({"gateway", "invoicer", "oracle", "settler", "peer-agent"})
"""The services that a paid submission's trace goes through."""
ROOT, PAID = "submission", "ledger succeeded"
"""The span that a submission's trace begins with, and the one in which its reward is booked."""
PLEDGED = "POST open_sponsorship"
"""The span that a sponsorship's trace begins with."""
MAX_LINE_BYTES = 1 << 20


class Link(msgspec.Struct, frozen=True):
    """A span of another trace."""

    trace_id: str
    span_id: str


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a trace file."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    status: str
    attributes: dict[str, Any] = {}
    links: tuple[Link, ...] = ()
    """What it was done for together with others."""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a waterfall. Times in milliseconds from the trace's start."""

    depth: int
    service: str
    name: str
    start_ms: float
    length_ms: float
    failed: bool


class Waterfall(msgspec.Struct, frozen=True, kw_only=True):
    """A whole trace, top to bottom."""

    trace_id: str
    total_ms: float
    services: tuple[str, ...]
    spans: int
    bars: tuple[Bar, ...]
    hidden: int
    """Bars left out, the shortest first."""


def read(folder: Path) -> Iterator[Span]:
    """Every span of every file; a last line that is still being written is passed over."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                if len(line) <= MAX_LINE_BYTES and line.endswith(b"\n"):
                    try:
                        yield msgspec.json.decode(line, type=Span)
                    except msgspec.DecodeError:
                        continue


def summaries(spans: Iterable[Span], wanted: frozenset[str]) -> dict[str, TraceReport]:
    """Services and number of spans of each wanted trace."""
    services: dict[str, set[str]] = {trace_id: set() for trace_id in wanted if trace_id}
    counts = dict.fromkeys(services, 0)
    for span in spans:
        if span.trace_id in services:
            services[span.trace_id].add(span.service)
            counts[span.trace_id] += 1
    return {trace: TraceReport(services=tuple(sorted(services[trace])), spans=counts[trace]) for trace in services}


def find(folder: Path, wanted: str) -> list[Span]:
    """The spans of the one trace whose id begins so. Raises Stop.

    `latest` is the last submission that was paid, `sponsor` the last sponsorship that was pledged.
    """
    spans = list(read(folder))
    if not spans:
        raise Stop(Exit.NOT_FOUND, f"{folder} holds no spans; is it a network's folder, and has a round begun?")
    if wanted == "latest":
        chosen = max(_telling(spans), key=lambda span: span.start_ns).trace_id
        return [span for span in spans if span.trace_id == chosen]
    if wanted == "sponsor":
        pledged = [span for span in spans if (span.service, span.name) == ("gateway", PLEDGED)]
        if not pledged:
            raise Stop(Exit.NOT_FOUND, f"nobody has pledged anything in {folder}")
        chosen = max(pledged, key=lambda span: span.start_ns).trace_id
        return [span for span in spans if span.trace_id == chosen]
    matching = {span.trace_id for span in spans if span.trace_id.startswith(wanted.lower())}
    if len(matching) != 1:
        several = f"{len(matching)} traces begin with" if matching else "no trace begins with"
        raise Stop(Exit.NOT_FOUND, f"{several} {wanted!r} in {folder}")
    return [span for span in spans if span.trace_id in matching]


def _telling(spans: list[Span]) -> list[Span]:
    """What was booked as paid; before that the peers' submissions, then whatever there is.

    Peers look and services tick in traces of their own, which nobody asks for.
    """
    paid = [span for span in spans if (span.service, span.name) == ("settler", PAID)]
    return paid or [span for span in spans if (span.service, span.name) == ("peer-agent", ROOT)] or spans


def waterfall(spans: list[Span], *, most: int) -> Waterfall:
    """Lay out one trace: children below their parent in order of time, at most `most` rows."""
    begin = min(span.start_ns for span in spans)
    end = max(span.end_ns for span in spans)
    bars = [
        Bar(
            depth=depth,
            service=span.service,
            name=span.name,
            start_ms=(span.start_ns - begin) / 1e6,
            length_ms=(span.end_ns - span.start_ns) / 1e6,
            failed=span.status == "ERROR",
        )
        for depth, span in _ordered(spans)
    ]
    shown = _most_telling(bars, most)
    return Waterfall(
        trace_id=spans[0].trace_id,
        total_ms=(end - begin) / 1e6,
        services=tuple(sorted({span.service for span in spans})),
        spans=len(spans),
        bars=tuple(shown),
        hidden=len(bars) - len(shown),
    )


def _ordered(spans: list[Span]) -> Iterator[tuple[int, Span]]:
    known = {span.span_id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start_ns):
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    stack = [(0, span) for span in reversed(children.get("", []))]
    while stack:
        depth, span = stack.pop()
        yield depth, span
        stack += [(depth + 1, child) for child in reversed(children.get(span.span_id, []))]


def _most_telling(bars: list[Bar], most: int) -> list[Bar]:
    """In their order: every service's longest, then the longest of each name, steps before plumbing, repeats last."""
    longest: dict[str, int] = {}
    of_name: dict[tuple[str, str], int] = {}
    by_length = sorted(range(len(bars)), key=lambda i: -bars[i].length_ms)
    for i in by_length:
        longest.setdefault(bars[i].service, i)
        of_name.setdefault((bars[i].service, _HASH.sub("", bars[i].name)), i)
    kept, named = set(longest.values()), set(of_name.values())
    rank = sorted(by_length, key=lambda i: (i not in kept, i not in named, bool(_PLUMBING.search(bars[i].name))))
    return [bars[i] for i in sorted(rank[:most])]


_HASH = re.compile(r"[0-9a-f]{16,}\S*")
_PLUMBING = re.compile(r"GET |^fastapi\.|\.read\.")
"""Looks and hand-overs: many, and seldom what a reader of a payment's life is after."""
