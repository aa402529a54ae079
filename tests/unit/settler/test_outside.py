"""What our node paid or was paid past the books is explained by a person, once, and books and node agree from then on."""

from pathlib import Path

import msgspec
import pytest
from l402_settler import metrics
from l402_settler.adapters import fee_books, journal
from l402_settler.adapters.outside_books import outside_of
from l402_settler.by_hand import ByHand
from l402_settler.ledger import opening
from l402_settler.watch import Watch
from l402_settler.writing_off import WritingOff
from l402core.errors import Conflict, L402Error, Malformed, NotFound
from l402core.events import LedgerDifference, Reconcile, WriteOff, WrittenOff
from l402core.lnd.port import InvoiceState, InvoiceView, PaymentStatus, PaymentView

from tests.support.settler import PEER, Stage, sha
from tests.support.sponsors import AMOUNT, Patron, patron, payment_hash
from tests.unit.settler.test_owed_by_hand import HASH as BY_HAND
from tests.unit.settler.test_owed_by_hand import end, order, unclaimed
from tests.unit.settler.test_reconcile import Lists, invoice, payment
from tests.unit.settler.test_settler_owed import OWED

__all__ = ["unclaimed"]  # a fixture
A, UNIT, FEE = sha("a"), 100_000, 500_000
STRANGE, GIFT = sha("somebody else's"), sha("a gift")
SETTLED, FAILED = PaymentStatus.SETTLED, PaymentStatus.FAILED
REASON = "the shop's rent"


def strange(hash_: str = STRANGE, amount_msat: int = 70_000, fee_msat: int = 9, sent_at_ms: int = 0) -> PaymentView:
    """A payment that none of our services made."""
    return msgspec.structs.replace(
        payment(SETTLED, hash_, amount_msat), fee_msat=fee_msat, htlc_expiry_heights=(), sent_at_ms=sent_at_ms
    )


def gift(hash_: str = GIFT, paid_msat: int = 3_000, settled_at: int = 0, memo: str = "a coffee") -> InvoiceView:
    """An invoice that our invoicer did not make, and somebody paid."""
    return msgspec.structs.replace(invoice(hash_, paid_msat=paid_msat, memo=memo), settled_at=settled_at)


async def explain(stage: Stage, node: Lists, hash_: str = STRANGE, reason: str = REASON) -> WrittenOff:
    """The order."""
    return await WritingOff(stage.office, node).write_off(WriteOff(payment_hash=hash_, by=" ann ", reason=reason))


async def reconciled(stage: Stage, node: Lists) -> tuple[LedgerDifference, ...]:
    """One comparison, told to Prometheus as well."""
    watch = Watch(stage.office, node)  # type: ignore[arg-type]  # only its lists are asked here
    return (await watch.reconcile(Reconcile())).differences


def alarmed() -> float:
    """What the alert looks at."""
    return float(metrics.DIFFERENCES.labels("foreign")._value.get())


async def test_a_foreign_payment_is_explained_once_and_books_and_node_agree(stage: Stage) -> None:
    """Amount and fee as our node tells; told twice it is booked once; who said it and why stands in the books."""
    node = Lists([strange()])
    assert [(one.weight, one.what) for one in await reconciled(stage, node)] == [("foreign", "payment")]
    assert alarmed() == 1
    for reason in (REASON, "another word, later"):
        assert await explain(stage, node, reason=reason) == WrittenOff(
            payment_hash=STRANGE, what="payment", about=STRANGE, lost_msat=70_009
        )
    assert await stage.ledger() == {"lightning": 70_009, "outside": -70_009}
    assert (await reconciled(stage, node), alarmed()) == ((), 0)
    (row,) = await stage.database.read(lambda tx: outside_of(tx, [STRANGE]))
    assert (row.way, row.amount_msat, row.fee_msat, row.by, row.reason, row.at_ms) == (
        "out", 70_000, 9, "ann", REASON, stage.now_ms,
    )  # fmt: skip


async def test_a_foreign_receipt_is_explained_as_well(stage: Stage) -> None:
    """What our node was paid for no fee of ours."""
    node = Lists([], (gift(),))
    assert [(one.weight, one.what) for one in await reconciled(stage, node)] == [("foreign", "receipt")]
    for _ in range(2):
        told = await explain(stage, node, GIFT)
        assert (told.what, told.lost_msat) == ("receipt", -3_000)
    assert await stage.ledger() == {"lightning": -3_000, "outside": 3_000}
    assert (await reconciled(stage, node), alarmed()) == ((), 0)


