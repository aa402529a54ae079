"""LND's generated gRPC modules, confined here because they carry no types. It makes no call."""

from typing import Any, Final

import grpc.aio
from lndgrpc.compiled import (
    chainnotifier_pb2,
    invoices_pb2,
    lightning_pb2,
    router_pb2,
    stateservice_pb2,
)

lnrpc: Final[Any] = lightning_pb2
routerrpc: Final[Any] = router_pb2
invoicesrpc: Final[Any] = invoices_pb2
chainrpc: Final[Any] = chainnotifier_pb2
statesrpc: Final[Any] = stateservice_pb2

SERVICES: Final[dict[str, Any]] = {
    f"{module.DESCRIPTOR.package}.{name}": service
    for module in (lnrpc, routerrpc, invoicesrpc, chainrpc, statesrpc)
    for name, service in module.DESCRIPTOR.services_by_name.items()
}
"""Descriptors by full service name, such as `invoicesrpc.Invoices`."""

_MODULES: Final[dict[str, Any]] = {
    module.DESCRIPTOR.name: module for module in (lnrpc, routerrpc, invoicesrpc, chainrpc, statesrpc)
}


def message_class(descriptor: Any) -> Any:
    """The generated class of a message descriptor."""
    return getattr(_MODULES[descriptor.file.name], descriptor.name)


def method(channel: grpc.aio.Channel, uri: str) -> Any:
    """A callable for a URI such as `/invoicesrpc.Invoices/SettleInvoice`, unary or streaming as LND declares it."""
    service, _, name = uri.lstrip("/").partition("/")
    described = SERVICES[service].methods_by_name[name]
    make = channel.unary_stream if described.server_streaming else channel.unary_unary
    return make(
        uri,
        request_serializer=message_class(described.input_type).SerializeToString,
        response_deserializer=message_class(described.output_type).FromString,
    )
