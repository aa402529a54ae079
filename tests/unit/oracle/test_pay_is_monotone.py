"""Who measures better is never paid less: by the formula, and in a round beside a yardstick."""

from hypothesis import given
from hypothesis import strategies as st
from l402_oracle.attestor.judgement import reference_from
from l402_oracle.scoring import Interval, PayRules, decide, ladder_units
from l402core.evidence import Yardstick

from tests.support.gateway import terms
from tests.unit.oracle.test_yardstick import a_yardstick

NANO = 1_000_000_000
drops = st.floats(1e-4, 3.0)


@given(drops, drops, drops)
def test_by_the_formula(one: float, other: float, reference: float) -> None:
    """Beside the same reference."""
    less, more = sorted((one, other))
    assert units(less, reference) <= units(more, reference)


@given(drops, drops, st.lists(drops, max_size=5))
def test_in_a_round_beside_a_yardstick(one: float, other: float, others: list[float]) -> None:
    """Nobody's own drop moves the reference."""
    less, more = sorted((one, other))
    assert paid(less, others, a_yardstick(drop=0.1)) <= paid(more, others, a_yardstick(drop=0.1))


def test_without_a_yardstick_a_better_drop_can_put_the_others_out_of_the_reference() -> None:
    """Then the reference jumps to one's own drop: less pay for more gain, one more reason for a yardstick."""
    assert paid(1.12, [0.5, 0.5], None) > paid(1.14, [0.5, 0.5], None)


def paid(mine: float, others: list[float], yardstick: Yardstick | None) -> int:
    """Units of one beside others, in a first round."""
    drops_nano = [round(drop * NANO) for drop in (*others, mine)]
    return units(mine, reference_from(terms(), drops_nano, yardstick) / NANO)


def units(drop: float, reference: float) -> int:
    """What a sure drop earns."""
    made = decide(Interval(drop, drop / 100, 64), (), reference, PayRules())
    assert 0 <= made.units <= ladder_units()
    return made.units
