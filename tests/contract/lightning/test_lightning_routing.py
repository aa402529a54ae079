"""What a payment costs on its way, as the node tells it, is what the books hold; another sum is told, and freezes nobody."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from l402_settler import ledger
from l402_settler.adapters import books, journal
from l402_settler.tracking import record
from l402_settler.watch import Watch
from l402_settler.writing_off import WritingOff
from l402core.escrow import Escrow, Rung
from l402core.events import LedgerDifference, Reconcile, WriteOff
from l402core.lnd.grpc import GrpcNode
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.outbox import Transaction

from tests.support.settler import PEER, Stage, sha

A, AMOUNTS = sha("a"), (100_000, 200_000)
FEES = tuple(1_000 + amount // 1_000_000 for amount in AMOUNTS)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A settler with an offer that waits for its ladder."""
    (tmp_path / "books").mkdir()
    made = Stage(tmp_path / "books")
    await made.open_round()
    await made.desk.open(made.opening("a"))
    await made.settler.on_offer(made.offer("a"))
    yield made
    made.database.close()


async def paid(stage: Stage, alice: GrpcNode, carol: GrpcNode) -> list[PaymentView]:
    """Two rungs, at carol's node behind bob's: in the books as registered, at alice's as paid."""
    invoices = [
        await carol.add_invoice(amount_msat=amount, memo="", expiry_s=600, cltv_expiry=40) for amount in AMOUNTS
    ]

    def register(tx: Transaction) -> None:
        for rung, (invoice, amount) in enumerate(zip(invoices, AMOUNTS, strict=True)):
            hash_ = invoice.payment_hash.hex()
            books.add_rungs(
                tx,
                [{
                    "payment_hash": hash_, "commitment": A, "attempt": 1, "rung": rung, "amount_msat": amount,
                    "bolt11": invoice.bolt11, "state": Rung.REGISTERED, "not_after_ms": stage.now_ms,
                }],
            )  # fmt: skip
            journal.post(tx, ledger.rung_locked(hash_, PEER.public, A, amount), now_ms=stage.now_ms)
        books.move_submission(tx, A, Escrow.OFFERED, Escrow.LOCKING)

    await stage.database.transact(register)
    views = [await alice.pay_and_wait(one.bolt11, timeout_s=20, fee_limit_msat=10_000) for one in invoices]
    assert [(view.status, view.fee_msat) for view in views] == [(PaymentStatus.SETTLED, fee) for fee in FEES]
    return views


async def differences(stage: Stage, alice: GrpcNode, views: list[PaymentView]) -> list[LedgerDifference]:
    """Of these payments; others of a shared node are foreign to these books."""
    told = await Watch(stage.office, alice).reconcile(Reconcile())
    mine = {view.payment_hash.hex() for view in views}
    return [one for one in told.differences if one.payment_hash in mine]


async def test_what_the_route_kept_is_booked_and_agrees(stage: Stage, alice: GrpcNode, carol: GrpcNode) -> None:
    """The reconcile joins both rungs with what they cost; then books and node have nothing to tell."""
    views = await paid(stage, alice, carol)
    assert [one.weight for one in await differences(stage, alice, views)] == ["lag", "lag"]
    assert (await stage.ledger())["routing"] == -sum(FEES)
    assert await differences(stage, alice, views) == []


async def test_another_fee_than_the_node_tells_is_told_and_freezes_nobody(
    stage: Stage, alice: GrpcNode, carol: GrpcNode
) -> None:
    """Seven millisatoshi too few are booked: told by its own weight, again and again, until a person explains it."""
    first, second = views = await paid(stage, alice, carol)
    less = msgspec.structs.replace(first, fee_msat=FEES[0] - 7)
    assert await record(stage.office, [less, second]) == []
    for _ in range(2):
        (one,) = await differences(stage, alice, views)
        assert (one.weight, one.what, one.payment_hash) == ("routing", "routing", first.payment_hash.hex())
        assert (one.books, one.lnd, one.amount_msat) == (f"{FEES[0] - 7} msat", f"{FEES[0]} msat", 7)
        assert not await stage.is_frozen(A)
    await stage.freeze(A)
    order = WriteOff(payment_hash=first.payment_hash.hex(), by="ann", reason="the fee was told late")
    found = await WritingOff(stage.office, alice).write_off(order)
    assert found.lost_msat == AMOUNTS[0] + 7, "and no decision reveals the rung in this story"
    assert [one.weight for one in await differences(stage, alice, views)] == ["explained"]
    balances = await stage.ledger()
    assert balances["lightning"] == sum(AMOUNTS) + sum(FEES)
    assert (balances["routing"], balances["written-off"]) == (7 - sum(FEES), -AMOUNTS[0] - 7)
