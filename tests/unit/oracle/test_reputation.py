"""Reputation ranks peers by how they fared beside one another, decides who enters an aggregate, and pays nobody."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402_oracle.adapters import reputations
from l402_oracle.attestor.app import Attestor
from l402_oracle.attestor.judgement import fared
from l402_oracle.reputation import NEW, Rating, admitted, after_round
from l402core.events import GradientScored, RoundAggregate

from tests.support.oracle import UPLOAD_UNTIL_MS, Stage, commits_closed, locked, measured, round_closed, sha

GOOD, BAD = Rating(mu=40.0, sigma=2.0), Rating(mu=10.0, sigma=2.0)


def test_who_helps_more_rises_above_who_helps_less() -> None:
    """Round after round; who is refused falls."""
    ratings: dict[str, Rating] = {}
    for _ in range(10):
        ratings = after_round(ratings, {"best": 900, "good": 600, "refused": 0})
    assert ratings["best"].ordinal > ratings["good"].ordinal > ratings["refused"].ordinal
    assert ratings["best"].ordinal > NEW.ordinal > ratings["refused"].ordinal
    assert all(rating.sigma < NEW.sigma for rating in ratings.values())


def test_alone_nobody_is_compared() -> None:
    """One peer, or none, keeps what it had."""
    assert after_round({"a": GOOD}, {"a": 5}) == {"a": GOOD}
    assert after_round({}, {}) == {}


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 10**9), min_size=2, max_size=8))
def test_the_same_round_gives_the_same_ratings(drops: dict[str, int]) -> None:
    """In whatever order its peers are named."""
    again = dict(reversed(list(drops.items())))
    assert after_round({}, drops) == after_round({}, again)


def test_places_go_to_the_best_reputed_and_are_free_while_they_last() -> None:
    """Of equals the first commitment; the aggregate keeps the order of commitments."""
    accepted = [("c1", "bad"), ("c2", "new"), ("c3", "good"), ("c4", "new too")]
    ratings = {"good": GOOD, "bad": BAD}
    assert admitted(accepted, ratings, 4) == ("c1", "c2", "c3", "c4")
    assert admitted(accepted, ratings, 2) == ("c1", "c3")
    assert admitted(accepted, ratings, 3) == ("c1", "c2", "c3")
    assert admitted(accepted, {}, 1) == ("c1",)


@pytest.mark.parametrize("places", [1, 3])
def test_nobody_who_is_not_accepted_enters(places: int) -> None:
    """However well reputed."""
    assert admitted([("c1", "bad")], {"good": GOOD, "bad": BAD}, places) == ("c1",)
    assert fared([]) == {}


async def test_a_round_with_one_place_pays_both_and_takes_the_better_reputed(
    tmp_path: Path, each_database: str
) -> None:
    """The first to commit does not enter; its pay is what it was measured, and both ratings are remembered."""
    stage = Stage(tmp_path)
    stage.attestor = Attestor(replace(stage.parts, aggregate_places=1))
    ann, bob = sha("peer ann"), sha("peer bob")
    await stage.announce()
    await stage.database.transact(lambda tx: reputations.write(tx, {ann: BAD, bob: GOOD}, 0))
    stage.now_ms = UPLOAD_UNTIL_MS
    await stage.hear(stage.round_opened())
    for seq, name in enumerate(("ann", "bob")):
        offer = await stage.offer(name, seq)
        await stage.hear(locked(offer), stage.uploaded(name), stage.screened(name))
    await stage.hear(commits_closed("ann", "bob"), round_closed("ann", "bob"))
    await stage.hear(measured("ann", 0.1), measured("bob", 0.1))
    scored = stage.ears.all(GradientScored)
    assert [event.verdict for event in scored] == ["accepted", "accepted"]
    assert scored[0].reward_msat == scored[1].reward_msat > 0
    (asked,) = [event for event in stage.ears.all(RoundAggregate) if event.round == 1]
    assert [item.peer for item in asked.items] == [bob]
    after = await stage.database.read(lambda tx: reputations.read(tx, (ann, bob)))
    assert after[ann].mu > BAD.mu
    stage.database.close()
