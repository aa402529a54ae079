"""Fee credits: what is our fault always gives one, once; what is the peer's never does; and all of it is in the books."""

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from l402_settler.adapters.awake_books import outage_between
from l402_settler.awake import Awake
from l402core.errors import L402Error
from l402core.events import ClaimCredit, CreditIssued, CreditSpent, ReadRound
from l402core.lnd.port import PaymentStatus
from l402core.signing import SigningKey

from tests.support.settler import PEER, Stage, sha

REFUSED = "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS"
FEE = 500_000
Fault = Callable[[Stage], Awaitable[None]]


async def up_to_locking(stage: Stage) -> None:
    await stage.fee("a")
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    await stage.desk.register_locks(stage.locks("a"))


async def tolerantly(step: Awaitable[object]) -> None:
    """A step that may be refused."""
    with contextlib.suppress(L402Error):
        await step


# Our faults.


async def no_place(stage: Stage) -> None:
    """All places are taken when the paid request comes."""
    for name, key in (("x", 11), ("y", 12)):
        await tolerantly(stage.desk.open(stage.opening(name, peer=SigningKey(bytes([key]) * 32))))
    await stage.fee("a")
    await tolerantly(stage.desk.open(stage.opening("a")))


async def node_asleep(stage: Stage) -> None:
    """Our node is away when the paid request comes."""
    stage.office.sight.trouble = "asleep"
    await stage.fee("a")
    await tolerantly(stage.desk.open(stage.opening("a")))
    stage.office.sight.trouble = ""


async def round_closed(stage: Stage) -> None:
    """Paid in time and presented too late."""
    await stage.fee("a")
    stage.now_ms = stage.terms().commit_until_ms
    await tolerantly(stage.desk.open(stage.opening("a")))


async def no_offer(stage: Stage) -> None:
    """The oracle is silent."""
    await stage.fee("a")
    await tolerantly(stage.desk.open(stage.opening("a")))
    await stage.turn(now_ms=stage.terms().lock_by_ms)


async def no_route(stage: Stage) -> None:
    """A rung finds no way from our node."""
    await tolerantly(up_to_locking(stage))
    for index in range(6):
        await tolerantly(stage.seen("a", index, PaymentStatus.FAILED, "FAILURE_REASON_NO_ROUTE"))


async def no_decision(stage: Stage) -> None:
    """Uploaded, and the oracle decides nothing."""
    await tolerantly(stage.fee("a"))
    await tolerantly(stage.uploaded())
    await stage.turn(now_ms=stage.terms().judge_by_ms + 60_000)
    for index in range(6):
        await tolerantly(stage.seen("a", index, PaymentStatus.FAILED))


async def unscored(stage: Stage) -> None:
    """The oracle itself says that it could not measure."""
    await tolerantly(stage.fee("a"))
    await tolerantly(stage.uploaded())
    await stage.settler.on_scored(stage.decision("a", 0, verdict="unscored"))
    for index in range(6):
        await tolerantly(stage.seen("a", index, PaymentStatus.FAILED))


async def all_come_back(stage: Stage) -> None:
    """The rungs are cancelled, or expire."""
    for index in range(6):
        await tolerantly(stage.seen("a", index, PaymentStatus.FAILED))


async def settler_away_while_locks_are_due(stage: Stage) -> None:
    """Down from just after the offer until past the deadline."""
    await stage.awake_until(stage.now_ms + 4_000)
    await tolerantly(stage.fee("a"))
    await tolerantly(stage.desk.open(stage.opening("a")))
    await tolerantly(stage.settler.on_offer(stage.offer("a")))
    stage.now_ms = max(stage.now_ms, stage.terms().lock_by_ms)
    await stage.settler.awake.mark()
    await stage.turn()


async def settler_away_for_the_end_of_it(stage: Stage) -> None:
    """Most of the time to lock it was there."""
    await tolerantly(up_to_locking(stage))
    for index in range(6):
        await tolerantly(stage.seen("a", index, PaymentStatus.IN_FLIGHT))
    await stage.awake_until(stage.terms().lock_by_ms - 9_000)
    stage.now_ms = max(stage.now_ms, stage.terms().lock_by_ms)
    await stage.settler.awake.mark()
    await stage.turn()
    await all_come_back(stage)


async def gateways_away_while_accepted_is_due(stage: Stage) -> None:
    """The settler is there, and hears of no gateway until the deadline strikes."""
    await tolerantly(up_to_locking(stage))
    for index in range(6):
        await tolerantly(stage.seen("a", index, PaymentStatus.IN_FLIGHT))
    await stage.awake_until(stage.terms().commit_until_ms)
    await stage.awake_until(stage.terms().lock_by_ms, gateways=False)
    await stage.turn()
    await all_come_back(stage)


