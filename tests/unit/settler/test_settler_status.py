"""The network at a glance: what the books tell people of rounds, peers, open escrows and one submission's life."""

import pytest
from l402_settler.status import Status
from l402core.errors import NotFound
from l402core.events import LineupView, ReadLineup, ReadStatus, ReadStory, StatusView, StoryView
from l402core.lnd.port import PaymentStatus

from tests.support.settler import PEER, Stage, sha


async def seen(stage: Stage) -> StatusView:
    """One look."""
    return await Status(stage.office).read(ReadStatus())


async def story(stage: Stage, name: str = "a") -> StoryView:
    """One submission's life."""
    return await Status(stage.office).story(ReadStory(round=1, commitment=sha(name)))


async def judged(stage: Stage, name: str = "a", mask: int = 0b111) -> None:
    """A story up to its end: the rungs of the mask settled, the others returned."""
    await stage.uploaded(name)
    await stage.fee(name)
    await stage.settler.on_scored(stage.decision(name, mask))
    for index in range(6):
        await stage.seen(name, index, PaymentStatus.SETTLED if mask >> index & 1 else PaymentStatus.FAILED)


async def test_a_locked_reward_is_seen_as_open_money(stage: Stage) -> None:
    """One escrow, its whole ladder, and how old it is; nothing came out yet."""
    await stage.locked()
    view = await seen(stage)
    (escrow,) = view.escrows
    assert (escrow.state, escrow.escrows, escrow.locked_msat) == ("locked", 1, 6_300_000)
    assert escrow.oldest_ms == 1_000_000_000
    assert (view.fees_msat, view.rewards_msat, view.owed_msat, view.credits_msat) == (500_000, 0, 0, 0)


async def test_what_a_round_and_a_peer_came_to(stage: Stage) -> None:
    """Fees kept and rewards decided, by round and by peer; when all is over nothing is open."""
    await judged(stage)
    view = await seen(stage)
    (round_,) = view.rounds
    assert (round_.round, round_.submissions, round_.accepted, round_.rejected) == (1, 1, 1, 0)
    assert (round_.fees_msat, round_.rewards_msat) == (500_000, 700_000)
    (peer,) = view.peers
    assert (peer.peer, peer.accepted, peer.submissions, peer.last_round) == (PEER.public, 1, 1, 1)
    assert (peer.fees_msat, peer.rewards_msat) == (500_000, 700_000)
    assert view.escrows == ()
    assert (view.fees_msat, view.rewards_msat) == (500_000, 700_000)


async def test_a_fee_that_became_a_credit_was_not_kept(stage: Stage) -> None:
    """No offer came in time, which is our fault: the peer may use its fee again, and no line says that we earned it."""
    await stage.desk.open(stage.opening("a"))
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    view = await seen(stage)
    assert view.rounds[0].fees_msat == view.peers[0].fees_msat == view.fees_msat == 0
    assert view.credits_msat == 500_000


async def test_who_takes_part_is_told_in_order_and_how_far_each_has_come(stage: Stage) -> None:
    """Of the round that is asked for, or the newest; a round that was never opened is not there."""
    await stage.desk.open(stage.opening("a"))
    await stage.desk.open(stage.opening("b", peer=stage.key(7)))
    status = Status(stage.office)
    told: LineupView = await status.lineup(ReadLineup())
    assert [(one.seq, one.commitment, one.state, one.verdict) for one in told.submissions] == [
        (1, sha("a"), "opened", ""),
        (2, sha("b"), "opened", ""),
    ]
    assert await status.lineup(ReadLineup(round=1)) == told
    with pytest.raises(NotFound):
        await status.lineup(ReadLineup(round=2))


async def test_rounds_that_are_over_are_read_once(stage: Stage) -> None:
    """What does not change any more is remembered, so that a look costs no more as the books grow."""
    status = Status(stage.office)
    await judged(stage)
    await status.read(ReadStatus())
    assert status._over == {}  # round 1 is not done
    await stage.turn(now_ms=stage.terms().upload_until_ms)
    await stage.open_round(2)
    before = await status.read(ReadStatus())
    assert list(status._over) == [1]
    assert await status.read(ReadStatus()) == before
    assert [one.round for one in before.rounds] == [1, 2]


async def test_a_submissions_life_is_told_by_the_books_own_times(stage: Stage) -> None:
    """From its fee to the last rung, in order, with what was locked, paid and returned."""
    await judged(stage)
    told = {line.what: line for line in (await story(stage)).lines}
    assert {"fee received", "fee earned", "opened", "rung pending", "locked", "uploaded", "decided", "reward"} <= set(
        told
    )
    assert (told["rung pending"].times, told["rung pending"].amount_msat) == (6, 6_300_000)
    assert (told["rung post"].times, told["rung post"].amount_msat) == (3, 700_000)
    assert (told["rung void"].times, told["rung void"].amount_msat) == (3, 5_600_000)
    assert told["opened"].first_ms <= told["locked"].first_ms <= told["uploaded"].first_ms


async def test_a_story_that_is_not_there_is_not_told(stage: Stage) -> None:
    """Neither a stranger's commitment, nor one of another round."""
    await stage.desk.open(stage.opening("a"))
    with pytest.raises(NotFound):
        await story(stage, "nobody")
    with pytest.raises(NotFound):
        await Status(stage.office).story(ReadStory(round=2, commitment=sha("a")))
