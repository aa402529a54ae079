"""Whether a round fits its window: everybody is measured, the sample gives way, and more workers buy what is said."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402_oracle.adapters.records import Records
from l402_oracle.derive import SHARD_TOKENS
from l402_oracle.planning import FLOOR_SHARDS, OWN_TOKENS, USED_PERCENT, pace_of, plan
from l402core.errors import NotFound
from l402core.events import ReadOracle, RoundAssessed

from tests.support.oracle import UPLOAD_UNTIL_MS, Stage, aggregated, commits_closed, locked, measured, round_closed

amounts = st.integers(1, 10_000_000)


@given(amounts, st.integers(1, 500), st.integers(1, 600_000), st.integers(1, 256))
def test_a_plan_fits_or_takes_the_floor(pace: int, peers: int, window_ms: int, wanted: int) -> None:
    """Never more than wanted, never below the floor; above the floor, all peers fit into the window with room to spare."""
    made = plan(tokens_per_s=pace, peers=peers, window_ms=window_ms, wanted_shards=wanted)
    assert min(FLOOR_SHARDS, wanted) <= made.shards <= wanted
    assert made.fits == (made.shards == wanted and made.needed_ms <= max(1, window_ms * USED_PERCENT // 100))
    if made.shards > FLOOR_SHARDS:
        assert peers * made.shards * SHARD_TOKENS * 1_000 <= pace * (window_ms + 2)


@given(st.integers(1_000, 1_000_000), st.integers(1, 500), st.integers(1_000, 600_000), st.integers(1, 256))
def test_so_many_more_workers_make_it_fit(pace: int, peers: int, window_ms: int, wanted: int) -> None:
    """The share of the pool that is named would measure everything in time."""
    short = plan(tokens_per_s=pace, peers=peers, window_ms=window_ms, wanted_shards=wanted)
    larger = -(-pace * short.workers_percent // 100)
    if larger:
        assert plan(tokens_per_s=larger, peers=peers, window_ms=window_ms, wanted_shards=wanted).fits


def test_seventy_peers_are_told_what_they_need() -> None:
    """The same round at three paces: it fits, the sample gives way, not even the floor fits."""
    asked: dict[str, Any] = {"peers": 70, "window_ms": 60_000, "wanted_shards": 32}
    fast, slow, slower = (plan(tokens_per_s=pace, **asked) for pace in (200_000, 120_000, 10_000))
    assert (fast.fits, fast.shards) == (True, 32)
    assert (slow.fits, slow.shards) == (False, 20)
    assert "20 shards are taken instead; 1.3 times the workers" in slow.says
    assert (slower.fits, slower.shards) == (False, FLOOR_SHARDS)
    assert "not everybody" in slower.says
    assert plan(tokens_per_s=0, **asked).shards == 32


def test_the_yardstick_takes_a_peers_time_and_no_place() -> None:
    """It is measured with the others: at a pace for exactly eight, seven peers and it are in time."""
    pace = 8 * (32 * SHARD_TOKENS + OWN_TOKENS) * 100 // USED_PERCENT
    asked: dict[str, Any] = {"tokens_per_s": pace, "window_ms": 1_000, "wanted_shards": 32}
    made = {(peers, own): plan(peers=peers, yardstick=own, **asked) for peers in (7, 8) for own in (False, True)}
    assert {key: one.fits for key, one in made.items()} == {
        (7, False): True, (8, False): True, (7, True): True, (8, True): False,
    }  # fmt: skip
    assert (made[8, False].peers_fitting, made[8, True].peers_fitting, made[8, True].peers) == (8, 7, 8)


def test_a_pace_counts_all_that_was_computed() -> None:
    """Hidden windows once, for the loss before is shared; assigned ones twice."""
    assessed = RoundAssessed(
        id="a", occurred_at_ms=1_000, round=1, root="", seed="", shards=(), clip_norms=(), measured=(), rejected=()
    )
    seen = msgspec.structs.replace(measured("ann", 0.5), own_sequences=160, occurred_at_ms=3_000)
    assert pace_of(assessed, [seen]) == (65_536 + OWN_TOKENS) // 2


@given(amounts, st.integers(1, 500), st.integers(1_000, 600_000), st.booleans())
def test_what_a_plan_takes_is_done_in_time_or_said_not_to_be(pace: int, peers: int, window_ms: int, own: bool) -> None:
    """The sample that is taken, with the question of assigned data, in the used part of the window."""
    made = plan(tokens_per_s=pace, peers=peers, window_ms=window_ms, wanted_shards=32, yardstick=own)
    work = (peers + own) * (made.shards * SHARD_TOKENS + OWN_TOKENS) * 1_000
    assert (work > pace * (window_ms * USED_PERCENT // 100)) == ("not everybody" in made.says)


async def test_a_slow_round_makes_the_next_one_smaller(tmp_path: Path, each_database: str) -> None:
    """Two measurements took twenty seconds, and 22 are left for the next round: it takes fewer shards."""
    stage = Stage(tmp_path)
    with pytest.raises(NotFound):
        await Records(stage.database).plan()
    await stage.announce()
    await _round(stage, 1, took_ms=20_000)
    first, second = stage.ears.all(RoundAssessed)[0], await _round(stage, 2, took_ms=1)
    assert len(first.shards) == 32
    assert FLOOR_SHARDS <= len(second.shards) < 32
    made = await Records(stage.database).plan()
    assert (made.peers, made.window_ms, made.wanted_shards) == (8, 40_000, 32)
    told = await Records(stage.database, pool_shards=20).oracle(ReadOracle())
    assert told.plan is not None
    assert told.plan.wanted_shards == 20
    stage.database.close()


async def _round(stage: Stage, number: int, *, took_ms: int) -> RoundAssessed:
    names = [f"{name} {number}" for name in ("ann", "bob")]
    await stage.hear(stage.round_opened(number))
    for seq, name in enumerate(names):
        offer = await stage.offer(name, seq, number)
        await stage.hear(locked(offer), stage.uploaded(name, number), stage.screened(name, number))
    stage.now_ms = UPLOAD_UNTIL_MS + (0 if number == 1 else 18_000)
    await stage.hear(commits_closed(*names, round_=number), round_closed(*names, round_=number))
    assessed = stage.ears.last(RoundAssessed)
    for name in names:
        seen = measured(name, 0.5, number)
        await stage.hear(msgspec.structs.replace(seen, occurred_at_ms=stage.now_ms + took_ms))
    assert pace_of(assessed, []) == 0
    await stage.hear(*([] if number == 2 else [aggregated(1)]))
    return assessed
