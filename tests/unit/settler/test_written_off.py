"""A person explains what cannot be true, by name and for good: then a thaw works, and nothing freezes for it again."""

import pytest
from l402_settler.adapters import status_books
from l402_settler.adapters.explained_books import explanation
from l402_settler.watch import Watch
from l402_settler.writing_off import WritingOff
from l402core.errors import Conflict, Contradiction, L402Error, Malformed, NotFound
from l402core.events import LedgerDifference, Reconcile, WriteOff, WrittenOff
from l402core.lnd.port import InvoiceState, InvoiceView, PaymentStatus, PaymentView

from tests.support.settler import PEER, Stage, sha
from tests.unit.settler.test_reconcile import Lists, invoice, payment

A, UNIT, FEE = sha("a"), 100_000, 500_000
SETTLED, FAILED = PaymentStatus.SETTLED, PaymentStatus.FAILED


def rung(index: int) -> str:
    """Its payment hash."""
    return sha(f"rung a {index}")


def told(*statuses: PaymentStatus) -> Lists:
    """Our node, with these payments of the ladder and the fee."""
    views = [payment(one, rung(index), UNIT << index) for index, one in enumerate(statuses)]
    return Lists(views, (invoice(sha("fee a")),))


async def write_off(stage: Stage, node: Lists, hash_: str, reason: str = "the node's disk was restored") -> WrittenOff:
    """The order."""
    return await WritingOff(stage.office, node).write_off(WriteOff(payment_hash=hash_, by="ann", reason=reason))


async def reconciled(stage: Stage, node: Lists) -> tuple[LedgerDifference, ...]:
    """One comparison."""
    watch = Watch(stage.office, node)  # type: ignore[arg-type]  # only its lists are asked here
    return (await watch.reconcile(Reconcile())).differences


async def ended(stage: Stage) -> None:
    """One unit earned and collected, the other rungs returned: all over."""
    await stage.fee("a")
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", 0b000001))
    for index in range(6):
        await stage.seen("a", index, SETTLED if index == 0 else FAILED)
    assert (await stage.office.view(A)).state == "ended"


async def test_rungs_that_were_paid_outside_the_decision_are_written_off_and_the_thaw_works(stage: Stage) -> None:
    """The decision reveals one unit, all 63 were paid: the loss is named, and every clearing account is zero."""
    await stage.fee("a")
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", 0b000001))
    for index in range(5):
        await stage.seen("a", index, SETTLED)
    with pytest.raises(Contradiction):
        await stage.seen("a", 5, SETTLED)
    await stage.freeze(A)
    await stage.seen("a", 5, SETTLED)
    with pytest.raises(Contradiction, match="paid"):
        await stage.thaw(A)
    node = told(*[SETTLED] * 6)
    for index in range(1, 6):
        with pytest.raises(Contradiction, match="paid"):
            await stage.thaw(A)  # one that is not explained is enough
        for _ in range(2):
            assert (await write_off(stage, node, rung(index))).lost_msat == UNIT << index
    with pytest.raises(Conflict) as agreed:
        await write_off(stage, node, rung(0))
    assert agreed.value.code == "agrees"
    await stage.thaw(A)
    assert (await stage.office.view(A)).state == "ended"
    assert await stage.ledger() == {
        "fees:earned": FEE, "lightning": 63 * UNIT - FEE, "rewards": -UNIT, "written-off": -62 * UNIT,
    }  # fmt: skip
    assert await reconciled(stage, node) == ()


async def test_what_our_node_paid_and_the_books_have_returned_is_written_off(stage: Stage) -> None:
    """It freezes an escrow that had ended, again and again; explained, it is told by name and freezes nothing."""
    await ended(stage)
    node = told(SETTLED, SETTLED, *[FAILED] * 4)
    assert [one.weight for one in await reconciled(stage, node)] == ["contradiction"]
    await stage.thaw(A)
    await reconciled(stage, node)
    assert await stage.is_frozen(A)  # as ever, until somebody explains it
    before = (await stage.ledger())["lightning"]
    assert (await write_off(stage, node, rung(1))).lost_msat == 2 * UNIT
    await stage.thaw(A)
    assert [(one.weight, one.payment_hash) for one in await reconciled(stage, node)] == [("explained", rung(1))]
    assert not await stage.is_frozen(A)
    ledger = await stage.ledger()
    assert (ledger["lightning"] - before, ledger["written-off"]) == (2 * UNIT, -2 * UNIT)
    await stage.seen("a", 1, SETTLED)  # our node's stream may tell it once more
    row = await stage.database.read(lambda tx: explanation(tx, rung(1)))
    assert row is not None
    assert (row.books, row.lnd, row.by, row.reason) == ("returned", "SETTLED", "ann", "the node's disk was restored")
    assert row.at_ms == stage.now_ms


