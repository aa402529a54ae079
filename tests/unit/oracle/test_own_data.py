"""Who trained on assigned data: asked only where the round itself can tell, and never of those who were not tried."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402_oracle.attestor.own_data import AGAINST, MISSING, SHOWN, Tried, excess, not_own_data, shown, tried
from sparseloco.corpus import load_corpus, own_windows, shard_key, train_shard
from sparseloco.data import assigned_windows, train_batches

from tests.support.oracle import measured


def tried_by(z: float, *, drop: int = 10_000_000, error: int = 1_000_000) -> Tried:
    """An improvement that helps its own data by z standard errors more than hidden data."""
    return Tried(drop, error, round(drop + z * error * 2**0.5), error)


def found(*z: float) -> set[int]:
    """Which of a round's updates have the fault."""
    return {int(name) for name in not_own_data({str(n): tried_by(one) for n, one in enumerate(z)})}


def test_a_stranger_to_its_data_is_found_among_those_who_are_not() -> None:
    """Three who trained on theirs, one who did not."""
    assert found(5.6, 4.8, 6.0, -0.2) == {3}
    assert found(5.6, 4.8, 6.0, MISSING + 0.1) == set()
    reason = not_own_data({str(n): tried_by(z) for n, z in enumerate((5.0, 5.0, 0.0))})["2"]
    assert reason.code == "not_own_data"
    assert "+0.0 standard errors" in reason.sentence


def test_where_nobodys_data_can_be_told_apart_nobody_is_asked() -> None:
    """Early in training, or where most did not train on theirs."""
    assert found(SHOWN - 0.1, 2.0, 0.0, -1.0) == set()
    assert found() == set()


def test_training_on_the_hidden_shards_is_found_even_then() -> None:
    """Three standard errors the other way."""
    assert found(1.0, 0.5, AGAINST - 0.1) == {2}


@given(st.lists(st.floats(SHOWN, 12), min_size=1, max_size=9), st.lists(st.floats(-9, 12), max_size=9))
def test_a_minority_cannot_have_honest_peers_refused(honest: list[float], others: list[float]) -> None:
    """Whatever fewer others show, nobody whose data shows is refused."""
    refused = found(*honest, *others[: len(honest) - 1])
    assert refused.isdisjoint(range(len(honest)))


def test_who_was_not_tried_is_not_asked() -> None:
    """No own windows, or a failed measurement; with them, the number and the words of the receipt."""
    plain = measured("x", 0.01)
    assert tried(plain) is None
    own = msgspec.structs.replace(plain, own_mean=14_000_000, own_error=600_000, own_sequences=64)
    assert tried(own) == Tried(10_000_000, 1_000_000, 14_000_000, 600_000)
    assert "+3.4 standard errors" in shown(Tried(10_000_000, 1_000_000, 14_000_000, 600_000))
    assert excess(Tried(1, 0, 2, 0)) == 0
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
