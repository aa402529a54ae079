"""The score's arithmetic at its very limits: where a sign, a bound or a default decides about money."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402_oracle.scoring import (
    Interval,
    PayRules,
    Reason,
    decide,
    interval,
    is_improvement,
    ladder_units,
    quality_ppm,
    reference,
)


def test_the_defaults_are_the_published_ones() -> None:
    """Six rungs of 63 units, and a floor of 60 %."""
    assert ladder_units() == 63
    assert (PayRules().phi_ppm, PayRules().rungs) == (600_000, 6)


def test_an_interval_that_only_touches_zero_shows_nothing() -> None:
    """Neither an improvement nor a harm."""
    assert not is_improvement(Interval(mean=3.0, se=1.0, n=9))
    assert decide(Interval(mean=-3.0, se=1.0, n=9), (), 1.0, PayRules()).reasons[0].code == "no_improvement"


def test_two_drops_are_enough_and_one_is_not() -> None:
    """The least that has a spread."""
    assert interval([1.0, 3.0]).mean == 2.0
    with pytest.raises(ValueError, match="two"):
        interval([1.0])


def test_a_drop_of_nothing_is_no_accepted_drop() -> None:
    """Zero is refused, and what lies exactly at the floor counts."""
    with pytest.raises(ValueError, match="positive"):
        reference([0.0], 600_000, None)
    assert reference([1.0, 1.0], 1_000_000, None) == 1.0


def test_small_references_and_no_floor_are_fine() -> None:
    """A quality needs a positive reference, however small."""
    assert quality_ppm(0.5, 0.5, 600_000) == 1_000_000
    assert quality_ppm(1.0, 1.0, 0) == 1_000_000


def test_what_is_rejected_earns_exactly_nothing() -> None:
    """No unit, no rung, no quality; and the reason names the floor."""
    refused = decide(None, (Reason("duplicate", "It is a copy."),), None, PayRules())
    assert (refused.quality_ppm, refused.units, refused.mask) == (0, 0, 0)
    low = decide(Interval(mean=0.5, se=0.01, n=9), (), 1.0, PayRules())
    assert (low.verdict, low.units) == ("rejected", 0)
    assert "rewards begin above 60 %" in low.reasons[0].sentence


gains = st.floats(1e-4, 2.0)


@given(gains, gains, st.floats(1e-4, 1.0), st.sampled_from((400_000, 600_000, 700_000)))
def test_pay_never_falls_as_the_measured_gain_grows(one: float, other: float, reference: float, phi: int) -> None:
    """Of two updates of a round, whoever lowered the loss more is paid at least as much; nothing else is asked."""
    less, more = sorted((one, other))
    rules = PayRules(phi_ppm=phi)
    paid = [decide(Interval(gain, gain / 10, 512), (), reference, rules).units for gain in (less, more)]
    assert paid[0] <= paid[1]
