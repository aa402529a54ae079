"""What LND calls in flight for ever is over once it has expired and no channel can hold it, and not a block before."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.lnd.stranded import MARGIN_BLOCKS, STRANDED, ended, is_stranded

HASH = b"\x01" * 32
NOTED = PaymentView(
    payment_hash=HASH, status=PaymentStatus.IN_FLIGHT, amount_msat=1_000, htlc_expiry_heights=(350, 361)
)
LATE = 361 + MARGIN_BLOCKS + 1


def test_expired_and_in_no_channel_it_is_stranded() -> None:
    """One block earlier, in a channel, or while a channel is being closed, it is not."""
    assert is_stranded(NOTED, LATE, out=(), closing=0)
    assert not is_stranded(NOTED, LATE - 1, out=(), closing=0)
    assert not is_stranded(NOTED, LATE, out=(b"\x02" * 32, HASH), closing=0)
    assert not is_stranded(NOTED, LATE, out=(), closing=1)


@pytest.mark.parametrize("status", [status for status in PaymentStatus if status is not PaymentStatus.IN_FLIGHT])
def test_what_is_not_in_flight_is_not_stranded(status: PaymentStatus) -> None:
    """Least of all UNKNOWN."""
    assert not is_stranded(msgspec.structs.replace(NOTED, status=status), LATE, out=(), closing=0)


def test_without_a_noted_htlc_lnd_itself_ends_it() -> None:
    """At its timeout, or at the next start."""
    assert not is_stranded(msgspec.structs.replace(NOTED, htlc_expiry_heights=()), 10**6, out=(), closing=0)


@given(st.lists(st.integers(1, 1_000), min_size=1, max_size=4), st.integers(0, 2_000), st.booleans(), st.integers(0, 2))
def test_an_htlc_that_may_live_is_never_given_up(expiries: list[int], height: int, held: bool, closing: int) -> None:
    """Whatever the heights: every HTLC has expired, none is held, none may be on the chain."""
    view = msgspec.structs.replace(NOTED, htlc_expiry_heights=tuple(expiries))
    over = all(expiry + MARGIN_BLOCKS < height for expiry in expiries) and not held and not closing
    assert is_stranded(view, height, out={HASH} if held else set(), closing=closing) is over


def test_it_ends_as_failed_with_a_name_of_ours() -> None:
    """Not one of LND's, so that nobody takes it for LND's word."""
    over = ended(NOTED)
    assert (over.status, over.failure, over.htlc_expiry_heights) == (PaymentStatus.FAILED, STRANDED, ())
    assert not STRANDED.startswith("FAILURE_REASON")
