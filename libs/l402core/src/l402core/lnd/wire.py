"""One TLS channel to one LND: macaroon, trace and deadline on every call. It knows URIs and bytes, not invoices."""

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import msgspec
from opentelemetry import trace

from l402core import telemetry
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
        """A client span around the call, and the metadata that carries it on, with the macaroon.

        It is nobody's current span, for nothing of ours happens inside a call; LND's sentences are for errors, not for
        telemetry.
        """
        called = _called(uri)
        attributes = (
            {**called.attributes, "lnd.payment_hash": payment_hash.hex()} if payment_hash else called.attributes
        )
        span = self._tracer.start_span(called.span, kind=trace.SpanKind.CLIENT, attributes=attributes)
        began_s, outcome = time.perf_counter(), "ok"
        try:
            macaroon, parent = self._macaroon.now().reveal().decode(), telemetry.traceparent(span)
            yield (("macaroon", macaroon), ("traceparent", parent)) if parent else (("macaroon", macaroon),)
        except L402Error as error:
            outcome = error.code
            span.set_status(trace.StatusCode.ERROR, error.code)
            raise
        finally:
            span.end()
            NODE_CALLS.labels(called.name, outcome).observe(time.perf_counter() - began_s)


class _Called(msgspec.Struct, frozen=True):
    """How telemetry names a call."""

    span: str
    name: str
    attributes: dict[str, str]


@cache
def _called(uri: str) -> _Called:
    service, _, name = uri.lstrip("/").partition("/")
    return _Called(f"{service}/{name}", name, {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name})


def _read_macaroon(path: Path) -> Secret:
    return Secret(_read(path).hex().encode())


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Unavailable("lnd_credentials", f"cannot read {path}: {error.strerror}") from error
