"""What the contract asks of a network to be tried: four nodes, their endpoints, and someone who mines."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio
import pytest
from l402core.errors import L402Error
from l402core.lnd.stubs import invoicesrpc, lnrpc
from l402core.lnd.wire import LndEndpoint, Wire
from lndsim import Simulation

CAPACITY_MSAT = 16_000_000_000
"""Of each channel, alice → bob and twice bob → carol; all of it is with the openers at first. Dave has none."""
PATIENCE_S = 20.0

LOOKUP = "/lnrpc.Lightning/LookupInvoice"
LOOKUP_V2 = "/invoicesrpc.Invoices/LookupInvoiceV2"

MOVES = ("SendCoins", "SendMany", "SendPaymentSync", "SendToRouteSync", "NewAddress")
OPENS = ("OpenChannelSync", "CloseChannel", "UpdateChannelPolicy", "ConnectPeer")
FORGETS = ("DeletePayment", "DeleteAllPayments", "StopDaemon")
LNDSIM_LACKS = frozenset(
    (
        *(f"/lnrpc.Lightning/{name}" for name in (*MOVES, *OPENS, *FORGETS)),
        *(f"/routerrpc.Router/{name}" for name in ("SendToRouteV2", "ResetMissionControl", "HtlcInterceptor")),
    )
)
"""What moves money out in another way, or forgets where it went."""

T = TypeVar("T")


class Backend(Protocol):
    """Alice has a channel to bob, bob two to carol, dave none."""

    before_any: dict[str, tuple[str, str]]
    """What `look_up_before_any` was told."""
    lacks: frozenset[str]
    """Calls of some lnd that it does not have at all."""

    def endpoint(self, name: str, macaroon: str = "admin") -> LndEndpoint: ...

    async def mine(self, blocks: int) -> None: ...


class SimBackend:
    """lndsim, in this process."""

    lacks = LNDSIM_LACKS

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def build(self) -> None:
        """Four nodes and three channels."""
        for name in ("alice", "bob", "carol", "dave"):
            await self._simulation.add_node(name)
        self._simulation.network.open_channel("alice", "bob", CAPACITY_MSAT)
        for _ in range(2):
            self._simulation.network.open_channel("bob", "carol", CAPACITY_MSAT)
        self.before_any = await look_up_before_any(self)

    def endpoint(self, name: str, macaroon: str = "admin") -> LndEndpoint:
        return self._simulation.endpoint(name, macaroon)

    async def mine(self, blocks: int) -> None:
        self._simulation.network.mine(blocks)


def a_secret() -> tuple[bytes, bytes]:
    """A fresh preimage and its hash: networks are shared, hashes never."""
    preimage = secrets.token_bytes(32)
    return preimage, hashlib.sha256(preimage).digest()


async def until(ask: Callable[[], Awaitable[T]], wanted: Callable[[T], bool]) -> T:
    """Ask until the answer is the wanted one; fails after PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await ask()
            if wanted(answer):
                return answer
            await asyncio.sleep(0.02)


async def said(wire: Wire, uri: str, request: Any) -> str:
    """LND's own words to a unary call: the sentence it refuses with, or "" when it does not."""
    try:
        await wire.call(uri, request)
    except L402Error as error:
        return sentence(error)
    return ""


async def said_first(wire: Wire, uri: str, request: Any) -> str:
    """The same for a stream, up to its first message."""
    updates = wire.stream(uri, request)
    try:
        async for _ in updates:
            break
    except L402Error as error:
        return sentence(error)
    finally:
        await updates.aclose()
    return ""


async def look_up_before_any(backend: Backend) -> dict[str, tuple[str, str]]:
    """What dave's two look-ups refuse with while he has never made an invoice."""
    wire, payment_hash = Wire(backend.endpoint("dave")), a_secret()[1]
    try:
        return {
            "LookupInvoiceV2": await refused(wire, LOOKUP_V2, invoicesrpc.LookupInvoiceMsg(payment_hash=payment_hash)),
            "LookupInvoice": await refused(wire, LOOKUP, lnrpc.PaymentHash(r_hash=payment_hash)),
        }
    finally:
        await wire.close()


async def refused(wire: Wire, uri: str, request: Any) -> tuple[str, str]:
    """The name of the status with which a unary call is refused, and the sentence."""
    with pytest.raises(L402Error) as raised:
        await wire.call(uri, request)
    return _cause(raised.value).code().name, sentence(raised.value)


def sentence(error: L402Error) -> str:
    """The words under one of our errors."""
    return _cause(error).details() or ""


def status(failed: pytest.ExceptionInfo[L402Error]) -> grpc.StatusCode:
    """The gRPC status under one of our errors."""
    return _cause(failed.value).code()


def _cause(error: L402Error) -> grpc.aio.AioRpcError:
    cause = error.__cause__
    assert isinstance(cause, grpc.aio.AioRpcError)
    return cause
