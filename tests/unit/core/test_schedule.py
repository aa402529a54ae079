"""The published schedule computed again: every receipt that the oracle can sign passes, and any other is named."""

from typing import Any

import msgspec
import pytest
from l402core.documents import Receipt, Terms
from l402core.schedule import difference, quality_ppm, units_of

from tests.support.runs import receipt, terms

REFERENCE, FLOOR = 10**9, 6 * 10**8


def by_the_terms(units: int = 21, **changes: Any) -> Receipt:
    """What the terms give for so many units, at a reference of one nat; `changes` are not by the terms."""
    quality = -(-units * 2_000_000 // 63)
    drop = FLOOR + quality * (REFERENCE - FLOOR) // 10**6
    made = msgspec.structs.replace(
        receipt("aa" * 32, reward_msat=units * 100_000), terms=terms().digest(), reference=REFERENCE, floor=FLOOR,
        drop_mean=drop, drop_low=1, drop_high=drop + 1, quality_ppm=quality, units=units, mask=units,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def code(told: Receipt, by: Terms | None = None) -> str:
    """What differs first."""
    found = difference(told, by or terms())
    return found[0] if found else ""


@pytest.mark.parametrize("units", range(1, 64))
def test_every_part_of_the_ladder_is_by_the_schedule(units: int) -> None:
    """From the drop to the millisatoshi."""
    assert code(by_the_terms(units)) == ""


def test_what_is_rejected_earns_nothing() -> None:
    """With no units there is no score to compare; with units there must be a verdict for them."""
    nothing = by_the_terms(0, verdict="rejected", drop_mean=0, quality_ppm=0)
    assert code(nothing) == ""
    assert code(by_the_terms(1, verdict="rejected")) == "verdict"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"terms": "00"}, "terms"),
        ({"round": 2}, "round"),
        ({"reward_msat": 2_100_001}, "reward"),
        ({"mask": 21 + 64}, "mask_bits"),
        ({"mask": 22}, "mask"),
        ({"drop_low": 0}, "accepted"),
        ({"reference": 0}, "accepted"),
        ({"floor": FLOOR - 2}, "floor"),
        ({"floor": FLOOR + 2}, "floor"),
        ({"quality_ppm": by_the_terms().quality_ppm + 6}, "quality"),
        ({"quality_ppm": by_the_terms().quality_ppm - 6}, "quality"),
    ],
)
def test_each_thing_that_is_not_by_the_terms_is_named(changes: dict[str, Any], expected: str) -> None:
    """The first one that differs, by a code that stays."""
    assert code(by_the_terms(**changes)) == expected


def test_units_beyond_the_score_are_named() -> None:
    """One unit more, with its mask and its money."""
    assert code(msgspec.structs.replace(by_the_terms(), units=22, mask=22, reward_msat=2_200_000)) == "units"


def test_the_limits_themselves_are_by_the_terms() -> None:
    """One nano-nat of floor and the rounding of the quality are no difference; the next step is."""
    assert code(by_the_terms(floor=FLOOR + 1)) == code(by_the_terms(floor=FLOOR - 1)) == ""
    exact = by_the_terms()
    assert quality_ppm(exact.drop_mean, REFERENCE, terms()) == exact.quality_ppm
    assert code(msgspec.structs.replace(exact, quality_ppm=exact.quality_ppm + 2)) == ""
    assert code(msgspec.structs.replace(exact, quality_ppm=exact.quality_ppm + 3)) == "quality"
    small = by_the_terms(reference=10**5, floor=6 * 10**4, drop_mean=86_667)
    assert quality_ppm(86_667, 10**5, terms()) == 666_675
    assert code(msgspec.structs.replace(small, quality_ppm=666_675 + 77)) == ""
    assert code(msgspec.structs.replace(small, quality_ppm=666_675 + 78)) == "quality"
    assert code(by_the_terms(reference=1, floor=1)) != "accepted"


@pytest.mark.parametrize(
    ("previous", "reference", "held"),
    [
        (10**9, 25 * 10**7, True), (10**9, 25 * 10**7 - 1, True), (10**9, 25 * 10**7 - 2, False),
        (10**9, 25 * 10**8, True), (10**9, 25 * 10**8 + 1, True), (10**9, 25 * 10**8 + 2, False), (0, 10**12, True),
    ],
)  # fmt: skip
def test_the_reference_moves_within_its_band(previous: int, reference: int, held: bool) -> None:
    """0.25 to 2.5 times the last round's, to the nano-nat; the first round is free."""
    by = msgspec.structs.replace(terms(), reference_previous=previous)
    told = by_the_terms(terms=by.digest(), reference=reference)
    assert (code(told, by) != "reference") is held


@pytest.mark.parametrize(
    ("drop", "quality"),
    [
        (0, 0),
        (FLOOR, 0),
        (FLOOR + 400, 1),
        (8 * 10**8, 500_000),
        (10**9, 10**6),
        (14 * 10**8, 2 * 10**6),
        (10**10, 2 * 10**6),
    ],
)
def test_quality_is_the_share_above_the_floor(drop: int, quality: int) -> None:
    """Nothing at the floor, one at the reference, two at most."""
    assert quality_ppm(drop, REFERENCE, terms()) == quality


@pytest.mark.parametrize(("quality", "units"), [(0, 0), (31_746, 0), (31_747, 1), (10**6, 31), (2 * 10**6, 63)])
def test_units_are_floored(quality: int, units: int) -> None:
    """Quality two is the whole ladder."""
    assert units_of(quality, terms()) == units
