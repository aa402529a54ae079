"""What leaves with a call: a span of its own, the trace, the macaroon; and what never gets into a span."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest
from l402core.errors import Conflict, Unavailable
from l402core.lnd.grpc import GrpcNode
from l402core.lnd.stubs import lnrpc
from l402core.lnd.wire import LndEndpoint, Wire
from l402core.secret import Secret
from lndsim import Simulation, certificate
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from tests.contract.lightning.backends import SimBackend, a_secret
from tests.contract.lightning.test_lightning_invoices import hold

MACAROON = b"a macaroon that nobody should see"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Where spans arrive."""
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Tracer:
    """Everything is sampled, nothing leaves the process."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


@asynccontextmanager
async def spying_server(
    folder: Path, seen: list[dict[str, str]], *, silent: bool = False
) -> AsyncIterator[LndEndpoint]:
    """An LND that notes the metadata and answers GetInfo, or never answers."""

    async def get_info(_: Any, context: Any) -> Any:
        seen.append(dict(context.invocation_metadata()))
        if silent:
            await asyncio.Event().wait()
        return lnrpc.GetInfoResponse()

    make: Callable[..., Any] = grpc.unary_unary_rpc_method_handler
    handler = make(get_info, lnrpc.GetInfoRequest.FromString, lnrpc.GetInfoResponse.SerializeToString)
    pem, key = certificate.make(datetime.now(UTC))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lnrpc.Lightning", {"GetInfo": handler}),))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, pem)]))
    for name, content in (("tls.cert", pem), ("m.macaroon", MACAROON)):
        (folder / name).write_bytes(content)
    await server.start()
    yield LndEndpoint(f"127.0.0.1:{port}", folder / "tls.cert", folder / "m.macaroon", deadline_s=5)
    await server.stop(None)


async def test_the_trace_goes_on_in_the_metadata(
    tmp_path: Path, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """`traceparent` names our client span, and the macaroon goes as hex."""
    seen: list[dict[str, str]] = []
    async with spying_server(tmp_path, seen) as endpoint:
        wire = Wire(endpoint, tracer)
        with tracer.start_as_current_span("outer") as outer:
            await wire.call("/lnrpc.Lightning/GetInfo", lnrpc.GetInfoRequest())
        await wire.close()
    span = exporter.get_finished_spans()[0]
    assert span.kind is SpanKind.CLIENT
    assert span.parent == outer.get_span_context()
    context = span.get_span_context()
    assert context is not None
    assert seen[0]["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
    assert seen[0]["macaroon"] == MACAROON.hex()


async def test_no_secret_gets_into_a_span(tmp_path: Path, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Service, method and hash are there; preimage, macaroon and payment request are not, not even in failures."""
    preimage, payment_hash = a_secret()
    async with await Simulation.start(tmp_path) as simulation:
        sim = SimBackend(simulation)
        await sim.build()
        alice, bob = (GrpcNode(Wire(sim.endpoint(name), tracer)) for name in ("alice", "bob"))
        invoice = await hold(bob, payment_hash)
        with pytest.raises(Conflict):
            await bob.settle_invoice(Secret(preimage))
        await alice.pay(invoice.bolt11, timeout_s=5, fee_limit_msat=0, cltv_limit=100)
        await bob.settle_invoice(Secret(preimage))
        await alice.lookup_payment(payment_hash)
        await alice.close()
        await bob.close()
        macaroon = sim.endpoint("bob").macaroon_path.read_bytes().hex()
    spans = exporter.get_finished_spans()
    told = "".join(span.to_json() for span in spans)
    for secret in (preimage.hex(), macaroon, invoice.bolt11, repr(preimage)[2:-1]):
        assert secret not in told
    first = spans[0]
    assert dict(first.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": "invoicesrpc.Invoices",
        "rpc.method": "AddHoldInvoice",
        "lnd.payment_hash": payment_hash.hex(),
    }
    failed = [span for span in spans if span.status.status_code is StatusCode.ERROR]
    assert [(span.name, span.status.description) for span in failed] == [
        ("invoicesrpc.Invoices/SettleInvoice", "invoice_open")
    ]


async def test_a_silent_node_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    """Every unary call ends; that it may have had its effect is said."""
    seen: list[dict[str, str]] = []
    async with spying_server(tmp_path, seen, silent=True) as endpoint:
        wire = Wire(msgspec.structs.replace(endpoint, deadline_s=0.3))
        with pytest.raises(Unavailable, match="may have been done"):
            await wire.call("/lnrpc.Lightning/GetInfo", lnrpc.GetInfoRequest())
        await wire.close()
