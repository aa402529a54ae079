"""Money read from outside is a whole number of millisatoshi within all the bitcoin there is, or it is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402core.events import FeeSettled
from l402core.money import MAX_MSAT, show_sat

BODY = '{"id":"i","occurred_at_ms":1,"payment_hash":"h","settle_index":1,"amount_msat":%s}'


@pytest.mark.parametrize("amount", ["-1", "1.5", "1e3", '"5"', "true", "null", str(MAX_MSAT + 1), "NaN"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    """A sign, a fraction, an exponent, text, a truth value, nothing, more than there is."""
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(BODY % amount, type=FeeSettled)


@given(st.integers(0, MAX_MSAT))
def test_an_amount_survives_the_bus_exactly(amount: int) -> None:
    """To the millisatoshi, however large."""
    assert msgspec.json.decode(BODY % amount, type=FeeSettled).amount_msat == amount


@pytest.mark.parametrize(
    ("amount", "shown"), [(0, "0 sat"), (1, "0.001 sat"), (1_234_500, "1,234.5 sat"), (-2_000, "-2 sat")]
)
def test_people_read_satoshi_and_no_digit_is_lost(amount: int, shown: str) -> None:
    """Exact, without trailing zeros."""
    assert show_sat(amount) == shown
