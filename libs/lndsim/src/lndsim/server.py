"""One node's gRPC server: TLS, a macaroon on every call, and the table of URIs it answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc.aio
from l402core.lnd.stubs import SERVICES, message_class

from lndsim.calls import TABLE
from lndsim.clock import Clock
from lndsim.faults import Fault, Faults, Kind
from lndsim.macaroon import Bakery, Permission
from lndsim.refusal import WALLET_LOCKED, Code, Refusal
from lndsim.service import LndService

_STATUS: Final = {code: grpc.StatusCode[code.name] for code in Code}
_OPTIONS: Final = (("grpc.so_reuseport", 0), ("grpc.keepalive_permit_without_calls", 1))


class NodeServer:
    """Serves one node on a loopback port."""

    def __init__(
        self, name: str, service: LndService, bakery: Bakery, clock: Clock, faults: Faults, pem: tuple[bytes, bytes]
    ) -> None:
        certificate, key = pem
        self._name = name
        self._faults = faults
        self._service = service
        self._bakery = bakery
        self._clock = clock
        self._credentials = grpc.ssl_server_credentials([(key, certificate)])
        self._server: grpc.aio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen; returns the port. Raises RuntimeError when the port is taken."""
        server = grpc.aio.server(options=list(_OPTIONS))
        server.add_generic_rpc_handlers(tuple(self._handlers()))
        bound = server.add_secure_port(f"127.0.0.1:{port}", self._credentials)
        await server.start()
        self._server = server
        return bound

    async def stop(self) -> None:
        """Cut all calls and streams at once, as a stopping LND does."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def _handlers(self) -> "list[grpc.GenericRpcHandler[Any, Any]]":
        by_service: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for uri, (permission, name) in TABLE.items():
            service, _, method = uri.lstrip("/").partition("/")
            described = SERVICES[service].methods_by_name[method]
            answer = getattr(self._service, name)
            make, handler = (
                (grpc.unary_stream_rpc_method_handler, self._stream(uri, permission, answer))
                if described.server_streaming
                else (grpc.unary_unary_rpc_method_handler, self._unary(uri, permission, answer))
            )
            by_service.setdefault(service, {})[method] = make(
                handler,
                request_deserializer=message_class(described.input_type).FromString,
                response_serializer=message_class(described.output_type).SerializeToString,
            )
        return [grpc.method_handlers_generic_handler(name, methods) for name, methods in by_service.items()]

    def _unary(
        self, uri: str, permission: Permission | None, answer: Callable[[Any], Any]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def handler(request: Any, context: Any) -> Any:
            fault = self._faults.take(self._name, uri)
            await _before(fault, context)
            try:
                self._admit(uri, permission, context)
                message = answer(request)
            except Refusal as refusal:
                await _after(fault, context)
                return await context.abort(_STATUS[refusal.code], refusal.sentence)
            await _after(fault, context)
            return message

        return handler

    def _stream(
        self, uri: str, permission: Permission | None, answer: Callable[[Any], AsyncIterator[Any]]
    ) -> Callable[[Any, Any], Awaitable[None]]:
        # It writes instead of yielding: gRPC would put two more steps between each update and the wire.
        async def handler(request: Any, context: Any) -> None:
            fault = self._faults.take(self._name, uri)
            await _before(fault, context)
            try:
                self._admit(uri, permission, context)
                sent = 0
                async for message in answer(request):
                    if not sent:
                        await _after(fault, context)
                    await context.write(message)
                    sent += 1
                    if fault is not None and fault.kind is Kind.CUT and sent > fault.messages - 1:
                        await _lose(context)
            except Refusal as refusal:
                await _after(fault, context)
                await context.abort(_STATUS[refusal.code], refusal.sentence)

        return handler

    def _admit(self, uri: str, permission: Permission | None, context: Any) -> None:
        if permission is None:
            return
        if self._service.guise.locked:
            raise Refusal(WALLET_LOCKED)
        macaroons = [value for key, value in context.invocation_metadata() if key == "macaroon"]
        if len(macaroons) != 1:
            raise Refusal(f"expected 1 macaroon, got {len(macaroons)}")
        self._bakery.admit(macaroons[0], [permission], uri, self._clock())


async def _before(fault: Fault | None, context: Any) -> None:
    """Whatever keeps a call from the node."""
    if fault is not None and (fault.kind is Kind.LOST_CALL or (fault.kind is Kind.CUT and not fault.messages)):
        await _lose(context)


async def _after(fault: Fault | None, context: Any) -> None:
    """Whatever keeps the answer of a call that was acted upon."""
    if fault is not None and fault.kind is Kind.LOST_ANSWER:
        await _lose(context)
    if fault is not None and fault.kind is Kind.DELAY:
        await asyncio.sleep(fault.seconds)


async def _lose(context: Any) -> None:
    """As gRPC tells a connection that ended."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