async def gateways_away_while_uploads_are_due(stage: Stage) -> None:
    """All of them, and back before the end: the peer may have been asleep by then."""
    await tolerantly(stage.locked())
    await stage.awake_until(stage.terms().lock_by_ms + 1_000)
    await stage.awake_until(stage.terms().upload_until_ms - 2_000, gateways=False)
    await stage.awake_until(stage.terms().upload_until_ms)
    await stage.turn()
    await all_come_back(stage)


FAULTS: tuple[Fault, ...] = (
    no_place, node_asleep, round_closed, no_offer, no_route, no_decision, unscored, settler_away_while_locks_are_due,
    settler_away_for_the_end_of_it, gateways_away_while_accepted_is_due, gateways_away_while_uploads_are_due,
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.__name__))
async def test_each_fault_of_ours_gives_one_credit_whatever_is_told_again(stage: Stage, fault: Fault) -> None:
    """Every message twice, and a restart in between: one credit, in the books, which opens the next round, once."""
    await fault(stage)
    await stage.settler.recover()
    await fault(stage)
    await stage.turn()
    await stage.settler.recover()
    assert [said.payment_hash for said in stage.said(CreditIssued)] == [sha("fee a")]
    assert (await stage.ledger())[f"credits:{PEER.public}"] == FEE
    claimed = await stage.desk.claim_credit(
        ClaimCredit(peer=PEER.public, payment_hash=sha("fee a"), token_id=sha("token b"))
    )
    assert claimed.amount_msat == FEE
    await stage.open_round(2)
    opening = stage.opening("b", round_=2, credit=True, payment_hash=sha("fee a"))
    await stage.desk.open(opening)
    await stage.desk.open(opening)
    assert f"credits:{PEER.public}" not in await stage.ledger()
    assert [said.commitment for said in stage.said(CreditSpent)] == [sha("b")]
    with pytest.raises(L402Error):
        await stage.desk.open(stage.opening("c", round_=2, credit=True, payment_hash=sha("fee a")))


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations(range(6)), cancelled=st.sets(st.integers(0, 5)), early=st.booleans(), twice=st.booleans(),
    restart=st.booleans(), flying=st.integers(0, 6), every_ms=st.integers(2_000, 7_900), slept=st.booleans(),
)  # fmt: skip
def test_withholding_accepted_never_yields_a_credit(**drawn: Any) -> None:
    """In flight in any order, some cancelled by the payee's own node before the deadline or after, told twice, restarted;
    our signs of life as rare as they may be, and an outage that was over before the peer's time began."""
    asyncio.run(_withholding(**drawn))


async def _withholding(
    order: list[int], cancelled: set[int], *, early: bool, twice: bool, restart: bool, flying: int, every_ms: int,
    slept: bool,
) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        await stage.open_round()
        await stage.awake_until(stage.now_ms + every_ms, every_ms=every_ms)
        await up_to_locking(stage)
        stage.now_ms += 20_000 * slept
        # Rungs that are not in flight yet when one is cancelled fly a moment later: our node sends all of them.
        for index in order[: max(flying, 6 if not (early and cancelled) else 0)]:
            await stage.seen("a", index, PaymentStatus.IN_FLIGHT)
        for index in sorted(cancelled) if early else ():
            for _ in range(1 + twice):
                await stage.seen("a", index, PaymentStatus.FAILED, REFUSED)
        if restart:
            stage.settler.awake = Awake(stage.office)
            await stage.settler.recover()
        await stage.awake_until(stage.terms().lock_by_ms, every_ms=every_ms)
        await stage.turn()
        for index in order:
            for _ in range(1 + twice):
                await stage.seen("a", index, PaymentStatus.FAILED, REFUSED if index in cancelled else "")
        await stage.turn()
        view = await stage.office.view(sha("a"))
        assert (view.state, view.credit_available) == ("ended", False)
        assert stage.said(CreditIssued) == []
        assert (await stage.ledger())["fees:earned"] == FEE
        stage.database.close()


class Kept(StrEnum):
    """What a peer keeps to itself, from which moment on."""

    INVOICES = "its invoices"
    WORD = "its word that they have arrived"
    GRADIENT = "its gradient"


