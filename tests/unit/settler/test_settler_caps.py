"""No more is promised than a day may lock, and the intent to lock is in the books with the order to, or neither is."""

from collections.abc import Callable

import pytest
from l402_settler import desk
from l402_settler.adapters.guards import SLOT_MS
from l402core.errors import Exhausted, Unavailable
from l402core.events import CreditIssued, EscrowLock
from l402core.lnd.port import PaymentStatus
from l402core.signing import SigningKey

from tests.support.settler import Stage

LADDER_MSAT = 63 * 100_000


def somebody(number: int) -> SigningKey:
    """Another peer."""
    return SigningKey(bytes([number]) * 32)


async def test_the_days_cap_counts_what_is_promised_before_it_is_locked(make_stage: Callable[..., Stage]) -> None:
    """Two may open at once under a cap of two ladders; a third is refused, and keeps its fee as a credit."""
    stage = make_stage(places=8, day_cap_msat=2 * LADDER_MSAT)
    await stage.open_round()
    for number in (11, 12):
        await stage.desk.open(stage.opening(str(number), peer=somebody(number)))
    await stage.fee("c")
    with pytest.raises(Exhausted, match="the day's cap"):
        await stage.desk.open(stage.opening("c"))
    assert len(stage.said(CreditIssued)) == 1


async def test_a_locked_ladder_counts_once_and_until_a_day_is_over(make_stage: Callable[..., Stage]) -> None:
    """Also after it came back: the cap bounds what a day may cost at the worst."""
    stage = make_stage(places=8, day_cap_msat=2 * LADDER_MSAT - 1)
    await stage.open_round()
    await stage.locked("a")
    with pytest.raises(Exhausted, match="the day's cap"):
        await stage.desk.open(stage.opening("b", peer=somebody(11)))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    with pytest.raises(Exhausted, match="the day's cap"):
        await stage.desk.open(stage.opening("c", peer=somebody(12)))
    stage.now_ms += 86_400_000 - 1
    await stage.open_round(2)
    with pytest.raises(Exhausted, match="the day's cap"):
        await stage.desk.open(stage.opening("e", peer=somebody(13), round_=2))
    stage.now_ms += SLOT_MS
    await stage.open_round(3)
    await stage.desk.open(stage.opening("d", peer=somebody(13), round_=3))


async def test_the_lock_and_its_reservation_are_in_the_books_together(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the order cannot be written, nothing is reserved; where it can, every rung is."""
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))

    def no_room(*_: object) -> None:
        raise Unavailable("disk", "no room for the order")

    with monkeypatch.context() as broken:
        broken.setattr(desk, "say_escrow_lock", no_room)
        with pytest.raises(Unavailable):
            await stage.desk.register_locks(stage.locks("a"))
    assert (await stage.pending_msat(), stage.said(EscrowLock)) == (0, [])
    await stage.desk.register_locks(stage.locks("a"))
    assert await stage.pending_msat() == LADDER_MSAT
    assert len(stage.said(EscrowLock)) == 1
