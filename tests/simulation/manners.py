"""A peer's node as a peer of some manner uses it: the real client, and what the peer leaves undone or does wrong with it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from typing import Any

from l402core.lnd.grpc import GrpcNode
from l402core.lnd.port import InvoiceState, InvoiceView
from l402core.secret import Secret

from tests.simulation.cast import Manner
from tests.simulation.world import World

LATE_S = 25.0
AWAY_S = 30.0


class MannerNode:
    """`LightningNode`, as far as a peer uses it."""

    def __init__(self, world: World, node: GrpcNode, manner: Manner, set_online: Callable[[bool], None]) -> None:
        self._world, self._node, self._manner, self._set_online = world, node, manner, set_online

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    async def add_hold_invoice(self, payment_hash: bytes, *, amount_msat: int, **terms: Any) -> InvoiceView:
        if self._manner is Manner.WRONG_INVOICES:
            amount_msat += 1_000
        view = await self._node.add_hold_invoice(payment_hash, amount_msat=amount_msat, **terms)
        if self._manner is Manner.REFUSES_RUNGS:
            await self._node.cancel_invoice(payment_hash)
        if self._manner is Manner.OUT_OF_REACH:
            self._set_online(False)
            self._world.loop.call_later(AWAY_S, self._set_online, True, context=Context())
        return view

    async def watch_invoice(self, payment_hash: bytes) -> AsyncIterator[InvoiceView]:
        if self._manner is Manner.CLAIMS_EARLY:
            view = await self._node.lookup_invoice(payment_hash)
            if view is not None:
                yield InvoiceView(
                    payment_hash=payment_hash, bolt11=view.bolt11, amount_msat=view.amount_msat, paid_msat=0,
                    state=InvoiceState.ACCEPTED, expiry_s=view.expiry_s, cltv_expiry=view.cltv_expiry,
                    created_at=view.created_at, htlc_expiry_heights=(490,),
                )  # fmt: skip
        if self._manner is Manner.NEVER_CLAIMS:
            await self._world.loop.create_future()
        async for view in self._node.watch_invoice(payment_hash):
            yield view

    async def settle_invoice(self, preimage: Secret) -> None:
        if self._manner is Manner.NEVER_SETTLES:
            return
        if self._manner is Manner.SETTLES_LATE:
            await asyncio.sleep(LATE_S)
        await self._node.settle_invoice(preimage)

    async def cancel_invoice(self, payment_hash: bytes) -> None:
        if self._manner is not Manner.NEVER_CANCELS:
            await self._node.cancel_invoice(payment_hash)
