"""What a measured update earns: the formula, its resistance to games, and money in integers."""

import math
import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402_oracle.scoring import (
    MAX_QUALITY_PPM,
    Interval,
    PayRules,
    Reason,
    decide,
    excess_milli,
    interval,
    ladder_units,
    mask_for,
    quality_ppm,
    reference,
    units_for,
)
from l402core.documents import LADDER, mask_indices

PHI = 600_000
RULES = PayRules(PHI)


def codes(*args: Any) -> list[str]:
    """The reason codes of a decision."""
    return [reason.code for reason in decide(*args).reasons]


def test_an_interval_is_the_mean_and_three_standard_errors() -> None:
    """Four drops worked by hand: mean 2, sample variance 2/3, SE the root of a quarter of that."""
    seen = interval([1.0, 2.0, 2.0, 3.0])
    assert seen.mean == 2.0
    assert seen.se == pytest.approx(math.sqrt(2 / 3 / 4))
    assert (seen.lo, seen.hi) == pytest.approx((2 - 3 * seen.se, 2 + 3 * seen.se))


@pytest.mark.parametrize("drops", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_no_interval_without_two_finite_drops(drops: list[float]) -> None:
    """A model that blew up has no interval."""
    with pytest.raises(ValueError, match="two finite"):
        interval(drops)


def test_the_excess_is_what_a_hand_computes() -> None:
    """Of 1 to 40 the two outermost on either side are bounded, to 3 and 38, before both sides are compared."""
    own, hidden = [*range(21, 38), 38, 38, 38], [3, 3, 3, *range(4, 21)]
    error = math.hypot(*(statistics.stdev(side) / 20**0.5 for side in (own, hidden)))
    expected = round(1_000 * (statistics.fmean(own) - statistics.fmean(hidden)) / error)
    assert excess_milli([float(n) for n in range(21, 41)], [float(n) for n in range(1, 21)]) == expected


def test_an_excess_is_the_difference_over_its_own_error() -> None:
    """Alike it is none; a whole spread apart it is the spread over what both means err by; one way and the other."""
    wide, higher = [float(n % 10) for n in range(200)], [n % 10 + 3.0 for n in range(200)]
    assert excess_milli(wide, wide) == 0
    assert excess_milli(higher, wide) == -excess_milli(wide, higher) > 0
    assert excess_milli([1.0] * 40, [1.0] * 40) == 0
    assert 8_000 < excess_milli(higher, wide) < 3.0 / math.hypot(2.88 / 200**0.5, 2.88 / 200**0.5) * 1_100


def test_a_few_windows_do_not_hide_the_others() -> None:
    """Three of 160 that drop by a hundred times the spread, up or down, move an excess by less than an eighth."""
    rng = random.Random(1)
    own, hidden = [rng.gauss(1, 1) for _ in range(160)], [rng.gauss(0, 1) for _ in range(256)]
    usual = excess_milli(own, hidden)
    for far in (100.0, -100.0):
        assert abs(excess_milli([far] * 3 + own[3:], hidden) - usual) < usual / 8


def test_the_excess_of_work_from_elsewhere_errs_by_one() -> None:
    """What the limit of a refusal is computed from: also where the drops are not normal."""
    rng, draws = random.Random(2), 400
    seen = [
        excess_milli([rng.expovariate(1) for _ in range(160)], [rng.expovariate(1) for _ in range(256)]) / 1000
        for _ in range(draws)
    ]
    found = interval(seen)
    assert found.lo < 0 < found.hi
    assert 0.85 < found.se * draws**0.5 < 1.15


def test_the_reference_of_equals_is_their_drop() -> None:
    """Three honest peers with equal drops define the reference."""
    assert reference([0.1, 0.1, 0.1], PHI, None) == pytest.approx(0.1)


def test_many_small_identities_do_not_lower_the_reference() -> None:
    """Ten identities at 0.23 of an honest drop move it hardly, where a median would follow them."""
    assert reference([10.0] * 4 + [2.3] * 10, PHI, None) == pytest.approx(10.0)


def test_the_reference_moves_at_most_by_the_held_factors() -> None:
    """0.25 to 2.5 times the last one; free in the first round; unchanged without accepted drops."""
    assert reference([1.0], PHI, 0.1) == pytest.approx(0.25)
    assert reference([0.001], PHI, 0.1) == pytest.approx(0.025)
    assert reference([1.0], PHI, None) == 1.0
    assert reference([], PHI, 0.1) == 0.1
    assert reference([], PHI, None) is None


def test_a_reference_of_harm_is_an_error() -> None:
    """Only accepted drops, which are positive, count."""
    with pytest.raises(ValueError, match="positive"):
        reference([0.1, -0.1], PHI, None)


@given(st.lists(st.floats(1e-4, 10), min_size=1, max_size=20))
def test_the_reference_lies_among_the_drops(drops: list[float]) -> None:
    """It is a mean weighted by itself: never above the largest, never below the plain mean."""
    value = reference(drops, PHI, None)
    assert value is not None
    assert math.fsum(drops) / len(drops) * (1 - 1e-9) <= value <= max(drops) * (1 + 1e-9)


@pytest.mark.parametrize(("share", "quality"), [(0.0, 0), (0.6, 0), (0.8, 500_000), (1.0, 1_000_000), (9.0, 2_000_000)])
def test_quality_is_zero_at_the_floor_one_at_the_reference_two_at_most(share: float, quality: int) -> None:
    """The formula of the terms at its corners."""
    assert quality_ppm(share * 0.25, 0.25, PHI) == pytest.approx(quality, abs=1)


@pytest.mark.parametrize(
    ("drop", "ref", "phi"), [(math.nan, 1, 0), (1, 0, 0), (1, -1, 0), (1, math.inf, 0), (1, 1, 10**6)]
)
def test_quality_refuses_what_is_no_number(drop: float, ref: float, phi: int) -> None:
    """Nothing that is not finite comes near money."""
    with pytest.raises(ValueError, match="quality needs"):
        quality_ppm(drop, ref, phi)


def test_quality_two_is_the_whole_ladder_and_one_is_31_units() -> None:
    """63 units at quality 2, floored below."""
    assert [units_for(quality) for quality in (0, 31_746, 1_000_000, 2_000_000)] == [0, 0, 31, 63]
    with pytest.raises(ValueError, match="outside"):
        units_for(MAX_QUALITY_PPM + 1)


@given(st.integers(1, 32).flatmap(lambda rungs: st.tuples(st.just(rungs), st.integers(0, (1 << rungs) - 1))))
def test_the_mask_reveals_exactly_the_earned_sum(case: tuple[int, int]) -> None:
    """For every sum there is one set of rungs, and it adds up to the unit."""
    rungs, units = case
    assert sum(1 << index for index in mask_indices(mask_for(units, rungs), rungs)) == units
    assert sum(1 << index for index in range(rungs)) == ladder_units(rungs)


def test_the_ladder_of_the_terms_is_the_one_that_is_paid_by() -> None:
    """Six rungs of 1 to 32 units make 63; the reference itself earns 31 of them."""
    assert sum(LADDER) == ladder_units(len(LADDER))
    assert units_for(quality_ppm(0.25, 0.25, PHI)) == 31


def test_out_of_range_ladders_are_refused() -> None:
    """Masks, rungs and units each have their limits."""
    with pytest.raises(ValueError, match="units"):
        mask_for(64)
    with pytest.raises(ValueError, match="rungs"):
        ladder_units(33)


def test_an_honest_update_at_the_reference_earns_half_the_ladder() -> None:
    """Accepted, 31 units, a sentence with its numbers."""
    decision = decide(Interval(0.2, 0.01, 512), [], 0.2, RULES)
    assert (decision.verdict, decision.units, decision.mask) == ("accepted", 31, 31)
    assert decision.reasons[0].sentence.startswith(
        "It improved the model: it lowers the loss by 0.2000 nats per token, 100 %"
    )


def test_an_interval_that_includes_zero_earns_nothing() -> None:
    """z = 2.9 is not enough, and the peer is told the interval; clear harm is called harm."""
    assert codes(Interval(0.029, 0.01, 512), [], 0.2, RULES) == ["no_improvement"]
    assert codes(Interval(-0.2, 0.01, 512), [], 0.2, RULES) == ["harmful"]


def test_what_is_not_paid_for_is_not_used() -> None:
    """An improvement below the floor is rejected, not taken for free."""
    decision = decide(Interval(0.1, 0.001, 512), [], 0.2, RULES)
    assert (decision.verdict, decision.units, decision.reasons[0].code) == ("rejected", 0, "below_floor")
    assert "50 % of the round's reference" in decision.reasons[0].sentence


def test_a_fault_rejects_whatever_was_measured() -> None:
    """A copy measures as well as its original and earns nothing."""
    fault = Reason("duplicate", "It repeats an earlier update.")
    for measured in (None, Interval(0.2, 0.01, 512)):
        decision = decide(measured, [fault], 0.2, RULES)
        assert (decision.verdict, decision.units, decision.reasons) == ("rejected", 0, (fault,))


def test_unmeasured_is_not_rejected() -> None:
    """Without a fault and a measurement there is nothing to decide."""
    with pytest.raises(ValueError, match="needs a measurement"):
        decide(None, [], 0.2, RULES)
    with pytest.raises(ValueError, match="has a reference"):
        decide(Interval(0.2, 0.01, 512), [], None, RULES)


@given(st.floats(-1, 1), st.floats(1e-4, 1), st.floats(0, 0.3))
def test_only_the_accepted_are_paid_and_all_accepted_are(mean: float, ref: float, se: float) -> None:
    """Accepted exactly where units are earned, and then the interval lies above zero."""
    decision = decide(Interval(mean, se, 512), [], ref, RULES)
    assert (decision.verdict == "accepted") == (decision.units > 0)
    assert decision.units == 0 or mean - 3 * se > 0
    assert 0 <= decision.mask <= 63
