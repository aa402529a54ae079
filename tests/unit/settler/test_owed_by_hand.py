"""What stays owed after the last offer is closed by a person, once, with evidence that our own node gives."""

from collections.abc import Callable

import pytest
from l402_settler.adapters import owed_books
from l402_settler.by_hand import ByHand
from l402_settler.watch import Watch
from l402core.errors import Conflict, L402Error, Malformed, NotFound
from l402core.events import OwedSettle, Reconcile
from l402core.lnd.port import PaymentStatus, PaymentView
from l402train import debts

from tests.support.settler import NODE_PUBLIC, PEER, Stage, sha
from tests.unit.settler.test_reconcile import Lists
from tests.unit.settler.test_settler_owed import OWED, all_back, new_offer, withheld

A, HASH = sha("a"), sha("paid by hand")


class Payments:
    """A node that made these payments."""

    def __init__(self, *made: PaymentView) -> None:
        self.made = {one.payment_hash: one for one in made}

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """As the port."""
        return self.made.get(payment_hash)


def paid(amount_msat: int = OWED, status: PaymentStatus = PaymentStatus.SETTLED) -> PaymentView:
    """The operator's own payment."""
    return PaymentView(payment_hash=bytes.fromhex(HASH), status=status, amount_msat=amount_msat, fee_msat=7)


def order(payment_hash: str = HASH, wanted: str = A[:8], reason: str = "paid to the peer's new node") -> OwedSettle:
    """The operator's word."""
    return OwedSettle(wanted=wanted, payment_hash=payment_hash, by="ann", reason=reason)


@pytest.fixture
async def unclaimed(make_stage: Callable[..., Stage]) -> Stage:
    """One new offer, that nobody took: the escrow has ended, and the sum is owed."""
    stage = make_stage(owed_offers=1)
    await stage.open_round()
    await stage.fee("a")
    await stage.uploaded()
    await stage.settler.on_scored(withheld(stage))
    await all_back(stage)
    row = await stage.database.read(lambda tx: owed_books.debt(tx, A))
    assert row == OWED
    return stage


async def end(stage: Stage) -> None:
    """The last offer lapses."""
    await stage.settler.on_offer(new_offer(stage))
    await stage.turn(now_ms=stage.now_ms + stage.config.owed_lock_s * 1_000)
    assert (await stage.office.view(A)).state == "ended"


async def test_a_payment_of_our_node_closes_the_debt_once(unclaimed: Stage) -> None:
    """Told twice it is booked once, with its routing fee; and reconcile takes it for no stranger's."""
    await end(unclaimed)
    desk = ByHand(unclaimed.office, Payments(paid()))
    for _ in range(2):
        assert (await desk.settle(order())).amount_msat == OWED
    assert await unclaimed.ledger() == {
        "fees:earned": 500_000, "lightning": OWED + 7 - 500_000, "rewards": -OWED, "routing": -7,
    }  # fmt: skip
    watch = Watch(unclaimed.office, Lists([paid()]))  # type: ignore[arg-type]  # only its lists are asked here
    assert HASH not in {one.payment_hash for one in (await watch.reconcile(Reconcile())).differences}


async def test_what_was_paid_elsewhere_is_the_treasurys(unclaimed: Stage) -> None:
    """Nothing left our node; who says so, and why, stands in the books."""
    await end(unclaimed)
    await ByHand(unclaimed.office, Payments()).settle(order(payment_hash=""))
    assert await unclaimed.ledger() == {
        "fees:earned": 500_000, "lightning": -500_000, "rewards": -OWED, "treasury": OWED,
    }  # fmt: skip
    row = await unclaimed.database.read(lambda tx: owed_books.settlement(tx, A))
    assert row is not None
    assert (row.by, row.reason, row.payment_hash) == ("ann", "paid to the peer's new node", None)
    with pytest.raises(Conflict, match="settled by ann"):
        await ByHand(unclaimed.office, Payments(paid())).settle(order())


@pytest.mark.parametrize(
    ("node", "said", "error"),
    [
        (Payments(), order(), NotFound),
        (Payments(paid(status=PaymentStatus.IN_FLIGHT)), order(), NotFound),
        (Payments(paid(OWED + 1)), order(), Conflict),
        (Payments(paid()), order(wanted="ffffffff"), NotFound),
        (Payments(paid()), order(wanted="a"), Malformed),
        (Payments(paid()), order(reason=" "), Malformed),
        (Payments(paid()), order(payment_hash="12"), Malformed),
    ],
    ids=["unknown", "in flight", "another amount", "no such debt", "too short", "no reason", "no hash"],
)
async def test_anything_else_moves_nothing(
    unclaimed: Stage, node: Payments, said: OwedSettle, error: type[L402Error]
) -> None:
    """The debt stays as it is."""
    await end(unclaimed)
    with pytest.raises(error):
        await ByHand(unclaimed.office, node).settle(said)
    assert (await unclaimed.ledger())[f"owed:{PEER.public}"] == OWED


async def test_what_may_still_be_paid_by_itself_is_not_paid_by_hand(unclaimed: Stage) -> None:
    """An offer is out: paying beside it could pay twice."""
    with pytest.raises(Conflict, match="may still be paid"):
        await ByHand(unclaimed.office, Payments(paid())).settle(order())


async def test_a_rungs_payment_settles_no_debt(unclaimed: Stage) -> None:
    """It is in the books already, for something else."""
    await end(unclaimed)
    rung = sha("rung a 0")
    view = PaymentView(payment_hash=bytes.fromhex(rung), status=PaymentStatus.SETTLED, amount_msat=OWED)
    with pytest.raises(Conflict, match="in the books already"):
        await ByHand(unclaimed.office, Payments(view)).settle(order(payment_hash=rung))


async def test_what_is_owed_is_listed_until_it_is_paid(unclaimed: Stage) -> None:
    """To whom, how much, since when, and who must do something."""
    where = unclaimed.config.database_url
    (one,) = debts.debts(where)
    assert (one.commitment, one.peer, one.amount_msat, one.payee) == (A, PEER.public, OWED, NODE_PUBLIC)
    assert "oracle is asked" in one.next
    await end(unclaimed)
    (one,) = debts.debts(where)
    assert (one.offers, "a person pays" in one.next) == (1, True)
    await ByHand(unclaimed.office, Payments(paid())).settle(order())
    assert debts.debts(where) == []
