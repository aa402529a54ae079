"""Who trained on assigned data: asked only where the round itself can tell, and never of those who were not tried."""

import hashlib
import random
import statistics

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402_oracle.attestor.own_data import (
    PART,
    SHARE,
    Question,
    Tried,
    answer,
    not_own_data,
    question,
    shown,
    tried,
)
from sparseloco.corpus import load_corpus, own_windows, shard_key, train_shard
from sparseloco.data import assigned_windows, train_batches

from tests.support.oracle import measured


def tried_by(z: float) -> Tried:
    """An improvement that helps its own data by z standard errors more than hidden data."""
    return Tried(10_000_000, round(10_000_000 + z * 1_000_000), round(z * 1000))


def found(*z: float) -> set[int]:
    """Which of a round's updates have the fault."""
    improvements = {str(n): tried_by(one) for n, one in enumerate(z)}
    return {int(name) for name in not_own_data(improvements, question(improvements))}


def test_a_stranger_to_its_data_is_found_among_those_who_are_not() -> None:
    """Three who trained on theirs, one who did not; the words say what was seen, and where the limit lay."""
    assert found(9.0, 8.8, 9.4, -0.2) == {3}
    assert found(9.0, 8.8, 9.4, Question(9.0).least + 0.1) == set()
    improvements = {str(n): tried_by(z) for n, z in enumerate((9.0, 9.0, 0.0))}
    reason = not_own_data(improvements, question(improvements))["2"]
    assert reason.code == "not_own_data"
    assert "+0.0 standard errors, where honest work shows +9.0 and less than +1.0 is refused" in reason.sentence


def test_where_own_data_shows_little_nobody_is_refused_for_showing_none() -> None:
    """Early in training; also where honest peers' excesses lie far apart. The receipt says that this tells nothing."""
    assert found(5.5, 4.0, 6.9, 0.0) == set()
    assert found(5.4, 2.7, 0.1, 0.7) == set()
    assert found() == set()
    assert question({}) is None
    assert "cannot tell" in answer(tried_by(0.0), Question(5.5))
    assert "cannot tell" not in answer(tried_by(5.0), Question(9.0))


def test_training_on_the_hidden_shards_is_found_earlier() -> None:
    """Its excess lies below none at all."""
    assert found(5.5, 4.0, -2.0) == {2}
    assert found(0.0, 0.0, -3.6) == {2}


@pytest.mark.parametrize("usual", [0.0, 2.0, 4.0, 6.0, 9.0, 14.0, 20.0])
def test_one_honest_peer_in_a_thousand_is_refused_at_most(usual: float) -> None:
    """Who truly shows the least share of what the yardstick truly shows, each seen with an error of one."""
    rng, rounds = random.Random(usual), 40_000
    refused = sum(rng.gauss(SHARE * usual, 1) < Question(rng.gauss(usual, 1)).least for _ in range(rounds))
    assert refused <= 1.5 * rounds / 1000  # 40 are expected at most, and 60 lie three standard errors above
    alike = [rng.gauss(usual, 1) < Question(rng.gauss(usual, 1)).least for _ in range(rounds)]
    assert statistics.mean(alike) <= 1.5 / 1000


@pytest.mark.parametrize(("usual", "least"), [(9.0, 0.5), (11.0, 0.9), (13.0, 0.99)])
def test_of_those_who_trained_elsewhere_most_are_found_once_own_data_shows(usual: float, least: float) -> None:
    """The power that is left: from an excess of nine on."""
    rng, rounds = random.Random(usual), 10_000
    caught = sum(rng.gauss(0, 1) < Question(rng.gauss(usual, 1)).least for _ in range(rounds))
    assert caught >= least * rounds


@given(st.lists(st.floats(5, 12), min_size=1, max_size=9), st.lists(st.floats(-9, 12), max_size=9))
def test_a_minority_cannot_have_honest_peers_refused(honest: list[float], others: list[float]) -> None:
    """Whatever fewer others show, nobody is refused who shows a quarter of what an honest peer does."""
    refused = found(*honest, *others[: len(honest) - 1])
    assert all(honest[n] < PART * max(honest) for n in refused if n < len(honest))


def test_who_was_not_tried_is_not_asked() -> None:
    """No own windows, or a failed measurement; with them, the number and the words of the receipt."""
    plain = measured("x", 0.01)
    assert tried(plain) is None
    own = msgspec.structs.replace(plain, own_mean=14_000_000, own_excess_milli=3_430, own_sequences=64)
    assert tried(own) == Tried(10_000_000, 14_000_000, 3_430)
    assert "+3.4 standard errors" in shown(Tried(10_000_000, 14_000_000, 3_430))
    assert tried(msgspec.structs.replace(own, failure="not_finite: …")) is None


@pytest.mark.parametrize(("dealt", "count"), [(160, 64), (40, 32), (15, 0)])
def test_what_is_looked_at_are_windows_that_the_peer_was_dealt(dealt: int, count: int) -> None:
    """Whole batches, drawn by a seed that nobody knows before commitments close."""
    seed, peer = hashlib.sha256(b"seed").digest(), bytes(32)
    drawn = own_windows(seed, peer, dealt, 64)
    assert (len(drawn), len(set(drawn))) == (count, count)
    assert all(0 <= number < dealt for number in drawn)
    assert drawn != own_windows(bytes(32), peer, dealt, 64) or not drawn


def test_the_windows_are_those_of_the_inner_steps() -> None:
    """The judge draws what the peer trains on."""
    corpus, key = load_corpus(), shard_key(bytes(32), bytes([1]) * 32)
    steps = list(train_batches(train_shard(corpus, key), key, 3, 4, 8))
    picked = assigned_windows(corpus, key, 3, 8, (0, 9, 31))
    assert (picked[0] == steps[0][0]).all()
    assert (picked[1] == steps[1][1]).all()
    assert (picked[2] == steps[3][7]).all()
