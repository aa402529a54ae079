"""The adapter is the port: same names, same types (mypy reads this file, too)."""

import inspect

from l402core.lnd.grpc import GrpcNode
from l402core.lnd.port import LightningNode


def as_port(node: GrpcNode) -> LightningNode:
    """Type-checks only while every method of the port is there with its types."""
    return node


def test_the_adapter_has_every_method_of_the_port() -> None:
    """With the same parameters, in the same order."""
    promised = {name: item for name, item in vars(LightningNode).items() if inspect.isfunction(item) and name[0] != "_"}
    assert len(promised) > 15
    for name, method in promised.items():
        assert list(inspect.signature(getattr(GrpcNode, name)).parameters) == list(inspect.signature(method).parameters)
