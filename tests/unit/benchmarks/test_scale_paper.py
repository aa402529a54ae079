"""The arithmetic of docs/capacity.md, against numbers worked out by hand."""

import msgspec
import pytest
from _scale_counted import kind_of
from _scale_paper import (
    LINES,
    MODEL_LINES,
    Case,
    Measured,
    channels_for,
    gpus,
    locked_msat,
    opening_sat,
    payload_bytes,
    table,
)

SEEN = Measured(
    facts=20.0, work=5.0, fact_bytes=20_000.0, statements=50.0, book_bytes=10_000.0, settler_ms=30.0, attestor_ms=20.0,
    gateway_ms=10.0, invoicer_ms=5.0, bus_ms=5.0, lock_per_s=100.0,
)  # fmt: skip
LARGE = Case(peers=10_000, parameters=72e9)


def test_ten_thousand_peers_need_249_shared_channels() -> None:
    """120,000 HTLCs of two rounds in slots of 483; 483 peers fit twelve exactly."""
    assert channels_for(LARGE.peers) == 249
    assert channels_for(483) == 12
    assert channels_for(484) == 13


def test_a_round_of_ten_thousand_locks_63_million_sat() -> None:
    """6,300 sat each."""
    assert locked_msat(LARGE) == 63_000_000_000


def test_a_payload_of_72_b_parameters_is_two_gigabytes() -> None:
    """288 GB through 146.29."""
    assert payload_bytes(LARGE) == pytest.approx(1.969e9, rel=1e-3)


def test_a_model_that_does_not_fit_one_gpu_takes_as_many_as_hold_it() -> None:
    """However few the peers are; with many it is arithmetic that counts."""
    assert gpus(Case(peers=1, parameters=72e9, judge_s=1e6), SEEN) == 4
    assert gpus(Case(peers=1, parameters=1e6), SEEN) == 1
    twice = msgspec.structs.replace(LARGE, peers=20_000)
    assert gpus(twice, SEEN) == pytest.approx(2 * gpus(LARGE, SEEN))


def test_one_channel_costs_its_opening_and_its_end() -> None:
    """154 and 138 vbytes at ten satoshi; the second shares the first one's transaction."""
    assert opening_sat(Case(peers=1, parameters=1.0)) == 2_920
    assert opening_sat(Case(peers=41, parameters=1.0)) == 2_920 + 10 * (43 + 138)


def test_every_line_has_a_value_in_every_case() -> None:
    """And the table a row for each."""
    cases = (Case(peers=100, parameters=1e6), LARGE)
    for lines in (LINES, MODEL_LINES):
        rows = table(lines, cases, ("100", "10,000"), SEEN).splitlines()
        assert len(rows) == len(lines) + 2
        assert all(line.of(case, SEEN) > 0 for line in lines for case in cases)


def test_statements_are_counted_by_what_they_do() -> None:
    """The two ends of a savepoint are one kind."""
    assert [kind_of(told) for told in ("SELECT 1", " insert into t values (1)", "RELEASE a", "savepoint a", "")] == [
        "select", "insert", "savepoint", "savepoint", "",
    ]  # fmt: skip
