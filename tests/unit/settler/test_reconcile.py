"""The books beside LND's lists: the whole matrix by hand, and what the settler does about each difference."""

import asyncio
import itertools
from collections.abc import Callable

import msgspec
import pytest
import structlog
from l402_settler import metrics
from l402_settler.adapters import books
from l402_settler.reconcile import BookedRung, compare_fees, compare_rungs
from l402_settler.tracking import record
from l402_settler.watch import LOOK_AGAIN_EVERY_S, Watch
from l402core import bolt11
from l402core.errors import Unavailable
from l402core.escrow import Rung
from l402core.events import Reconcile
from l402core.lnd.port import InvoiceState, InvoiceView, PaymentStatus, PaymentView

from tests.support.pages import Paged
from tests.support.settler import NODE_KEY, Stage, sha

HASH = sha("rung a 0")
MEMO = "l402-train fee"

# one letter a pair: . agrees, l lags, c contradicts
MATRIX = """
            never IN_FLIGHT SETTLED FAILED UNKNOWN
registered  .     l         l       l      .
in flight   c     .         l       l      .
settled     c     c         .       c      c
returned    .     c         c       .      c
unsent      .     c         c       c      c
"""


def payment(status: PaymentStatus, hash_: str = HASH, amount_msat: int = 100_000) -> PaymentView:
    """LND's view of one payment."""
    return PaymentView(
        payment_hash=bytes.fromhex(hash_), status=status, amount_msat=amount_msat, htlc_expiry_heights=(190,)
    )


def request(hash_: str, memo: str) -> str:
    """A payment request of our node."""
    return bolt11.encode(
        NODE_KEY, payment_hash=bytes.fromhex(hash_), payment_secret=bytes(32), timestamp=1, amount_msat=500_000,
        description=memo, expiry=3_600, min_final_cltv=80, network="simnet",
    )  # fmt: skip


def invoice(
    hash_: str, state: InvoiceState = InvoiceState.SETTLED, paid_msat: int = 500_000, memo: str = f"{MEMO} round 1"
) -> InvoiceView:
    """Our node's view of one fee invoice."""
    return InvoiceView(
        payment_hash=bytes.fromhex(hash_), bolt11=request(hash_, memo), amount_msat=500_000, paid_msat=paid_msat, state=state,
        expiry_s=1, cltv_expiry=1, created_at=1,
    )  # fmt: skip


def test_the_whole_matrix_is_as_it_was_agreed() -> None:
    """Every state of a rung beside every word of LND."""
    _, *rows = MATRIX.strip().splitlines()
    drawn = dict(zip(Rung, ((line.split()[-5:]) for line in rows), strict=True))
    statuses = [None, *(PaymentStatus(name) for name in ("IN_FLIGHT", "SETTLED", "FAILED", "UNKNOWN"))]
    for state, (column, status) in itertools.product(Rung, enumerate(statuses)):
        rung = BookedRung(payment_hash=HASH, commitment="c", amount_msat=100_000, state=state)
        found = compare_rungs([rung], {HASH: payment(status)} if status else {})
        told = "".join(one.weight[0] for one in found) or "."
        assert told == drawn[state][column], (state, status)


def test_another_amount_is_a_contradiction_even_when_the_states_agree() -> None:
    """Paid is not enough: it must be this much."""
    rung = BookedRung(payment_hash=HASH, commitment="c", amount_msat=100_000, state=Rung.SETTLED)
    (found,) = compare_rungs([rung], {HASH: payment(PaymentStatus.SETTLED, amount_msat=99_999)})
    assert (found.weight, found.amount_msat) == ("contradiction", 99_999)


def test_a_payment_that_no_rung_stands_for_is_told() -> None:
    """Somebody used our node beside the books; a failed attempt moved nothing and is not worth a word."""
    found = compare_rungs([], {HASH: payment(PaymentStatus.SETTLED), sha("x"): payment(PaymentStatus.FAILED, sha("x"))})
    assert [one.weight for one in found] == ["foreign"]


@pytest.mark.parametrize(
    ("booked", "seen", "weights"),
    [
        ({HASH: 500_000}, [invoice(HASH)], []),
        ({HASH: 500_000}, [], ["contradiction"]),
        ({HASH: 500_000}, [invoice(HASH, InvoiceState.OPEN)], ["contradiction"]),
        ({HASH: 500_000}, [invoice(HASH, paid_msat=1)], ["contradiction"]),
        ({}, [invoice(HASH)], ["lag"]),
        ({}, [invoice(HASH, InvoiceState.OPEN)], []),
        ({}, [invoice(HASH, memo="coffee")], ["foreign"]),
    ],
)
def test_fees_are_compared_by_hash_and_amount(
    booked: dict[str, int], seen: list[InvoiceView], weights: list[str]
) -> None:
    """A fee in the books that our node never received is a contradiction; the reverse is only late."""
    assert [one.weight for one in compare_fees(booked, seen, memo_prefix=MEMO)] == weights


