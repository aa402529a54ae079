"""What a missing real part means: a skip for a person, a failure for CI."""

import pytest

from tests.support.real import require_real


def test_a_part_that_is_there_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing happens, whoever asks."""
    monkeypatch.setenv("REQUIRE_REAL", "1")
    require_real(True, "lnd")


def test_a_missing_part_skips_and_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On somebody's laptop the test is skipped with the part's name."""
    monkeypatch.delenv("REQUIRE_REAL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="missing: lnd"):
        require_real(False, "lnd")


def test_a_missing_part_fails_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under REQUIRE_REAL=1 no check disappears."""
    monkeypatch.setenv("REQUIRE_REAL", "1")
    # Both are caught: a skip that escaped would skip this test instead of failing it.
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match="lnd") as raised:
        require_real(False, "lnd")
    assert raised.type is pytest.fail.Exception
