"""Who takes spans by OTLP over HTTP: a server that reads them as our trace files tell them, and the real collector."""

import contextlib
import gzip
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from l402train.spans import Link, Span
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wired
from opentelemetry.proto.trace.v1.trace_pb2 import Status

HOUSE = Path(__file__).parents[2]
CONFIG = HOUSE / "deploy" / "seeing" / "collector.yaml"
"""What compose.yaml mounts."""
PROGRAM = HOUSE / ".tools" / "collector" / "otelcol"
HOW = "the OpenTelemetry collector (run `make tools-collector`)"
START_S = END_S = 60.0
TWO_SPANS = """
import os, sys
os.environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": sys.argv[1], "OTEL_TRACES_SAMPLER": "always_on"}
from l402core import telemetry
provider = telemetry.setup("tester", trace_file=None)
with telemetry.span("outer"), telemetry.span("inner"):
    print(telemetry.trace_id())
provider.shutdown()
"""
"""A program that sends one inside of the other to the URL that it is told, and prints their trace's id."""


class Receiver:
    """What came, in the order in which it came."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.received: list[tuple[str, bytes]] = []
        """Path and body, unpacked."""

    @property
    def body(self) -> bytes:
        """All of it in one."""
        return b"".join(body for _, body in self.received)

    def spans(self) -> list[Span]:
        """As our files would tell them."""
        return [span for _, body in self.received for span in _spans(ExportTraceServiceRequest.FromString(body))]


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """One on a free loopback port, gone with the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            told.received.append((self.path, gzip.decompress(body) if packed else body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def running_collector(log: Path, port: int, chosen: Mapping[str, str]) -> Iterator[None]:
    """The real one with compose.yaml's configuration, listening on loopback. It hands on what it has when the block ends."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "COLLECTOR_"))}
    environment = {**clean, "COLLECTOR_LISTEN": f"127.0.0.1:{port}", **chosen}
    with log.open("wb") as out:
        process = subprocess.Popen([PROGRAM, f"--config={CONFIG}"], env=environment, stdout=out, stderr=out)
    try:
        _wait_for(port, process, log)
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def printed(log: str, trace_id: str) -> set[str]:
    """Names of the spans of one trace in what the collector printed; compose's own words may stand before each line."""
    return set(re.findall(rf"(\S+) {trace_id} [0-9a-f]{{16}}", log))


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.05)
    raise AssertionError(f"the collector does not listen:\n{log.read_text()}")


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        named = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span(named.get("service.name", ""), span)


def _span(service: str, span: Wired) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        service=service,
        name=span.name,
        kind=Wired.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        attributes={one.key: getattr(one.value, one.value.WhichOneof("value") or "") for one in span.attributes},
        links=tuple(Link(trace_id=one.trace_id.hex(), span_id=one.span_id.hex()) for one in span.links),
    )