class Lists(Paged):
    """A node of which only the lists are asked."""

    def __init__(self, payments: list[PaymentView], invoices: tuple[InvoiceView, ...] = ()) -> None:
        self.payments, self.invoices = payments, invoices

    async def list_payments(self) -> list[PaymentView]:
        return self.payments

    async def list_invoices(self) -> list[InvoiceView]:
        return list(self.invoices)


async def test_a_fee_whose_message_was_lost_is_booked_once(stage: Stage) -> None:
    """A stream that vanished took `fee.settled` with it: our node still knows, and another program's income is not ours."""
    seen = (invoice(sha("fee a")), invoice(sha("coffee"), memo="coffee"))
    watch = Watch(stage.office, Lists([], seen))  # type: ignore[arg-type]  # only its lists are asked here
    first, second = await watch.reconcile(Reconcile()), await watch.reconcile(Reconcile())
    assert [one.weight for one in first.differences] == ["foreign", "lag"]
    assert [one.weight for one in second.differences] == ["foreign"]
    await stage.fee("a")
    assert await stage.ledger() == {"fees:unclaimed": 500_000, "lightning": -500_000}


async def test_what_lags_is_joined_and_what_contradicts_is_frozen(stage: Stage) -> None:
    """LND's FAILED is joined into the books; LND's SETTLED of a returned rung freezes the escrow, and nothing moves."""
    await stage.uploaded()
    back = [payment(PaymentStatus.FAILED, sha(f"rung a {index}")) for index in range(6)]
    watch = Watch(stage.office, Lists(back))  # type: ignore[arg-type]  # only its lists are asked here
    assert {one.weight for one in (await watch.reconcile(Reconcile())).differences} == {"lag"}
    assert await stage.pending_msat() == 0
    ledger = await stage.ledger()
    watch = Watch(stage.office, Lists([payment(PaymentStatus.SETTLED, sha("rung a 0")), *back[1:]]))  # type: ignore[arg-type]  # as above
    with structlog.testing.capture_logs() as lines:
        (found,) = (await watch.reconcile(Reconcile())).differences
    assert (found.weight, found.commitment) == ("contradiction", sha("a"))
    alarms = [(line["log_level"], line["commitment"]) for line in lines if line["event"] == "ledger.contradiction"]
    assert alarms == [("critical", sha("a"))]
    assert metrics.DIFFERENCES.labels("contradiction")._value.get() == 1
    row = await stage.database.read(lambda tx: books.submission(tx, sha("a")))
    assert row is not None
    assert row.frozen
    assert await stage.ledger() == ledger


class AwayOnce(Lists):
    """It does not answer the first time."""

    asked = 0

    async def list_payments(self) -> list[PaymentView]:
        self.asked += 1
        if self.asked == 1:
            raise Unavailable("lnd", "away")
        return self.payments


async def test_the_books_are_compared_at_the_start_and_again_and_again(
    make_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, soon again where our node did not answer, and then on the schedule."""
    stage, pauses = make_stage(reconcile_s=3_600), list[float]()
    node = AwayOnce([])
    watch = Watch(stage.office, node)  # type: ignore[arg-type]  # only its lists are asked here

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("l402_settler.watch.asyncio.sleep", pause)
    with pytest.raises(asyncio.CancelledError):
        await watch.books()
    assert node.asked == 3
    assert pauses == [LOOK_AGAIN_EVERY_S, 3_600, 3_600]


async def test_a_comparison_that_takes_long_is_made_less_often(
    make_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute between two looks at 200,000 payments would be no pause at all: 30 s of work are followed by 570 without."""
    stage, pauses = make_stage(reconcile_s=60), list[float]()
    clock = iter([0.0, 30.0, 600.0, 601.0])

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise asyncio.CancelledError

    watch = Watch(stage.office, Lists([]), monotonic=lambda: next(clock))  # type: ignore[arg-type]
    monkeypatch.setattr("l402_settler.watch.asyncio.sleep", pause)
    with pytest.raises(asyncio.CancelledError):
        await watch.books()
    assert pauses == [19 * 30, 60]


async def test_a_route_that_cost_less_than_is_booked_is_told_by_its_own_weight(stage: Stage) -> None:
    """The books have seven millisatoshi of routing, our node none: no escrow is frozen, and no line is changed."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", 1))
    views = [payment(PaymentStatus.FAILED, sha(f"rung a {index}"), 100_000 << index) for index in range(6)]
    views[0] = payment(PaymentStatus.SETTLED)
    dear = msgspec.structs.replace(views[0], fee_msat=7)
    assert await record(stage.office, [dear, *views[1:]]) == []
    ledger = await stage.ledger()
    watch = Watch(stage.office, Lists(views))  # type: ignore[arg-type]  # only its lists are asked here
    (told,) = (await watch.reconcile(Reconcile())).differences
    assert (told.weight, told.books, told.lnd, told.amount_msat) == ("routing", "7 msat", "0 msat", 7)
    assert not await stage.is_frozen(sha("a"))
    assert await stage.ledger() == ledger
