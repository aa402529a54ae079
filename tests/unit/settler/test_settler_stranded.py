"""Our lnd was killed while it paid: a rung that it noted and never sent comes to an end by itself, and at the right time."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from l402_settler.watch import Watch
from l402core.errors import Unavailable
from l402core.escrow import Escrow
from l402core.events import CreditIssued, ReadSubmission, Reconcile
from l402core.lnd.port import ChannelView, NodeInfo, PaymentStatus, PaymentView

from tests.support.pages import Paged
from tests.support.settler import Stage, sha

EXPIRY = 361
LATE = EXPIRY + 7


class Stranding(Paged):
    """A node that calls every rung of "a" in flight for ever; channels hold those of `held`."""

    def __init__(self, *, held: Iterable[int] = (), closing: int = 0) -> None:
        self.height, self.closing = 310, closing
        self.held = {_hash(index) for index in held}
        self.told: dict[bytes, PaymentView] = {}

    async def info(self) -> NodeInfo:
        """Fit, at the test's height."""
        return NodeInfo(
            pubkey="02" * 33, alias="", version="0.21.0", network="simnet", block_height=self.height, synced=True
        )

    async def channels(self) -> list[ChannelView]:
        """One with money enough, that need not be active."""
        return [
            ChannelView(
                channel_id=1, remote_pubkey="03" * 33, active=True, capacity_msat=10**10, local_msat=10**10,
                remote_msat=0, pending_out=len(self.held), pending_out_hashes=tuple(self.held),
            )
        ]  # fmt: skip

    async def closing_channels(self) -> int:
        """As told."""
        return self.closing

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """In flight, unless the test knows better."""
        noted = PaymentView(
            payment_hash=payment_hash, status=PaymentStatus.IN_FLIGHT, amount_msat=1, htlc_expiry_heights=(EXPIRY,)
        )
        return self.told.get(payment_hash, noted)

    async def list_payments(self) -> list[PaymentView]:
        """The ladder."""
        views = [await self.lookup_payment(_hash(index)) for index in range(6)]
        return [view for view in views if view is not None]

    async def watch_payments(self) -> AsyncIterator[PaymentView]:
        """Silence."""
        return
        yield


def _hash(index: int) -> bytes:
    return bytes.fromhex(sha(f"rung a {index}"))


async def looked(stage: Stage, node: Stranding, height: int) -> str:
    """Look at the node and at every open rung at this height; the escrow's state then."""
    watch = Watch(stage.office, node)
    node.height = height
    await watch.look()
    await watch._look_at_open_rungs()
    return await state(stage)


async def state(stage: Stage) -> str:
    """Of the escrow."""
    asked = ReadSubmission(round=1, commitment=sha("a"))
    return (await stage.desk.read_submission(asked)).state


async def locking(stage: Stage) -> None:
    """The ladder is registered, and the invoicer at work."""
    await stage.desk.open(stage.opening("a"))
    await stage.fee("a")
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))


async def test_a_ladder_that_was_noted_and_never_sent_ends_after_its_expiry_and_the_fee_is_a_credit(
    stage: Stage,
) -> None:
    """At the deadline it looks as if the peer had not said that it accepts; after expiry it is known that it could not."""
    await locking(stage)
    assert await looked(stage, Stranding(), 310) == Escrow.LOCKING
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    assert await state(stage) == Escrow.FAILED
    assert stage.said(CreditIssued) == []
    assert await looked(stage, Stranding(), LATE - 1) == Escrow.FAILED
    assert await stage.pending_msat() == 6_300_000
    assert await looked(stage, Stranding(), LATE) == Escrow.ENDED
    assert await stage.pending_msat() == 0
    assert len(stage.said(CreditIssued)) == 1
    assert "rewards" not in await stage.ledger()


@pytest.mark.parametrize(
    "told", [{"held": range(6)}, {"closing": 1}], ids=["a channel holds it", "a channel is being closed"]
)
async def test_what_a_channel_may_hold_is_waited_for(stage: Stage, told: dict[str, Any]) -> None:
    """Money that may still move is not given up, however late it is; when the channel has let go, it is."""
    node = Stranding(**told)
    await locking(stage)
    await looked(stage, node, 310)
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    assert await looked(stage, node, LATE + 1_000) == Escrow.FAILED
    assert await stage.pending_msat() == 6_300_000
    node.held, node.closing = set(), 0
    assert await looked(stage, node, LATE + 1_001) == Escrow.ENDED


