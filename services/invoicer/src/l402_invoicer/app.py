"""The invoicer's story: it mints fees, books them as they settle, and locks reward ladders. It never ends an escrow."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import msgspec
import structlog
from l402core import bolt11, telemetry
from l402core.delivering import MONEY_PATIENCE, Consumer
from l402core.documents import LADDER
from l402core.errors import CallerError, L402Error, Unauthorized, Unavailable
from l402core.events import (
    DispatchedRung,
    EscrowDispatched,
    EscrowLock,
    EscrowRefused,
    Event,
    FeeMint,
    FeeMinted,
    FeeSettled,
    SponsorshipMint,
    WorkDead,
)
from l402core.lnd.port import InvoiceState, InvoiceView, PaymentStatus, PaymentView
from l402core.succession import Successions

from l402_invoicer.config import Config
from l402_invoicer.policy import (
    Caps,
    FeeCaps,
    Ladder,
    Rung,
    Sent,
    Step,
    check_fee,
    check_ladder,
    check_sent,
    step_for,
    too_late,
)
from l402_invoicer.stops import FROZEN, THAWED, Asks, Notes, Stops

log = structlog.get_logger()
T = TypeVar("T")
K = TypeVar("K")

CONSUMERS: tuple[Consumer, ...] = (
    Consumer("invoicer", EscrowLock, workers=32, patience=MONEY_PATIENCE),
    Consumer("invoicer", SponsorshipMint, patience=MONEY_PATIENCE),
    FROZEN,
    THAWED,
)

DIGIT = {status: number for number, status in enumerate(PaymentStatus, 1)}
"""Of a rung in the revision of what is told of its ladder; 0 where nothing is told of it."""
REMEMBERED = 10_000
FIRST_PAUSE_S = 0.2
FIRST_LOOK_S = 0.5
UNSENT_MS = 60_000
"""So long after its last moment, "never seen" means that it was never sent."""
FORGET_EVERY_S, FORGET_AT_ONCE = 30.0, 256
AMBIGUOUS_S = 2.0
"""For so long after a send, LND's "never seen" may only mean "not yet written"."""


class Node(Protocol):
    """What is needed of LND: the methods of `l402core.lnd.port.LightningNode` that begin obligations."""

    async def add_invoice(self, *, amount_msat: int, memo: str, expiry_s: int, cltv_expiry: int) -> InvoiceView: ...

    def watch_invoices(self, *, settle_index: int) -> AsyncIterator[InvoiceView]: ...

    async def list_invoices(self) -> list[InvoiceView]: ...

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None: ...

    async def pay(
        self, bolt11: str, *, timeout_s: int, fee_limit_msat: int, cltv_limit: int, max_parts: int = 1
    ) -> PaymentView: ...


class Publisher(Protocol):
    """The bus, as far as facts are concerned."""

    async def publish(self, event: Event, *, parent: str = "") -> None: ...


class Cursor(Protocol):
    """The last settle index that was published."""

    def read(self) -> int: ...

    def advance(self, settle_index: int) -> None: ...


class Tally(Notes, Protocol):
    """What may have been sent, on disk. Calls block for a moment."""

    def reserve(
        self, round_: int, amounts: Mapping[bytes, int], now_ms: int, allow: Callable[[Sent, int], None], until_ms: int
    ) -> None: ...

    def release(self, payment_hashes: list[bytes]) -> None: ...

    def confirm(self, payment_hashes: list[bytes]) -> None: ...

    def unconfirmed(self, before_ms: int, limit: int) -> list[bytes]: ...