async def test_payments_that_the_node_has_forgotten_cost_nothing(stage: Stage) -> None:
    """Somebody deleted old payments: the frozen escrow has ended and is counted; explained, no line is written."""
    await ended(stage)
    node = told()
    await reconciled(stage, node)
    assert (await stage.database.read(status_books.frozen))["escrow"] == 1
    ledger = await stage.ledger()
    assert (await write_off(stage, node, rung(0))).lost_msat == 0
    assert await stage.ledger() == ledger
    await stage.thaw(A)
    assert {one.weight for one in await reconciled(stage, node)} == {"explained"}
    assert (await stage.database.read(status_books.frozen))["escrow"] == 0


async def test_a_payment_that_failed_after_all_is_a_gain_by_name(stage: Stage) -> None:
    """The books have it paid, our node says that it failed: the money is there."""
    await ended(stage)
    node = told(*[FAILED] * 6)
    await reconciled(stage, node)
    assert (await write_off(stage, node, rung(0))).lost_msat == -UNIT
    assert (await stage.ledger())["written-off"] == UNIT


async def lost_decision(stage: Stage) -> Lists:
    """The peer collected, with the oracle's own word that never came to us; a person stopped it."""
    await stage.fee("a")
    await stage.uploaded()
    for index in range(6):
        await stage.seen("a", index, SETTLED if index == 0 else FAILED)
    await stage.turn(now_ms=stage.terms().judge_by_ms + 60_000)
    assert (await stage.office.view(A)).state == "uploaded"  # it waits for the decision, for ever
    await stage.freeze(A)
    return told(SETTLED, *[FAILED] * 5)


async def test_a_paid_rung_whose_decision_is_lost_has_a_way_out(stage: Stage) -> None:
    """Written off and thawed, the deadline strikes it, and its fee is a credit: no decision is our fault."""
    node = await lost_decision(stage)
    assert (await write_off(stage, node, rung(0))).lost_msat == UNIT
    await stage.thaw(A)
    await stage.turn()
    assert (await stage.office.view(A)).state == "ended"
    assert await stage.ledger() == {
        f"credits:{PEER.public}": FEE, "lightning": UNIT - FEE, "written-off": -UNIT,
    }  # fmt: skip
    assert await reconciled(stage, node) == ()


async def test_a_decision_that_comes_after_all_makes_the_loss_a_reward(stage: Stage) -> None:
    """Before the deadline struck: the books are as if nothing had been written off."""
    node = await lost_decision(stage)
    await write_off(stage, node, rung(0))
    await stage.thaw(A)
    await stage.settler.on_scored(stage.decision("a", 0b000001))
    assert (await stage.office.view(A)).state == "ended"
    assert await stage.ledger() == {"fees:earned": FEE, "lightning": UNIT - FEE, "rewards": -UNIT}


@pytest.mark.parametrize(
    ("seen", "lost_msat", "lnd"),
    [
        ((), 0, "never seen"),
        ((invoice(sha("fee a"), InvoiceState.OPEN),), FEE, "not settled"),
        ((invoice(sha("fee a"), paid_msat=FEE - 7),), 7, f"{FEE - 7} msat"),
    ],
)
async def test_a_fee_that_our_node_tells_otherwise_is_explained(
    stage: Stage, seen: tuple[InvoiceView, ...], lost_msat: int, lnd: str
) -> None:
    """What it opened is frozen; explained, it goes on, and no credit over the fee is held any more."""
    await ended(stage)
    node = told(SETTLED, *[FAILED] * 5)
    node.invoices = seen
    await reconciled(stage, node)
    assert await stage.is_frozen(A)
    assert (await write_off(stage, node, sha("fee a"))).lost_msat == lost_msat
    await stage.thaw(A)
    assert [(one.weight, one.lnd) for one in await reconciled(stage, node)] == [
        ("explained", "not settled" if lnd == "never seen" else lnd)
    ]
    assert not await stage.is_frozen(A)
    assert (await stage.ledger()).get("written-off", 0) == -lost_msat


@pytest.mark.parametrize(
    ("hash_", "reason", "error"),
    [
        ("ab", "because", Malformed),
        (rung(0), " ", Malformed),
        (sha("somebody else's"), "because", NotFound),
        (rung(1), "because", Conflict),
    ],
)
async def test_an_order_that_explains_nothing_is_refused(
    stage: Stage, hash_: str, reason: str, error: type[L402Error]
) -> None:
    """No hash, no reason, not in the books, or nothing frozen: no line is written."""
    await ended(stage)
    ledger = await stage.ledger()
    with pytest.raises(error):
        await write_off(stage, told(SETTLED, SETTLED), hash_, reason)
    assert await stage.ledger() == ledger


async def test_what_has_not_ended_cannot_be_explained_yet(stage: Stage) -> None:
    """In flight in the books or at our node: it may still end by itself."""
    await stage.uploaded()
    await stage.freeze(A)
    views: list[PaymentView] = [payment(PaymentStatus.IN_FLIGHT, rung(0), UNIT)]
    for node in (Lists(views), Lists([])):
        with pytest.raises(Conflict) as refused:
            await write_off(stage, node, rung(0))
        assert refused.value.code == "rung_open"
