"""Traces, logs and their meeting point: one trace id from the peer's request to the ledger line.

Spans go to `OTEL_EXPORTER_OTLP_ENDPOINT` where it is set, else to a local file, one JSON object a line. It refuses to
carry secrets: callers put no preimage, macaroon or private key into attributes, and `Secret` values cannot be printed.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

_tracer = trace.get_tracer("l402core")
_TRACEPARENT = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)


def setup(service: str, *, trace_file: Path | None, log_level: str = "INFO") -> TracerProvider:
    """Send this process's spans and logs on their way. Call once, first thing in `__main__`."""
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    elif trace_file is not None:
        trace_file.parent.mkdir(parents=True, exist_ok=True)
        out = trace_file.open("a", buffering=1 << 20)  # the exporter writes it out after each batch
        exporter = ConsoleSpanExporter(out=out, formatter=_span_line)
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
    trace.set_tracer_provider(provider)
    _setup_logs(service, log_level)
    return provider


def _setup_logs(service: str, level: str) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _with_trace,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def _with_trace(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = f"{span.trace_id:032x}"
    return event


def _span_line(span: ReadableSpan) -> str:
    own, parent = span.get_span_context(), span.parent
    line = {
        "trace_id": f"{own.trace_id:032x}" if own else "",
        "span_id": f"{own.span_id:016x}" if own else "",
        "parent_id": f"{parent.span_id:016x}" if parent else "",
        "service": str(span.resource.attributes.get(SERVICE_NAME, "")),
        "name": span.name,
        "kind": span.kind.name,
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes or {}),
        "links": [
            {"trace_id": f"{one.context.trace_id:032x}", "span_id": f"{one.context.span_id:016x}"} for one in span.links
        ],
    }
    return msgspec.json.encode(line).decode() + "\n"


def traceparent(of: Span | None = None) -> str:
    """The W3C traceparent of a span, the current one where none is given; '' outside of one."""
    told = (of or trace.get_current_span()).get_span_context()
    return f"00-{told.trace_id:032x}-{told.span_id:016x}-{told.trace_flags:02x}" if told.is_valid else ""


def _parent(text: str) -> context.Context:
    """The context that a traceparent names; an empty one for what is none. Each span of every message comes by here, and
    the library's propagator, which also asks for baggage and vendors' state that nobody sets, costs as much as the span."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return context.Context()
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    told = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return trace.set_span_in_context(NonRecordingSpan(told), context.Context()) if told.is_valid else context.Context()


def _links(traceparents: Iterable[str]) -> Iterator[Link]:
    for text in traceparents:
        told = trace.get_current_span(_parent(text)).get_span_context()
        if told.is_valid:
            yield Link(told)


def trace_id() -> str:
    """The current trace's id, 32 hex digits; '' outside of one."""
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}" if span.is_valid else ""


@contextmanager
def span(
    name: str,
    *,
    parent: str | Mapping[str, str] | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
    links: Iterable[str] = (),
) -> Iterator[Span]:
    """A span that is current inside the block: a child of `parent` (a traceparent or headers) or of the current one.

    `links` are the traceparents of what it does something for together.
    """
    token = None
    if parent is not None:
        token = context.attach(_parent(parent if isinstance(parent, str) else parent.get("traceparent", "")))
    try:
        with _tracer.start_as_current_span(
            name, kind=kind, attributes=dict(attributes or {}), links=list(_links(links)), record_exception=False,
            set_status_on_exception=False,
        ) as current:  # fmt: skip
            try:
                yield current
            except BaseException as error:  # a cancelled step is no success either; passed on
                current.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
    finally:
        if token is not None:
            context.detach(token)
