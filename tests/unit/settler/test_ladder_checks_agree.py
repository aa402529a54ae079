"""What the settler registers the invoicer can pay: a ladder that only one of them takes would be a place held for nothing."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from l402_invoicer.policy import check_ladder as invoicer_checks
from l402_settler.submissions import check_ladder as settler_checks
from l402core.errors import Malformed

from tests.unit.invoicer.test_invoicer_policy import CAPS, NOW_S, PAYEE, a_lock, an_invoice, an_offer

EXPIRY_MIN_S = 600
TERMS = cast(
    Any, SimpleNamespace(network="simnet", invoice_expiry_min_s=EXPIRY_MIN_S, cltv_min=40, cltv_max=100)
)  # of the terms, just what the check reads


@example(lock_in_ms=60_678, born_s=60 - EXPIRY_MIN_S, expiry_s=EXPIRY_MIN_S, cltv=60)
@given(
    lock_in_ms=st.integers(1, 120_000),
    born_s=st.integers(-1_200, 60),
    expiry_s=st.integers(1, 1_300),
    cltv=st.integers(30, 110),
)
def test_what_the_settler_registers_the_invoicer_can_pay(
    lock_in_ms: int, born_s: int, expiry_s: int, cltv: int
) -> None:
    """To the millisecond: a ladder that is registered and then refused would come back as our fault, and cost nothing."""
    lock_by_ms = NOW_S * 1_000 + lock_in_ms
    offer = an_offer(lock_by_ms=lock_by_ms)
    made = {"timestamp": NOW_S + born_s, "expiry": expiry_s, "min_final_cltv": cltv}
    ladder = tuple(an_invoice(index, **made) for index in range(6))
    statement = cast(Any, SimpleNamespace(payout_node=PAYEE))
    try:
        settler_checks(ladder, offer, statement, TERMS, now_s=NOW_S, not_after_ms=lock_by_ms)
    except Malformed:
        return
    paid = invoicer_checks(a_lock(offer, bolt11s=ladder, not_after_ms=lock_by_ms), CAPS)
    assert len(paid.rungs) == len(ladder)


def test_an_invoice_that_ends_within_the_last_second_is_not_registered() -> None:
    """The deadline has milliseconds, an invoice has none."""
    lock_by_ms = (NOW_S + 60) * 1_000 + 678
    ladder = tuple(an_invoice(i, timestamp=NOW_S + 60 - EXPIRY_MIN_S, expiry=EXPIRY_MIN_S) for i in range(6))
    statement = cast(Any, SimpleNamespace(payout_node=PAYEE))
    with pytest.raises(Malformed, match="before the ladder must be locked"):
        settler_checks(ladder, an_offer(lock_by_ms=lock_by_ms), statement, TERMS, now_s=NOW_S, not_after_ms=lock_by_ms)