async def test_a_payment_to_ourselves_goes_both_ways_and_costs_its_fee(stage: Stage) -> None:
    """Channels were balanced: one order explains both, also where the second way ends later."""
    node = Lists([strange(GIFT, amount_msat=3_000)])
    assert (await explain(stage, node, GIFT)).lost_msat == 3_009
    node.invoices = (gift(),)
    assert [one.what for one in await reconciled(stage, node)] == ["receipt"]
    for _ in range(2):
        told = await explain(stage, node, GIFT)
        assert (told.what, told.lost_msat) == ("payment", 9)
    assert await stage.ledger() == {"lightning": 9, "outside": -9}
    assert await reconciled(stage, node) == ()


async def test_what_is_older_than_the_books_is_in_their_opening_balance(stage: Stage) -> None:
    """A node that had a life before: its payments are explained, and not taken off a second time."""
    now_ms = stage.now_ms
    await stage.database.transact(lambda tx: journal.post(tx, opening(10**6), now_ms=now_ms))
    before_s = now_ms // 1_000 - 1
    late, same = sha("late"), sha("the same second")
    node = Lists(
        [strange(sent_at_ms=now_ms), strange(late, sent_at_ms=now_ms + 1)],
        (gift(settled_at=before_s), gift(same, settled_at=before_s + 1)),
    )
    lost = [(await explain(stage, node, hash_)).lost_msat for hash_ in (STRANGE, late, GIFT, same)]
    assert lost == [0, 70_009, 0, -3_000]
    assert await stage.ledger() == {"lightning": 67_009 - 10**6, "outside": -67_009, "treasury": 10**6}
    assert await reconciled(stage, node) == ()


@pytest.mark.parametrize(
    ("payments", "invoices", "error", "code"),
    [
        ([payment(PaymentStatus.IN_FLIGHT, STRANGE)], (), Conflict, "payment_open"),
        ([payment(PaymentStatus.UNKNOWN, STRANGE)], (), Conflict, "payment_open"),
        ([payment(FAILED, STRANGE)], (), Conflict, "agrees"),
        ([], (invoice(STRANGE, InvoiceState.OPEN, memo="x"),), Conflict, "payment_open"),
        ([], (invoice(STRANGE, InvoiceState.ACCEPTED, memo="x"),), Conflict, "payment_open"),
        ([], (invoice(STRANGE, InvoiceState.CANCELED, memo="x"),), Conflict, "agrees"),
        ([], (invoice(STRANGE),), Conflict, "fee_lags"),
        ([], (), NotFound, "unknown"),
    ],
)
async def test_what_is_not_foreign_or_not_over_is_refused(
    stage: Stage, payments: list[PaymentView], invoices: tuple[InvoiceView, ...], error: type[L402Error], code: str
) -> None:
    """Nobody's word stands for our node's, and a fee of ours joins by itself: no line is written."""
    with pytest.raises(error) as refused:
        await explain(stage, Lists(payments, invoices))
    assert (refused.value.code, await stage.ledger()) == (code, {})
    assert await stage.database.read(lambda tx: outside_of(tx, [STRANGE])) == []


async def test_an_order_without_a_reason_explains_nothing(stage: Stage) -> None:
    """It stands in the books for good."""
    with pytest.raises(Malformed):
        await explain(stage, Lists([strange()]), reason=" ")
    assert await stage.ledger() == {}


async def test_what_belongs_to_an_escrow_is_not_foreign(stage: Stage) -> None:
    """A rung of the books, of an offer whose ladder may still come, and a fee that opened something before it was told."""
    rung, fee = sha("rung a 0"), sha("fee a")
    node = Lists([strange(rung, UNIT)], (gift(fee, FEE),))
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    for hash_, code in ((rung, "offered"), (fee, "fee_lags")):
        with pytest.raises(Conflict) as refused:
            await explain(stage, node, hash_)
        assert refused.value.code == code
    await stage.desk.register_locks(stage.locks("a"))
    with pytest.raises(Conflict) as refused:
        await explain(stage, node, rung)
    assert refused.value.code == "not_frozen"
    await stage.fee("a")
    with pytest.raises(Conflict) as refused:
        await explain(stage, node, fee)
    assert refused.value.code == "not_frozen"
    assert "outside" not in await stage.ledger()


