"""How long one comparison of the books with a node's lists takes, for the past that `_history` made; and how much memory.

The lists are made here, page by page, in LND's own messages, and read as an answer of LND would be; only the wire between
is left out. The time it takes to make them is told apart.
"""

import resource
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
from _history import RUNGS
from l402_settler.adapters.tables import outbox
from l402_settler.config import Config
from l402_settler.office import NodeSight, Office
from l402_settler.reconciling import Reconciling
from l402core.lnd.port import ChannelView, InvoiceView, PaymentView
from l402core.lnd.stubs import lnrpc
from l402core.lnd.views import invoice_view, payment_view
from l402core.outbox import Database
from l402core.rings import SigningRing
from l402core.signing import SigningKey

PAGE = 1_000


class Lists:
    """A node that paid every rung of the past and received every fee."""

    def __init__(self, escrows: int) -> None:
        self._escrows = escrows
        self.made_s = 0.0

    async def payment_pages(self) -> AsyncIterator[list[PaymentView]]:
        """Every rung, in the order in which it was paid."""
        numbers = ((escrow, rung) for escrow in range(1, self._escrows + 1) for rung in range(RUNGS))
        for page in self._pages((_payment(*number) for number in numbers), "payments", lnrpc.ListPaymentsResponse):
            yield [payment_view(payment) for payment in page]

    async def invoice_pages(self) -> AsyncIterator[list[InvoiceView]]:
        """Every fee."""
        fees = (_invoice(escrow) for escrow in range(1, self._escrows + 1))
        for page in self._pages(fees, "invoices", lnrpc.ListInvoiceResponse):
            yield [invoice_view(invoice) for invoice in page]

    def _pages(self, messages: Iterator[Any], field: str, answer: Any) -> Iterator[Any]:
        while True:
            started = time.perf_counter()
            page = [message for _, message in zip(range(PAGE), messages, strict=False)]
            sent = answer(**{field: page}).SerializeToString()
            self.made_s += time.perf_counter() - started
            if not page:
                return
            yield getattr(answer.FromString(sent), field)

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """Nobody doubts."""
        raise NotImplementedError(payment_hash.hex())

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None:
        """Nobody doubts."""
        raise NotImplementedError(payment_hash.hex())

    async def channels(self) -> list[ChannelView]:
        """None."""
        return []

    async def closing_channels(self) -> int:
        """None."""
        return 0


def _payment(escrow: int, rung: int) -> Any:
    amount = 1_000 << rung
    hop = lnrpc.Hop(chan_id=1 << 60, expiry=500, amt_to_forward_msat=amount, pub_key="02" * 33)
    route = lnrpc.Route(total_time_lock=500, total_amt_msat=amount, hops=[hop])
    return lnrpc.Payment(
        payment_hash=f"{escrow * 8 + rung:064x}", value_msat=amount, status=lnrpc.Payment.SUCCEEDED,
        payment_preimage="ab" * 32, payment_request="lnbcrt" + "q" * 320,
        htlcs=[lnrpc.HTLCAttempt(status=lnrpc.HTLCAttempt.SUCCEEDED, route=route)],
    )  # fmt: skip


def _invoice(escrow: int) -> Any:
    return lnrpc.Invoice(
        r_hash=escrow.to_bytes(32, "big"), value_msat=500_000, amt_paid_msat=500_000, state=lnrpc.Invoice.SETTLED,
        payment_request="lnbcrt" + "q" * 320, settle_index=escrow, add_index=escrow,
    )  # fmt: skip


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What comparing all of it once took."""

    took_s: float
    """Without making the node's lists."""
    told: str
    """One line."""


async def reconciled(url: str, escrows: int) -> Compared:
    """Compare all of it once. Raises ValueError where anything differs."""
    lists, database = Lists(escrows), Database(url, outbox)
    office = Office(
        Config.model_construct(attestor_public=""), keys=SigningRing.of(SigningKey(b"\x01" * 32)), database=database,
        now_ms=lambda: 0, new_id=lambda: "",
    )  # fmt: skip
    office.sight = NodeSight(height=600)
    before, started, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    found = await Reconciling(office, lists, record=_nothing, freeze=_nothing).reconcile()
    took_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    database.close()
    if found.differences or (found.rungs, found.fees) != (RUNGS * escrows, escrows):
        raise ValueError(f"{len(found.differences)} differences in {found.rungs} rungs and {found.fees} fees")
    told = (
        f"{found.rungs:,} rungs and {found.fees:,} fees in {took_s - lists.made_s:.1f} s "
        f"(and {lists.made_s:.1f} s to make the node's lists; {cpu_s:.1f} s of processor time in all), "
        f"{_peak_mb() - before:.0f} MB more at the peak"
    )
    return Compared(took_s=took_s - lists.made_s, told=told)


async def _nothing(*_: object) -> None:
    raise NotImplementedError("nothing differs")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