async def test_what_settles_at_the_last_moment_is_paid(stage: Stage) -> None:
    """LND is asked once more after the channels: what it says then stands."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", 1))
    node = Stranding()

    async def settled_meanwhile() -> int:
        view = await Stranding().lookup_payment(_hash(0))
        assert view is not None
        node.told[_hash(0)] = PaymentView(payment_hash=_hash(0), status=PaymentStatus.SETTLED, amount_msat=100_000)
        return 0

    node.closing_channels = settled_meanwhile  # type: ignore[method-assign]  # between the two looks it is paid
    assert await looked(stage, node, LATE) == Escrow.SCORED  # what was seen before is not believed any more
    assert await looked(stage, node, LATE) == Escrow.ENDED
    assert (await stage.ledger())["rewards"] == -100_000


async def test_reconcile_agrees_with_books_that_gave_it_up_and_joins_what_they_have_not(stage: Stage) -> None:
    """LND's IN_FLIGHT for ever is no contradiction, neither before the rung was given up nor after."""
    await locking(stage)
    node = Stranding()
    watch = Watch(stage.office, node)
    await looked(stage, node, 310)
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    node.height = LATE
    await watch.look()
    first = await watch.reconcile(Reconcile())
    assert [(one.weight, one.what) for one in first.differences if one.what == "rung"] == [("lag", "rung")] * 6
    assert await state(stage) == Escrow.ENDED
    again = await watch.reconcile(Reconcile())
    assert [one for one in again.differences if one.what == "rung"] == []


async def given_up(stage: Stage) -> Stranding:
    """The node that stranded a ladder, which the books have given up since, with its fee in its list."""
    await locking(stage)
    node = Stranding()
    await looked(stage, node, 310)
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    assert await looked(stage, node, LATE) == Escrow.ENDED
    return node


async def test_what_was_given_up_is_undecided_while_a_channel_is_being_closed(stage: Stage) -> None:
    """Some other channel's closing says nothing against the books: nobody is woken, nothing is frozen, and it passes."""
    node = await given_up(stage)
    watch = Watch(stage.office, node)
    node.closing = 1
    found = [one for one in (await watch.reconcile(Reconcile())).differences if one.what == "rung"]
    assert {(one.weight, one.books, one.lnd) for one in found} == {("undecided", "returned", "IN_FLIGHT")}
    node.closing = 0
    assert [one for one in (await watch.reconcile(Reconcile())).differences if one.what == "rung"] == []


async def test_what_was_given_up_and_lies_in_a_channel_is_a_contradiction(stage: Stage) -> None:
    """There is an HTLC after all, and it may still be paid."""
    node = await given_up(stage)
    node.held, node.closing = {_hash(2)}, 1
    found = [one for one in (await Watch(stage.office, node).reconcile(Reconcile())).differences if one.what == "rung"]
    assert sorted(one.weight for one in found) == ["contradiction", *["undecided"] * 5]


async def test_without_a_height_nothing_is_compared(stage: Stage) -> None:
    """A node that has not told its height yet cannot say what has expired: try later, and freeze nothing."""
    node = await given_up(stage)
    stage.office.sight.height = 0
    with pytest.raises(Unavailable):
        await Watch(stage.office, node).reconcile(Reconcile())


class Asked(Stranding):
    """A node that keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        self.asked.append(payment_hash)
        return await super().lookup_payment(payment_hash)


async def asked_after_silence(stage: Stage) -> int:
    """How often it is asked: not at once, and about each open rung once it has been silent for 15 s."""
    node = Asked()
    watch = Watch(stage.office, node)
    await watch._look_at_open_rungs(silent_s=15)
    assert node.asked == []
    stage.now_ms += 15_000
    await watch._look_at_open_rungs(silent_s=15)
    once = len(node.asked)
    await watch._look_at_open_rungs()  # as after a cut: whatever it has told
    assert len(node.asked) == 2 * once
    return once


async def test_a_rung_is_asked_about_once_it_has_been_silent(stage: Stage) -> None:
    """What our node's stream told of a moment ago is no question; what it has not told of for a while is one."""
    await stage.locked()
    assert await asked_after_silence(stage) == 6
    node = Asked()
    await Watch(stage.office, node)._look_at_open_rungs(silent_s=15)
    assert node.asked == [], "the answers have told"


async def test_a_rung_that_was_registered_a_moment_ago_is_not_silent_yet(stage: Stage) -> None:
    """Our node has told nothing of it, for it may not even be sent; after a while without a word it is a question."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))
    assert await asked_after_silence(stage) == 6
