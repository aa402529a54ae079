"""The reward's rungs at the peer's own node: made, watched until accepted, settled or cancelled. It judges nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Protocol

import structlog
from l402core.documents import Offer, Terms
from l402core.errors import Conflict, NotFound, TooLate, Unavailable
from l402core.lnd.port import InvoiceState, InvoiceView
from l402core.secret import Secret

log = structlog.get_logger()

MIN_CLTV = 24
"""LND's own minimum; a lower one in the terms is raised to it."""
EXPIRY_MARGIN_S = 600
PAUSE_S = 0.2
TRIES = 30
MAX_PAUSE_S = 5.0


class Node(Protocol):
    """What is needed of the peer's own node."""

    async def add_hold_invoice(
        self, payment_hash: bytes, *, amount_msat: int, memo: str, expiry_s: int, cltv_expiry: int
    ) -> InvoiceView: ...

    def watch_invoice(self, payment_hash: bytes) -> AsyncIterator[InvoiceView]: ...

    async def settle_invoice(self, preimage: Secret) -> None: ...

    async def cancel_invoice(self, payment_hash: bytes) -> None: ...


async def make(node: Node, offer: Offer, terms: Terms, *, name: str) -> list[str]:
    """One hold invoice per rung, in order; again gives the same ones. Raises Conflict, Unavailable."""
    life_s = (terms.judge_by_ms - terms.opened_at_ms) // 1_000 + EXPIRY_MARGIN_S
    views = [
        await node.add_hold_invoice(
            bytes.fromhex(payment_hash),
            amount_msat=amount_msat,
            memo=f"{name} round {terms.round} rung {index}",
            expiry_s=max(terms.invoice_expiry_min_s, life_s),
            cltv_expiry=min(max(terms.cltv_min, MIN_CLTV), terms.cltv_max),
        )
        for index, (payment_hash, amount_msat) in enumerate(zip(offer.reward_hashes, offer.amounts_msat, strict=True))
    ]
    return [view.bolt11 for view in views]


async def all_accepted(node: Node, offer: Offer, *, seconds: float) -> tuple[int, ...]:
    """Each rung's HTLC expiry height once all are ACCEPTED. Raises TooLate: a rung ended, or the time is over."""
    watched = [asyncio.create_task(_accepted(node, payment_hash)) for payment_hash in offer.reward_hashes]
    try:
        async with asyncio.timeout(max(seconds, 0)):
            return tuple(await asyncio.gather(*watched))
    except TimeoutError as error:
        raise TooLate("rungs_unaccepted", "not all rungs reached our node in time") from error
    finally:
        for task in watched:
            task.cancel()


async def _accepted(node: Node, payment_hash: str) -> int:
    while True:
        try:
            async for view in node.watch_invoice(bytes.fromhex(payment_hash)):
                if view.state is InvoiceState.ACCEPTED and view.htlc_expiry_heights:
                    return min(view.htlc_expiry_heights)
                if view.state in {InvoiceState.SETTLED, InvoiceState.CANCELED}:
                    raise TooLate("rung_ended", f"the invoice on {payment_hash} is {view.state}")
        except Unavailable as cut:
            log.info("rung.unwatched", payment_hash=payment_hash, code=cut.code)
        await asyncio.sleep(PAUSE_S)


async def settle(node: Node, offer: Offer, preimages: Mapping[int, Secret]) -> int:
    """Settle the rungs that we have preimages of; the msat that were settled."""
    settled_msat = 0
    for index, preimage in sorted(preimages.items()):
        if await _steadily(partial(node.settle_invoice, preimage), offer.reward_hashes[index]):
            settled_msat += offer.amounts_msat[index]
            log.info("rung.settled", commitment=offer.commitment, index=index, amount_msat=offer.amounts_msat[index])
    return settled_msat


async def cancel(node: Node, offer: Offer, *, keep: Collection[int]) -> None:
    """Cancel every rung that we have no preimage of, so that the coordinator has its money back at once."""
    for index, payment_hash in enumerate(offer.reward_hashes):
        if index in keep:
            continue
        if await _steadily(partial(node.cancel_invoice, bytes.fromhex(payment_hash)), payment_hash):
            log.info("rung.cancelled", commitment=offer.commitment, index=index)


async def _steadily(call: Callable[[], Awaitable[None]], payment_hash: str) -> bool:
    """Whether it was done. A node that does not answer is asked again, with growing pauses."""
    pause_s = PAUSE_S
    for _ in range(TRIES):
        try:
            await call()
        except Unavailable:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
        except (Conflict, NotFound) as refused:
            log.info("rung.left", payment_hash=payment_hash, code=refused.code)
            return False
        else:
            return True
    log.error("rung.unanswered", payment_hash=payment_hash)
    return False
