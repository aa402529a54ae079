"""Traces, logs and their meeting point: one trace id from the peer's request to the ledger line.

Spans go to `OTEL_EXPORTER_OTLP_ENDPOINT` where it is set, else to a local file, one JSON object a line. It refuses to
carry secrets: callers put no preimage, macaroon or private key into attributes, and `Secret` values cannot be printed.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import structlog
from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

_tracer = trace.get_tracer("l402core")


def setup(service: str, *, trace_file: Path | None, log_level: str = "INFO") -> TracerProvider:
    """Send this process's spans and logs on their way. Call once, first thing in `__main__`."""
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    elif trace_file is not None:
        trace_file.parent.mkdir(parents=True, exist_ok=True)
        out = trace_file.open("a", buffering=1)
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
    return (
        json.dumps(
            {
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
            }
        )
        + "\n"
    )


def traceparent() -> str:
    """The W3C traceparent of the current span; '' outside of one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent", "")


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
) -> Iterator[Span]:
    """A span that is current inside the block: a child of `parent` (a traceparent or headers) or of the current one."""
    token = None
    if parent is not None:
        carrier = {"traceparent": parent} if isinstance(parent, str) else dict(parent)
        token = context.attach(propagate.extract(carrier, context=context.Context()))
    try:
        with _tracer.start_as_current_span(
            name, kind=kind, attributes=dict(attributes or {}), record_exception=False, set_status_on_exception=False
        ) as current:
            try:
                yield current
            except BaseException as error:  # a cancelled step is no success either; passed on
                current.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
    finally:
        if token is not None:
            context.detach(token)
