"""A receipt in words: what it promises for a better drop is what the formula of pay gives."""

import asyncio

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from l402core.documents import Receipt, Terms
from l402core.explanation import OTHER, UNSCORED, WORDS, drop_for, explain, ladder_units, more
from l402core.schedule import quality_ppm, units_of

from tests.support.evidence import NAMES, a_judged_round

ROUND, _ = asyncio.run(a_judged_round())
TERMS = msgspec.json.decode(ROUND.terms.body, type=Terms)
RECEIPTS = {
    name: msgspec.json.decode(signed.body, type=Receipt) for name, signed in zip(NAMES, ROUND.receipts, strict=True)
}


@given(st.integers(1, 63), st.integers(1_000, 3_000_000_000), st.integers(0, 999_999))
def test_the_drop_for_more_units_earns_them_and_the_next_smaller_does_not(units: int, reference: int, phi: int) -> None:
    """Whatever the reference and the floor are, to the nano-nat."""
    terms = msgspec.structs.replace(TERMS, phi_ppm=phi)
    receipt = msgspec.structs.replace(RECEIPTS["ann"], reference=reference)
    drop = drop_for(units, receipt, terms)
    assert units_of(quality_ppm(drop, reference, terms), terms) >= units
    assert units_of(quality_ppm(drop - 1, reference, terms), terms) < units


def test_a_round_is_told_best_first_with_ones_own_place() -> None:
    """Whoever was measured is there, paid or not; a copy is not, and everybody's own line is marked."""
    told = explain(RECEIPTS["bob"], TERMS, list(RECEIPTS.values()))
    assert [place.drop for place in told.places] == sorted((place.drop for place in told.places), reverse=True)
    assert [place.mine for place in told.places] == [False, True, False, False, False]
    assert told.floor < told.reference < told.whole
    assert explain(RECEIPTS["bob"], TERMS, ()).places[0].mine


def test_each_outcome_is_told_what_would_have_earned_more() -> None:
    """Paid, below the floor, harmful, a copy, trained elsewhere, unscored, the whole ladder."""
    assert more(RECEIPTS["ann"], TERMS).startswith("A drop of ")
    assert "the floor" in more(RECEIPTS["eve"], TERMS)
    assert more(RECEIPTS["dan"], TERMS) == WORDS["harmful"]
    assert more(RECEIPTS["cy"], TERMS) == WORDS["duplicate"]
    assert more(RECEIPTS["fay"], TERMS) == WORDS["not_own_data"]
    assert more(msgspec.structs.replace(RECEIPTS["ann"], verdict="unscored"), TERMS) == UNSCORED
    assert more(msgspec.structs.replace(RECEIPTS["ann"], units=ladder_units(TERMS)), TERMS).startswith("Nothing")
    strange = tuple(msgspec.structs.replace(check, code="new", passed=False) for check in RECEIPTS["ann"].checks)
    assert more(msgspec.structs.replace(RECEIPTS["ann"], checks=strange), TERMS) == OTHER
