"""A Lightning node in the same process: the real client's logic over lndsim's real answers, with a wire that may fail.

`GrpcNode` makes the calls and reads the answers as it does over gRPC; only bytes and sockets are left out.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import grpc.aio
from grpc.aio import Metadata
from l402core.errors import L402Error, Unavailable
from l402core.lnd.answers import fault_of
from l402core.lnd.grpc import GrpcNode
from lndsim.hub import Hub
from lndsim.macaroon import Bakery
from lndsim.network import Network
from lndsim.refusal import Refusal
from lndsim.service import LndService

from tests.simulation.faults import Fault, Kind
from tests.simulation.loop import OWNER
from tests.simulation.world import World

ACTS = frozenset({"AddInvoice", "AddHoldInvoice", "SettleInvoice", "CancelInvoice", "SendPaymentV2"})
"""Calls that change something at the node; the others look."""


class Wire:
    """`l402core.lnd.wire.Wire` without a wire."""

    def __init__(self, world: World, service: LndService, name: str, calls: "Calls") -> None:
        self._world, self._service, self._name, self._calls = world, service, name, calls

    async def call(self, uri: str, request: Any, *, payment_hash: bytes = b"") -> Any:
        """One unary call."""
        world = self._world
        strike = self._calls.strike(uri, self._name)
        await world.pause()
        if self._calls.away(self._name) or (strike is not None and strike.kind is Kind.LND_CALL_LOST):
            raise _lost(uri)
        answer = self._act(uri, request)
        await world.pause()
        if strike is not None:
            raise _lost(uri)
        return answer

    def _act(self, uri: str, request: Any) -> Any:
        name = uri.rpartition("/")[2]
        answer = getattr(self._service, _snake(name))
        try:
            if name not in ACTS:
                self._world.living()
                return answer(request)
            with self._world.effect(f"{name} at {self._name}"):
                return answer(request)
        except Refusal as refusal:
            raise fault_of(_rpc_error(grpc.StatusCode[refusal.code.name], refusal.sentence), uri) from refusal

    async def stream(
        self, uri: str, request: Any, *, payment_hash: bytes = b"", deadline_s: float | None = None
    ) -> AsyncGenerator[Any, None]:
        """A stream; the node acts when it is asked for the first message."""
        world, name = self._world, uri.rpartition("/")[2]
        strike = self._calls.strike(uri, self._name)
        await world.pause()
        if self._calls.away(self._name) or (strike is not None and strike.kind is Kind.LND_CALL_LOST):
            raise _lost(uri)
        updates = getattr(self._service, _snake(name))(request)
        try:
            if name in ACTS:
                with world.effect(f"{name} at {self._name}"):
                    first = await anext(updates)
                await world.pause()
                if strike is not None:
                    raise _lost(uri)
                yield first
            elif strike is not None:
                raise _lost(uri)
            async for message in self._within(updates, deadline_s, uri):
                if self._calls.away(self._name):
                    raise _lost(uri)
                yield message
        except Refusal as refusal:
            raise fault_of(_rpc_error(grpc.StatusCode[refusal.code.name], refusal.sentence), uri) from refusal

    async def _within(self, updates: Any, deadline_s: float | None, uri: str) -> AsyncGenerator[Any, None]:
        loop = asyncio.get_running_loop()
        ends_at = None if deadline_s is None else loop.time() + deadline_s
        while True:
            try:
                async with asyncio.timeout_at(ends_at):
                    message = await anext(updates)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise fault_of(_rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline"), uri) from None
            await self._world.pause()
            yield message

    async def close(self) -> None:
        """Nothing to close."""


class Calls:
    """All nodes of a history, their calls counted together."""

    def __init__(self, world: World, network: Network) -> None:
        self._world, self.network = world, network
        self._hub = Hub(network)
        self._count = 0
        self._away: set[str] = set()

    def strike(self, uri: str, name: str) -> Fault | None:
        """What meets this call, the next of all calls to all nodes."""
        self._count += 1
        world = self._world
        if not world.calm:
            world.at_call(world, self._count, f"{OWNER.get()} calls {uri.rpartition('/')[2]} at {name}")
        return world.strikes(self._count, Kind.LND_CALL_LOST, Kind.LND_ANSWER_LOST)

    def away(self, name: str) -> bool:
        """Whether the node's server does not answer now."""
        return name in self._away

    def set_away(self, name: str, away: bool) -> None:
        """Stop or start the node's server; the node itself stays on the network."""
        (self._away.add if away else self._away.discard)(name)

    def connect(self, name: str) -> GrpcNode:
        """A client of the node."""
        node = self.network.nodes[name]
        service = LndService(self.network, self._hub, node, Bakery(node.secret_key))
        return GrpcNode(Wire(self._world, service, name, self))  # type: ignore[arg-type]  # it has the same two methods


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _lost(uri: str) -> L402Error:
    return Unavailable("lnd_unavailable", f"LND does not answer {uri} (UNAVAILABLE): Socket closed")


def _rpc_error(code: grpc.StatusCode, sentence: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, Metadata(), Metadata(), sentence, "")
