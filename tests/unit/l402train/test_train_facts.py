"""Joining facts: whatever the order they come in, the same run is told."""

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from l402core.events import Event
from l402train.facts import Facts
from l402train.peers import Peer, cast

from tests.support.runs import TRACE, a_story, checkpoint, wire

PEER = "dd" * 32


def told(events: Sequence[Event], cast_of: tuple[Peer, ...] = ()) -> Facts:
    """Facts that have taken these events."""
    facts = Facts(cast_of or cast((PEER,), ("honest",)), clock=lambda: 12.5)
    for event in events:
        facts.take(*wire(event))
    return facts


def test_a_paid_submission_is_told_whole() -> None:
    """Fee, lock, score, reward and trace of one story land in one row."""
    facts = told(a_story("ab" * 32, PEER))
    round_ = facts.report(1)
    (one,) = round_.submissions
    assert (round_.loss_before, round_.loss_after) == (5.6000000000000005, 4.9)
    assert (one.peer, one.kind, one.fee_msat, one.locked_msat) == ("peer-1", "honest", 500_000, 6_300_000)
    assert (one.score, one.interval) == (0.01, (0.008, 0.012))
    assert (one.reward_msat, one.verdict, one.trace_id) == (3_100_000, "accepted", TRACE)
    assert facts.is_over(1)
    assert facts.is_settled()
    assert facts.settled_msat() == 3_100_000
    assert facts.first_paid_s == 12.5


@given(st.randoms(use_true_random=False))
def test_the_order_of_facts_does_not_matter(shuffle: random.Random) -> None:
    """Streams may be replayed and interleaved: the report is the same."""
    story = a_story("ab" * 32, PEER)
    shuffled = story.copy()
    shuffle.shuffle(shuffled)
    assert told(shuffled).report(1) == told(story).report(1)
    assert told(shuffled).is_settled()


def test_a_fact_that_comes_twice_counts_once() -> None:
    """A redelivered settlement is not paid a second time in the report."""
    story = a_story("ab" * 32, PEER)
    assert told(story + story).settled_msat() == 3_100_000


def test_a_round_is_not_over_before_every_submission_has_an_end() -> None:
    """A checkpoint alone does not end a round in which somebody still waits for a decision."""
    story = a_story("ab" * 32, PEER)
    assert not told([*story[:2], checkpoint(1, 5), checkpoint(2, 4)]).is_over(1)
    assert not told(story[:5]).is_over(1)


def test_money_that_is_still_locked_is_not_settled() -> None:
    """One rung without an end keeps the run from being settled."""
    assert not told(a_story("ab" * 32, PEER)[:-3]).is_settled()


def test_a_stranger_is_a_guest_under_its_key() -> None:
    """Who joined from elsewhere has no kind of ours."""
    (one,) = told(a_story("ab" * 32, "99" * 32)).report(1).submissions
    assert (one.peer, one.kind) == ("99" * 32, "guest")


def test_an_unknown_subject_is_passed_over() -> None:
    """A newer network may say more than this program knows."""
    assert Facts((), clock=float).take("weather.changed.v9.x", b"{}", "") is None
