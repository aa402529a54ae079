"""A benchmark's table of stages, from facts in any order."""

import random
from typing import Any

import msgspec
import pytest
from _scale_fleets import shares
from _scale_meter import counts
from _scale_paper import SLOTS, channels_for
from _scale_stages import Story, spread, table
from l402core import events
from l402core.documents import Terms
from l402core.events import Event

from tests.support.runs import KEY, a_story, checkpoint, terms

FIRST, SECOND = "ab" * 32, "cd" * 32


def at(event: Event, at_ms: int) -> Event:
    """The same at another time."""
    return msgspec.structs.replace(event, occurred_at_ms=at_ms)


def two_submissions() -> list[Event]:
    """One round from 1,000 ms on, in which the first submission is always two seconds before the second."""
    opened = msgspec.structs.replace(terms(), opened_at_ms=1_000, commit_until_ms=41_000, lock_by_ms=51_000)
    whole: dict[str, Any] = {"id": "1", "occurred_at_ms": 1_000, "round": 1}
    told: list[Event] = [events.RoundOpened(**whole, terms=KEY.sign(Terms.tag, opened))]
    for delay_ms, commitment in ((0, FIRST), (2_000, SECOND)):
        for number, fact in enumerate(a_story(commitment, "dd" * 32)):
            if isinstance(fact, events.SubmissionEvent):
                told.append(at(fact, 2_000 + delay_ms + 1_000 * number))
        paid = events.FeeSettled(
            id="1", occurred_at_ms=1_500 + delay_ms, payment_hash=commitment, amount_msat=500_000, settle_index=1
        )
        told.append(paid)
    return [*told, at(checkpoint(1, 5_600_000_000), 900), at(checkpoint(2, 4_900_000_000), 30_000)]


def story_of(facts: list[Event]) -> Story:
    """As the bus brings them."""
    story = Story()
    for fact in facts:
        story.take(fact.subject, msgspec.json.encode(fact))
    return story


def test_stages_count_from_the_rounds_opening() -> None:
    """First, middle and last of every stage, whatever the order of the facts."""
    facts = two_submissions()
    random.Random(1).shuffle(facts)
    (told,) = story_of(facts).rounds({1: [1_200, 1_400]})
    assert {name: (one.first_s, one.last_s) for name, one in told.stages.items()} == {
        "trained": (0.2, 0.4), "fee paid": (0.5, 2.5), "opened": (2.0, 4.0), "locked": (3.0, 5.0),
        "uploaded": (4.0, 6.0), "judged": (5.0, 7.0), "settled": (11.0, 13.0), "next checkpoint": (29.0, 29.0),
    }  # fmt: skip
    assert told.deadlines_s["commit"] == 40.0
    assert told.stages["locked"].median_s == 4.0


def test_money_and_places_are_summed() -> None:
    """Two ladders of 63 units, of which 31 units each were earned and collected."""
    (told,) = story_of(two_submissions()).rounds()
    assert (told.opened, told.locked, told.uploaded, told.judged, told.accepted, told.paid) == (2, 2, 2, 2, 2, 2)
    assert (told.fees_msat, told.locked_msat) == (1_000_000, 12_600_000)
    assert (told.rewards_msat, told.settled_msat) == (6_200_000, 6_200_000)
    assert told.loss_after_nano < told.loss_before_nano


def test_a_round_is_over_when_every_locked_rung_has_ended() -> None:
    """Not before, though its checkpoint is there."""
    facts = two_submissions()
    assert story_of(facts).is_over(1)
    assert not story_of(facts).is_over(2)
    lacking = next(fact for fact in facts if isinstance(fact, events.EscrowReturned))
    assert not story_of([fact for fact in facts if fact is not lacking]).is_over(1)


def test_a_fee_belongs_to_the_round_that_was_open() -> None:
    """It names none itself."""
    later = msgspec.structs.replace(terms(2), opened_at_ms=3_000)
    second = events.RoundOpened(id="1", occurred_at_ms=3_000, round=2, terms=KEY.sign(Terms.tag, later))
    first, following = story_of([*two_submissions(), second]).rounds()
    assert (first.stages["fee paid"].count, following.stages["fee paid"].count) == (1, 1)


def test_the_table_has_a_row_for_each_stage_and_tells_what_is_missing() -> None:
    """A stage that nobody reached is an empty cell."""
    lines = table(story_of(two_submissions()).rounds()).splitlines()
    assert "| locked | 50 | 3.0 / 4.0 / **5.0** |" in lines
    assert "| trained | 40 |  |" in lines


def test_nothing_has_no_spread() -> None:
    """A stage that nobody reached is left out instead."""
    with pytest.raises(IndexError):
        spread(0, [])


def test_shares_are_even_and_leave_nobody_out() -> None:
    """70 in four processes; one in two."""
    assert shares(70, 4) == [(0, 17), (17, 18), (35, 17), (52, 18)]
    assert shares(1, 2) == [(0, 0), (0, 1)]


def test_channels_hold_the_ladders_of_two_rounds() -> None:
    """One settles while the next is locked."""
    for peers in (1, 40, 41, 70, 1_000):
        assert channels_for(peers) * SLOTS >= 2 * 6 * peers > (channels_for(peers) - 1) * SLOTS


def test_histograms_are_counted_by_their_first_label() -> None:
    """Several outcomes of one event are one number; buckets and sums are none."""
    page = (
        'l402_message_seconds_count{event="fee.mint",outcome="ok"} 3.0\n'
        'l402_message_seconds_count{event="fee.mint",outcome="refused"} 1.0\n'
        'l402_message_seconds_bucket{event="fee.mint",le="1.0",outcome="ok"} 3.0\n'
        "l402_round 1.0\n"
    )
    assert counts(page) == {"l402_message_seconds fee.mint": 4}
