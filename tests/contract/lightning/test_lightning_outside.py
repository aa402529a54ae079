"""What a node paid or was paid past the books, as the node itself tells it: its sums, its end, and since when."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from l402_settler.adapters import journal
from l402_settler.ledger import opening
from l402_settler.watch import Watch
from l402_settler.writing_off import WritingOff
from l402core.errors import Conflict, NotFound
from l402core.events import LedgerDifference, Reconcile, WriteOff, WrittenOff
from l402core.lnd.grpc import GrpcNode
from l402core.lnd.port import InvoiceView, PaymentStatus

from tests.contract.lightning.backends import a_secret
from tests.support.settler import Stage

AMOUNT, FEE, DAY_MS = 2_000_000, 1_002, 86_400_000
"""Paid over one node that forwards, for a satoshi and a millionth."""


@pytest.fixture
def books_of(tmp_path: Path) -> Iterator[Callable[[int], Stage]]:
    """Books that began so many days from now."""
    made: list[Stage] = []

    def begin(days: int) -> Stage:
        (tmp_path / str(days)).mkdir()
        made.append(Stage(tmp_path / str(days)))
        made[-1].now_ms = time.time_ns() // 1_000_000 + days * DAY_MS
        return made[-1]

    yield begin
    for one in made:
        one.database.close()


async def begun(stage: Stage) -> Stage:
    """With its opening balance."""
    now_ms = stage.now_ms
    await stage.database.transact(lambda tx: journal.post(tx, opening(10**9), now_ms=now_ms))
    return stage


async def explain(stage: Stage, node: GrpcNode, hash_: bytes) -> WrittenOff:
    """The order."""
    return await WritingOff(stage.office, node).write_off(WriteOff(payment_hash=hash_.hex(), by="ann", reason="rent"))


async def differences(stage: Stage, node: GrpcNode, hash_: bytes) -> list[LedgerDifference]:
    """Of this hash; others of a shared node are foreign to these books too."""
    told = await Watch(stage.office, node).reconcile(Reconcile())
    return [one for one in told.differences if one.payment_hash == hash_.hex()]


async def test_what_left_our_node_is_booked_with_what_its_route_kept(
    books_of: Callable[[int], Stage], alice: GrpcNode, carol: GrpcNode
) -> None:
    """Foreign before, nothing to tell after; books that began later have it in their opening balance."""
    made: InvoiceView = await carol.add_invoice(amount_msat=AMOUNT, memo="", expiry_s=600, cltv_expiry=40)
    paid = await alice.pay_and_wait(made.bolt11, timeout_s=20, fee_limit_msat=10_000)
    assert (paid.status, paid.fee_msat) == (PaymentStatus.SETTLED, FEE)
    for days, lost_msat in ((-1, AMOUNT + FEE), (1, 0)):
        stage = await begun(books_of(days))
        seen = await differences(stage, alice, made.payment_hash)
        assert [(one.weight, one.what) for one in seen] == [("foreign", "payment")]
        told = await explain(stage, alice, made.payment_hash)
        assert (told.what, told.lost_msat) == ("payment", lost_msat)
        assert (await stage.ledger()).get("outside", 0) == -lost_msat
        assert await differences(stage, alice, made.payment_hash) == []


async def test_what_reached_our_node_is_booked_as_it_was_paid(
    books_of: Callable[[int], Stage], alice: GrpcNode, bob: GrpcNode
) -> None:
    """The same of a receipt; until it is paid there is nothing to explain."""
    made: InvoiceView = await bob.add_invoice(amount_msat=AMOUNT, memo="a coffee", expiry_s=600, cltv_expiry=40)
    early = await begun(books_of(-1))
    with pytest.raises(Conflict) as refused:
        await explain(early, bob, made.payment_hash)
    assert refused.value.code == "payment_open"
    assert (await alice.pay_and_wait(made.bolt11, timeout_s=20, fee_limit_msat=0)).status is PaymentStatus.SETTLED
    for stage, lost_msat in ((early, -AMOUNT), (await begun(books_of(1)), 0)):
        seen = await differences(stage, bob, made.payment_hash)
        assert [(one.weight, one.what) for one in seen] == [("foreign", "receipt")]
        told = await explain(stage, bob, made.payment_hash)
        assert (told.what, told.lost_msat) == ("receipt", lost_msat)
        assert await differences(stage, bob, made.payment_hash) == []


async def test_a_hash_that_the_node_has_never_seen_is_not_explained(
    books_of: Callable[[int], Stage], alice: GrpcNode
) -> None:
    """Nobody's word stands for it."""
    with pytest.raises(NotFound):
        await explain(await begun(books_of(-1)), alice, a_secret()[1])