class Invoicer:
    """All handlers. `now_ms` is the clock, `monotonic` measures how long ago something was sent."""

    def __init__(
        self, config: Config, node: Node, bus: Publisher, cursor: Cursor, tally: Tally, *, now_ms: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic, successions: Successions | None = None,
        settler: Asks | None = None,
    ) -> None:  # fmt: skip
        self._config, self._node, self._bus, self._cursor, self._now_ms = config, node, bus, cursor, now_ms
        self._tally, self._monotonic = tally, monotonic
        self._fee_caps = FeeCaps(amount_max_msat=config.fee_max_msat, expiry_max_s=config.fee_expiry_max_s)
        self._attestor = (successions or Successions(None)).trusted("attestor", config.attestor)
        self._caps = Caps(
            attestor=config.attestor,
            network=config.lnd_network,
            payment_max_msat=config.payment_max_msat,
            ladder_max_msat=config.ladder_max_msat,
            round_max_msat=config.round_max_msat,
            day_max_msat=config.day_max_msat,
            routing_fee_max_msat=config.routing_fee_max_msat,
            cltv_limit_max=config.cltv_limit_max,
        )
        self.stops = Stops(tally, now_ms=now_ms, settler=settler)
        self._sending = asyncio.Semaphore(config.rungs_at_once)
        self._sent_at: OrderedDict[bytes, float] = OrderedDict()
        self._traces: OrderedDict[str, str] = OrderedDict()

    async def mint_fee(self, ask: FeeMint) -> FeeMinted:
        """A plain fee invoice on our node. Raises Malformed, TooLarge, Unavailable."""
        check_fee(ask, self._fee_caps)
        invoice = await _ours(
            self._node.add_invoice(
                amount_msat=ask.amount_msat,
                memo=f"{self._config.memo_prefix} round {ask.round} {ask.commitment[:16]}",
                expiry_s=ask.expiry_s,
                cltv_expiry=self._config.fee_cltv_expiry,
            )
        )
        payment_hash = invoice.payment_hash.hex()
        _remember(self._traces, payment_hash, telemetry.traceparent())
        log.info("fee.minted", round=ask.round, commitment=ask.commitment, payment_hash=payment_hash)
        return FeeMinted(
            payment_hash=payment_hash,
            bolt11=invoice.bolt11,
            expires_at_ms=(invoice.created_at + invoice.expiry_s) * 1_000,
        )

    def _caps_for(self, signer: str) -> Caps:
        """Our caps, with the attestor's key or that heir of it which signed. Raises Unauthorized for anybody else's."""
        if not self._caps.attestor:
            return self._caps
        return msgspec.structs.replace(self._caps, attestor=self._attestor.check(signer))

    async def watch_fees(self) -> None:
        """Publish each fee as it settles, from the last one published; listens again whenever it is cut off."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._publish_past_fees()
                async for invoice in self._node.watch_invoices(settle_index=self._cursor.read()):
                    pause_s = FIRST_PAUSE_S
                    await self._publish_fee(invoice)
            except (Unavailable, Unauthorized) as error:
                log.warning("fees.unheard", code=error.code, detail=error.detail, again_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._config.retry_max_s)

    async def _publish_past_fees(self) -> None:
        """Without a cursor: LND's stream tells nothing of the past from index 0, so look until there is a first one."""
        while not self._cursor.read():
            try:
                invoices = await self._node.list_invoices()
            except Unauthorized as refused:
                log.info("fees.past_unread", detail=refused.detail)  # the settler's reconcile sees them all the same
                return
            settled = [invoice for invoice in invoices if invoice.state is InvoiceState.SETTLED]
            for invoice in sorted(settled, key=lambda invoice: invoice.settle_index):
                await self._publish_fee(invoice)
            if not settled:
                await asyncio.sleep(FIRST_LOOK_S)

    async def _publish_fee(self, invoice: InvoiceView) -> None:
        """Publish, then move the cursor: a crash in between publishes again, which is the same message."""
        if self._is_fee(invoice):
            payment_hash = invoice.payment_hash.hex()
            fact = FeeSettled(
                id=f"fee-{payment_hash}",
                occurred_at_ms=self._now_ms(),
                payment_hash=payment_hash,
                amount_msat=invoice.paid_msat,
                settle_index=invoice.settle_index,
            )
            await self._bus.publish(fact, parent=self._traces.pop(payment_hash, ""))
            log.info("fee.settled", payment_hash=payment_hash, amount_msat=invoice.paid_msat)
        self._cursor.advance(invoice.settle_index)

    def _is_fee(self, invoice: InvoiceView) -> bool:
        try:
            memo = bolt11.decode(invoice.bolt11).description or ""
        except bolt11.InvalidInvoice:
            return False  # a keysend or another program's invoice has no request of ours
        return memo.startswith(self._config.memo_prefix)

    async def lock_ladder(self, work: EscrowLock) -> None:
        """Pay the rungs that LND has never seen; say of each how it stands. Raises Unavailable: try again later."""
        try:
            ladder = check_ladder(work, self._caps_for(work.offer.signer))
            await self._reserve(work, ladder)
        except CallerError as refused:
            await self._refuse(work, refused)
            return
        outcomes = await asyncio.gather(
            *(self._lock_rung(work, ladder, rung) for rung in ladder.rungs), return_exceptions=True
        )
        told = {
            rung.index: known
            for rung, known in zip(ladder.rungs, outcomes, strict=True)
            if isinstance(known, PaymentView)
        }
        if told:
            await self._dispatched(work, told)
        refusals = [outcome for outcome in outcomes if isinstance(outcome, CallerError)]
        if refusals:
            await self._refuse(work, refusals[0])
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, CallerError):
                raise outcome

    async def _reserve(self, work: EscrowLock, ladder: Ladder) -> None:
        """Remember before anything is sent; what is too late will not be. Raises TooLarge, Unavailable."""
        now_ms = self._now_ms()
        if now_ms < ladder.not_after_ms:
            await asyncio.to_thread(
                self._tally.reserve, work.round, ladder.most_msat(), now_ms,
                lambda sent, more_msat: check_sent(sent, more_msat, self._caps), ladder.not_after_ms,
            )  # fmt: skip

    async def forget_unsent(self) -> None:
        """What was counted and never sent makes room again, once it cannot be sent any more; for ever.

        A process that dies between the two, a ladder of which half was too late: the caps of a day would fill with them.
        """
        while True:
            try:
                await self.look_for_unsent()
            except (Unavailable, Unauthorized) as error:
                log.warning("tally.waits", code=error.code, detail=error.detail)
            await asyncio.sleep(FORGET_EVERY_S)

    async def look_for_unsent(self) -> None:
        """One look at the oldest of them. Raises Unavailable."""
        before_ms = self._now_ms() - UNSENT_MS
        for payment_hash in await asyncio.to_thread(self._tally.unconfirmed, before_ms, FORGET_AT_ONCE):
            known = await _ours(self._node.lookup_payment(payment_hash))
            if known is None or known.status is PaymentStatus.FAILED:
                await asyncio.to_thread(self._tally.release, [payment_hash])
                why = "lnd never heard of it" if known is None else "it failed"
                log.info("rung.counts_no_more", payment_hash=payment_hash.hex(), why=why)
            elif known.status is not PaymentStatus.UNKNOWN:
                await asyncio.to_thread(self._tally.confirm, [payment_hash])

    async def _lock_rung(self, work: EscrowLock, ladder: Ladder, rung: Rung) -> PaymentView:
        async with self._sending:
            known = await self._known(rung)
            step = step_for(known, now_ms=self._now_ms(), not_after_ms=ladder.not_after_ms)
            if step is Step.LATE:
                raise too_late(rung.index)
            if step is Step.SEND:
                self.stops.check(work.commitment)
                known = await self._send(ladder, rung)
        assert known is not None
        return known

    async def _known(self, rung: Rung) -> PaymentView | None:
        """What LND knows of the hash. Raises Unavailable while "never seen" is not to be trusted."""
        known = await _ours(self._node.lookup_payment(rung.payment_hash))
        sent_at = self._sent_at.get(rung.payment_hash)
        if known is None and sent_at is not None and self._monotonic() - sent_at < AMBIGUOUS_S:
            raise Unavailable("lnd_ambiguous", f"rung {rung.index} was sent a moment ago and LND does not find it yet")
        return known

    async def _send(self, ladder: Ladder, rung: Rung) -> PaymentView:
        _remember(self._sent_at, rung.payment_hash, self._monotonic())
        return await _ours(
            self._node.pay(
                rung.bolt11,
                timeout_s=self._config.pay_timeout_s,
                fee_limit_msat=ladder.fee_limit_msat,
                cltv_limit=ladder.cltv_limit,
            )
        )

    async def _dispatched(self, work: EscrowLock, told: Mapping[int, PaymentView]) -> None:
        """UNKNOWN and FAILED are told as they are: the settler tracks the hash, and nobody sends it again."""
        failed = [known.payment_hash for known in told.values() if known.status is PaymentStatus.FAILED]
        if failed:
            await asyncio.to_thread(self._tally.release, failed)
        fact = EscrowDispatched(
            id=f"dispatched-{work.commitment}-{work.revision}",
            occurred_at_ms=self._now_ms(),
            revision=_revision(work, told),
            round=work.round,
            commitment=work.commitment,
            rungs=tuple(
                DispatchedRung(index=index, payment_hash=known.payment_hash.hex(), status=known.status)
                for index, known in told.items()
            ),
        )
        await self._bus.publish(fact)
        log.info(
            "escrow.dispatched", commitment=work.commitment,
            rungs={str(index): str(known.status) for index, known in told.items()},
        )  # fmt: skip

    async def give_up(self, subject: str, _body: bytes, error: Exception) -> None:
        """A request that will not come again: the settler freezes what it is about. Raises Unavailable."""
        await self._bus.publish(
            WorkDead(
                id=f"dead-{subject}", occurred_at_ms=self._now_ms(), revision=self._now_ms(), request=subject,
                reason=str(error)[:500],
            )
        )  # fmt: skip
        log.critical("work.dead", request=subject, error=type(error).__name__, detail=str(error))

    async def _refuse(self, work: EscrowLock, refused: L402Error) -> None:
        reason = f"{refused.code}: {refused.detail}"
        fact = EscrowRefused(
            id=f"refused-{work.commitment}",
            occurred_at_ms=self._now_ms(),
            round=work.round,
            commitment=work.commitment,
            reason=reason,
        )
        await self._bus.publish(fact)
        log.info("escrow.refused", commitment=work.commitment, reason=reason)


def _revision(work: EscrowLock, told: Mapping[int, PaymentView]) -> int:
    """A ladder told again in other states is another message; told again in the same ones, the same message.

    As many digits for each ladder, however few rungs it has: one that is offered again is not taken for another.
    """
    number = work.revision
    for index in range(len(LADDER)):
        number = number * (len(DIGIT) + 1) + (DIGIT[told[index].status] if index in told else 0)
    return number


async def _ours(call: Awaitable[T]) -> T:
    """The node's answer. That our own macaroon is refused is our trouble, not that of whoever asked."""
    try:
        return await call
    except Unauthorized as refused:
        raise Unavailable(refused.code, refused.detail) from refused


def _remember(memory: OrderedDict[K, T], key: K, value: T) -> None:
    """Keep the newest entries only."""
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)
