"""A payment's life, or a sponsorship's, in plain words: the few spans of a trace that move it on. It prints nothing."""

import re

import msgspec

from l402train.spans import Span


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a payment's life, with every span that did it. Times in milliseconds from the trace's start."""

    what: str
    """In plain words."""
    service: str
    span: str
    """The name of its spans."""
    start_ms: float
    busy_ms: float
    """Of all its spans together."""
    pieces: tuple[tuple[float, float], ...]
    """(start, length) of each span."""
    failed: bool


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of one trace, the first first."""

    trace_id: str
    total_ms: float
    """Until its last step is over."""
    services: tuple[str, ...]
    spans: int
    """Of the whole trace, plumbing included."""
    moments: tuple[Moment, ...]


class _Step(msgspec.Struct, frozen=True):
    service: str
    span: str
    what: str


PAYMENT = (
    _Step("peer-agent", "train", "train on its own data"),
    _Step("peer-agent", "compress", "compress the update"),
    _Step("invoicer", "answer fee.mint.v1", "402: make a fee invoice"),
    _Step("peer-agent", "pay", "pay the fee"),
    _Step("settler", "consume fee.settled.v1", "ledger: fee received"),
    _Step("gateway", "POST submission", "open the submission"),
    _Step("oracle", "consume offer.make.v1", "offer a reward in rungs"),
    _Step("peer-agent", "AddHoldInvoice", "make an invoice per rung"),
    _Step("invoicer", "consume escrow.lock.v1", "lock the reward in them"),
    _Step("settler", "ledger in flight", "ledger: reward pending"),
    _Step("gateway", "POST accepted", "peer sees it all locked"),
    _Step("gateway", "PUT gradient", "upload the gradient"),
    _Step("oracle", "consume gradient.uploaded.v1", "screen: form, size, copies"),
    _Step("oracle", "consume gradient.measure.v1", "measure on hidden text"),
    _Step("oracle", "decide", "decide what it earned"),
    _Step("settler", "consume gradient.scored.v1", "reveal the earned rungs"),
    _Step("peer-agent", "SettleInvoice", "settle the earned rungs"),
    _Step("settler", "ledger succeeded", "ledger: reward paid"),
    _Step("settler", "ledger failed", "ledger: rest returned"),
)
"""What a reader of a payment's life is after. Everything else is looks and hand-overs."""
SPONSORSHIP = (
    _Step("gateway", "POST open_sponsorship", "take the pledge"),
    _Step("oracle", "consume sponsorship.announce.v1", "announce a hash per round"),
    _Step("invoicer", "consume sponsorship.mint.v1", "make a hold invoice on it"),
    _Step("settler", "ledger tranche accepted", "ledger: tranche pending"),
    _Step("oracle", "consume checkpoint.measure.v1", "measure parent and child"),
    _Step("settler", "consume sponsorship.judged.v1", "earned by a margin, or not"),
    _Step("settler", "ledger tranche settled", "ledger: tranche earned"),
    _Step("settler", "ledger tranche canceled", "ledger: tranche returned"),
)
"""The same of a sponsor's money; each tranche goes through it once."""
_BY_SPAN = {(step.service, step.span): step for step in (*PAYMENT, *SPONSORSHIP)}


def life(spans: list[Span]) -> Life:
    """The steps that this trace has; none where it is no submission's nor sponsorship's."""
    begin = min(span.start_ns for span in spans)
    mine: dict[_Step, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start_ns):
        step = _BY_SPAN.get((span.service, _plain(span.name)))
        if step is not None and not _is_challenge(span):
            mine.setdefault(step, []).append(span)
    moments = tuple(_moment(step, done, begin) for step, done in mine.items())
    return Life(
        trace_id=spans[0].trace_id,
        total_ms=max((start + length for one in moments for start, length in one.pieces), default=0.0),
        services=tuple(sorted({span.service for span in spans})),
        spans=len(spans),
        moments=moments,
    )


def _moment(step: _Step, done: list[Span], begin_ns: int) -> Moment:
    pieces = tuple(((span.start_ns - begin_ns) / 1e6, (span.end_ns - span.start_ns) / 1e6) for span in done)
    return Moment(
        what=step.what,
        service=step.service,
        span=step.span,
        start_ms=pieces[0][0],
        busy_ms=sum(length for _, length in pieces),
        pieces=pieces,
        failed=any(span.status == "ERROR" for span in done),
    )


def _plain(name: str) -> str:
    """A gRPC call without its package, a subject without its hash."""
    return re.sub(r"\.[0-9a-f]{16,}.*$", "", name.rsplit("/", 1)[-1] if "." in name.split("/", 1)[0] else name)


def _is_challenge(span: Span) -> bool:
    """The request that was answered with a price; the one that follows it opens the submission."""
    return span.attributes.get("http.response.status_code") == 402
