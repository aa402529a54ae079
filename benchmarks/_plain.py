"""The yardstick: a plain gRPC client that makes, locks and settles hold invoices, without any service of ours."""

import asyncio
import gc
import hashlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
from l402core.lnd.stubs import invoicesrpc, lnrpc, method, routerrpc

INVOICES, ROUTER = "/invoicesrpc.Invoices/", "/routerrpc.Router/"
CALL_S = 120.0


class Plain:
    """One channel to one node, with its own admin macaroon."""

    def __init__(self, node: dict[str, Any]) -> None:
        credentials = grpc.ssl_channel_credentials(Path(node["tls_cert"]).read_bytes())
        self._channel = grpc.aio.secure_channel(node["host"], credentials)
        self._metadata = (("macaroon", Path(node["macaroons"]["admin"]).read_bytes().hex()),)
        self._methods: dict[str, Any] = {}

    def call(self, uri: str, request: Any) -> Any:
        """A unary call to await, or a stream to iterate."""
        if uri not in self._methods:
            self._methods[uri] = method(self._channel, uri)
        return self._methods[uri](request, metadata=self._metadata, timeout=CALL_S)

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close(None)


async def timed(calls: list[Callable[[], Awaitable[None]]]) -> tuple[float, list[float]]:
    """All at once: the seconds until the last is done, and those of each."""
    started = time.perf_counter()

    async def one(call: Callable[[], Awaitable[None]]) -> float:
        await call()
        return time.perf_counter() - started

    took = await asyncio.gather(*(one(call) for call in calls))
    return max(took), list(took)


async def measure(
    hub: dict[str, Any], peers: list[dict[str, Any]], *, count: int, amount_msat: int,
    begins: Callable[[str], None] = lambda stage: None,
) -> dict[str, tuple[float, list[float]]]:  # fmt: skip
    """Stage -> (seconds, seconds of each invoice): made, locked (ACCEPTED at the payee), settled (SETTLED there).

    `begins` is called with the name of each stage. The collector leaves alone what this program has imported meanwhile: a
    plain client would not have it, and looking at it all, again and again, took a quarter of the client's time.
    """
    gc.collect()
    gc.freeze()
    try:
        return await _measure(hub, peers, count=count, amount_msat=amount_msat, begins=begins)
    finally:
        gc.unfreeze()


async def _measure(
    hub: dict[str, Any], peers: list[dict[str, Any]], *, count: int, amount_msat: int, begins: Callable[[str], None]
) -> dict[str, tuple[float, list[float]]]:
    payer, payees = Plain(hub), [Plain(peer) for peer in peers]
    preimages = [os.urandom(32) for _ in range(count)]
    requests: list[str] = [""] * count

    def at(number: int) -> tuple[Plain, bytes]:
        return payees[number % len(payees)], hashlib.sha256(preimages[number]).digest()

    async def make(number: int) -> None:
        payee, hash_ = at(number)
        request = invoicesrpc.AddHoldInvoiceRequest(hash=hash_, value_msat=amount_msat, expiry=3_600, cltv_expiry=80)
        requests[number] = (await payee.call(INVOICES + "AddHoldInvoice", request)).payment_request

    async def seen(number: int, state: int) -> None:
        payee, hash_ = at(number)
        request = invoicesrpc.SubscribeSingleInvoiceRequest(r_hash=hash_)
        async for invoice in payee.call(INVOICES + "SubscribeSingleInvoice", request):
            if invoice.state == state:
                return

    async def sent(number: int) -> None:
        request = routerrpc.SendPaymentRequest(
            payment_request=requests[number], timeout_seconds=60, fee_limit_msat=10_000, cltv_limit=500
        )
        async for payment in payer.call(ROUTER + "SendPaymentV2", request):
            if payment.htlcs or payment.status != lnrpc.Payment.IN_FLIGHT:
                return

    async def lock(number: int) -> None:
        await asyncio.gather(sent(number), seen(number, lnrpc.Invoice.ACCEPTED))

    async def settle(number: int) -> None:
        payee, _ = at(number)
        await payee.call(INVOICES + "SettleInvoice", invoicesrpc.SettleInvoiceMsg(preimage=preimages[number]))
        await seen(number, lnrpc.Invoice.SETTLED)

    results = {}
    for stage, step in (("make", make), ("lock", lock), ("settle", settle)):
        begins(stage)
        results[stage] = await timed([lambda number=number, step=step: step(number) for number in range(count)])  # type: ignore[misc]
    for client in (payer, *payees):
        await client.close()
    return results