async def test_a_rung_that_was_taken_for_a_strangers_is_counted_once(stage: Stage) -> None:
    """Old books were put back, and its payment explained; then its ladder is handed in after all, and the reward decided."""
    rung = sha("rung a 0")
    views = [strange(rung, UNIT), *(payment(FAILED, sha(f"rung a {index}"), UNIT << index) for index in range(1, 6))]
    node = Lists(views, (invoice(sha("fee a")),))
    await stage.desk.open(stage.opening("a"))
    await explain(stage, node, rung)
    assert (await stage.ledger())["outside"] == -UNIT - 9
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    assert "outside" not in await stage.ledger()
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.IN_FLIGHT)
    await stage.desk.register_accepted(stage.accepted("a"))
    await stage.turn(commit=True)
    await stage.desk.register_upload(stage.upload("a"))
    await stage.settler.on_scored(stage.decision("a", 0b000001))
    await reconciled(stage, node)
    assert (await stage.office.view(A)).state == "ended"
    assert await stage.ledger() == {"fees:earned": FEE, "lightning": UNIT + 9 - FEE, "rewards": -UNIT, "routing": -9}
    assert await reconciled(stage, node) == ()
    with pytest.raises(Conflict) as refused:
        await explain(stage, node, rung)
    assert refused.value.code == "not_frozen"


async def test_a_fee_that_was_taken_for_a_strangers_is_counted_once(stage: Stage) -> None:
    """Its memo was not ours any more when a person looked; then the invoicer tells it."""
    fee = sha("fee a")
    node = Lists([], (gift(fee, FEE),))
    await explain(stage, node, fee)
    for _ in range(2):
        await stage.fee("a")
    assert await stage.ledger() == {"fees:unclaimed": FEE, "lightning": -FEE}
    assert await reconciled(stage, node) == ()
    assert await stage.database.read(lambda tx: fee_books.fee(tx, fee)) is not None


async def test_our_own_fee_that_our_own_node_paid_is_foreign_on_its_way_out_alone(stage: Stage) -> None:
    """The books have it received; that it left as well is explained, and the fee itself still can be."""
    fee = sha("fee a")
    await stage.fee("a")
    await stage.desk.open(stage.opening("a"))
    node = Lists([strange(fee, FEE, 0)], (invoice(fee),))
    for _ in range(2):
        assert ((await explain(stage, node, fee)).what, (await stage.ledger())["outside"]) == ("payment", -FEE)
    assert await reconciled(stage, node) == ()
    await stage.freeze(A)
    node.invoices = (invoice(fee, paid_msat=FEE - 7),)
    assert (await explain(stage, node, fee)).what == "fee"
    assert (await stage.ledger())["written-off"] == -7


async def test_a_debt_may_still_be_settled_with_what_was_taken_for_a_strangers(unclaimed: Stage) -> None:
    """Who paid it had not said so: the debt's own line stands, and the other is taken back."""
    await end(unclaimed)
    node = Lists([strange(BY_HAND, OWED, 7)])
    await explain(unclaimed, node, BY_HAND)
    for _ in range(2):
        await ByHand(unclaimed.office, node).settle(order())
    assert await unclaimed.ledger() == {
        "fees:earned": FEE, "lightning": OWED + 7 - FEE, "rewards": -OWED, "routing": -7,
    }  # fmt: skip
    assert f"owed:{PEER.public}" not in await unclaimed.ledger()
    assert BY_HAND not in {one.payment_hash for one in await reconciled(unclaimed, node)}
    with pytest.raises(Conflict) as refused:
        await explain(unclaimed, node, BY_HAND)
    assert refused.value.code == "agrees"


async def test_a_tranche_that_was_taken_for_a_strangers_is_counted_once(tmp_path: Path) -> None:
    """Books of before its announcement were put back; the oracle announces it again."""
    at: Patron = patron(tmp_path)
    tranche = payment_hash("p", 0)
    await explain(at.stage, Lists([], (gift(tranche, AMOUNT),)), tranche)
    assert (await at.stage.ledger())["outside"] == AMOUNT
    id_ = (await at.open(tranches=1)).sponsorship
    await at.desk.on_announced(at.announced(id_))
    assert await at.stage.ledger() == {}