@settings(max_examples=40, deadline=None)
@given(
    kept=st.sampled_from(Kept), noise=st.lists(st.integers(0, 75_000), max_size=8), every_ms=st.integers(2_000, 7_900),
    settlers=st.integers(1, 3),
)  # fmt: skip
def test_no_peer_makes_an_outage(**drawn: Any) -> None:
    """It withholds what it likes and asks what it likes, whenever: with one gateway and one of our settlers there now and
    then, no time is one in which we were away, and no fee comes back."""
    asyncio.run(_no_outage(**drawn))


async def _no_outage(kept: Kept, noise: list[int], every_ms: int, settlers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        terms = await stage.open_round()
        awake = [Awake(stage.office) for _ in range(settlers)]
        await stage.fee("a")
        await stage.desk.open(stage.opening("a"))
        await stage.settler.on_offer(stage.offer("a"))
        if kept is not Kept.INVOICES:
            await stage.desk.register_locks(stage.locks("a"))
            for index in range(6):
                await stage.seen("a", index, PaymentStatus.IN_FLIGHT)
        if kept is Kept.GRADIENT:
            await stage.desk.register_accepted(stage.accepted("a"))
        noisy = sorted(terms.opened_at_ms + after_ms for after_ms in noise)
        for turn, one in enumerate(itertools.cycle(awake)):
            stage.settler.awake = one  # the next of our settlers renews the mark, and hears of the gateway
            while noisy and noisy[0] <= stage.now_ms:
                noisy.pop(0)
                await tolerantly(stage.desk.open(stage.opening(f"noise {turn}")))
                await tolerantly(stage.desk.read_round(ReadRound(round=1)))
            await stage.awake_until(min(stage.now_ms + every_ms, terms.upload_until_ms), every_ms=every_ms)
            await stage.turn()
            if stage.now_ms >= terms.upload_until_ms:
                break
        for index in range(6):
            await tolerantly(stage.seen("a", index, PaymentStatus.FAILED))
        assert await stage.database.read(lambda tx: outage_between(tx, 0, 1 << 60)) is None
        assert [said for said in stage.said(CreditIssued) if said.payment_hash == sha("fee a")] == []
        assert (await stage.office.view(sha("a"))).state == "ended"
        stage.database.close()


async def test_what_peers_ask_is_no_sign_that_they_can_reach_us(stage: Stage) -> None:
    """A gateway that was cut off may have questions of its own under way; only its word that it serves counts."""
    await stage.awake_until(stage.terms().commit_until_ms - 8_000)
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    while stage.now_ms < stage.terms().lock_by_ms:
        await stage.awake_until(stage.now_ms + 2_000, gateways=False)
        await stage.desk.read_round(ReadRound(round=1))
    await stage.turn()
    assert [said.payment_hash for said in stage.said(CreditIssued)] == [sha("fee a")]


async def test_any_settler_that_is_awake_counts(stage: Stage) -> None:
    """One of two sleeps from the offer to the deadline and strikes it: no outage, and the fee is kept."""
    sleeper, other = Awake(stage.office), Awake(stage.office)
    await sleeper.mark()
    await stage.desk.open(stage.opening("a"))
    await stage.settler.on_offer(stage.offer("a"))
    stage.settler.awake = other
    await stage.awake_until(stage.terms().lock_by_ms)
    await sleeper.mark()
    await stage.turn()
    assert (await stage.office.view(sha("a"))).state == "ended"
    assert stage.said(CreditIssued) == []


async def test_a_credit_whose_token_id_cannot_be_minted_any_more_gets_another(stage: Stage) -> None:
    """Its root key was retired: the credit stands, the former token id opens nothing, and only its owner may ask."""
    await no_offer(stage)
    ask = ClaimCredit(peer=PEER.public, payment_hash=sha("fee a"), token_id=sha("token b"))
    assert (await stage.desk.claim_credit(ask)).token_id == sha("token b")
    other = ClaimCredit(peer=PEER.public, payment_hash=sha("fee a"), token_id=sha("token c"), replaces=sha("nonsense"))
    assert (await stage.desk.claim_credit(other)).token_id == sha("token b")
    again = ClaimCredit(peer=PEER.public, payment_hash=sha("fee a"), token_id=sha("token c"), replaces=sha("token b"))
    assert (await stage.desk.claim_credit(again)).token_id == sha("token c")
    await stage.open_round(2)
    with pytest.raises(L402Error):
        await stage.desk.open(stage.opening("b", round_=2, credit=True, payment_hash=sha("fee a")))
    assert (await stage.desk.open(stage.opening("c", round_=2, credit=True, payment_hash=sha("fee a")))).round == 2
