"""One TLS channel to one LND: macaroon, trace and deadline on every call. It knows URIs and bytes, not invoices."""

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import msgspec
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from l402core.errors import L402Error, Unavailable
from l402core.lnd.answers import fault_of
from l402core.lnd.stubs import method
from l402core.metrics import NODE_CALLS
from l402core.secret import Secret
from l402core.watched import Watched

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # in spite of its name: how long one try may take, handshake included
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class LndEndpoint(msgspec.Struct, frozen=True):
    """Where a node is and how to be let in. The macaroon is read again when it is replaced; nothing is ever logged."""

    host: str
    """`127.0.0.1:10009`; the name must be one of the certificate's."""
    tls_cert_path: Path
    macaroon_path: Path
    deadline_s: float = 10.0
    """For every unary call."""


class Wire:
    """Calls by URI. Failures leave as errors of our tree."""

    def __init__(self, endpoint: LndEndpoint, tracer: trace.Tracer | None = None) -> None:
        certificate = _read(endpoint.tls_cert_path)
        self._macaroon = Watched(endpoint.macaroon_path, _read_macaroon)
        self._deadline_s = endpoint.deadline_s
        self._tracer = tracer or trace.get_tracer("l402core.lnd")
        self._channel = grpc.aio.secure_channel(
            endpoint.host, grpc.ssl_channel_credentials(certificate), options=list(_OPTIONS)
        )
        self._methods: dict[str, Any] = {}

    async def call(self, uri: str, request: Any, *, payment_hash: bytes = b"") -> Any:
        """One unary call with a deadline."""
        with self._span(uri, payment_hash) as metadata:
            try:
                return await self._method(uri)(request, metadata=metadata, timeout=self._deadline_s)
            except grpc.aio.AioRpcError as error:
                raise fault_of(error, uri) from error

    async def stream(
        self, uri: str, request: Any, *, payment_hash: bytes = b"", deadline_s: float | None = None
    ) -> AsyncGenerator[Any, None]:
        """A server's stream until it ends, or is left: then the call is cancelled. The span covers its start only."""
        with self._span(uri, payment_hash) as metadata:
            updates = self._method(uri)(request, metadata=metadata, timeout=deadline_s)
        try:
            async for update in updates:
                yield update
        except grpc.aio.AioRpcError as error:
            raise fault_of(error, uri) from error
        finally:
            updates.cancel()

    async def close(self) -> None:
        await self._channel.close(None)

    def _method(self, uri: str) -> Any:
        if uri not in self._methods:
            self._methods[uri] = method(self._channel, uri)
        return self._methods[uri]

    @contextmanager
    def _span(self, uri: str, payment_hash: bytes) -> Iterator[tuple[tuple[str, str], ...]]:
        """A client span around the call, and the metadata that carries it on, with the macaroon."""
        service, _, name = uri.lstrip("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        if payment_hash:
            attributes["lnd.payment_hash"] = payment_hash.hex()
        with self._tracer.start_as_current_span(
            f"{service}/{name}",
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,  # LND's sentences are for errors, not for telemetry
            set_status_on_exception=False,
        ) as span:
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier)
            began_s, outcome = time.perf_counter(), "ok"
            try:
                yield (("macaroon", self._macaroon.now().reveal().decode()), *carrier.items())
            except L402Error as error:
                outcome = error.code
                span.set_status(trace.StatusCode.ERROR, error.code)
                raise
            finally:
                NODE_CALLS.labels(name, outcome).observe(time.perf_counter() - began_s)


def _read_macaroon(path: Path) -> Secret:
    return Secret(_read(path).hex().encode())


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Unavailable("lnd_credentials", f"cannot read {path}: {error.strerror}") from error
