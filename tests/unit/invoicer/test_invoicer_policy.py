"""The invoicer pays a ladder if and only if it is the one that the attestor signed, within our own caps."""

import hashlib
from typing import Any

import msgspec
import pytest
from coincurve import PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st
from l402_invoicer.policy import Caps, FeeCaps, Sent, Step, check_fee, check_ladder, check_sent, step_for
from l402core import bolt11
from l402core.documents import LADDER, Offer
from l402core.errors import CallerError, Conflict, L402Error, Malformed, TooLarge, Unauthorized
from l402core.events import EscrowLock, FeeMint
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.signing import SigningKey

ATTESTOR = SigningKey(b"\x02" * 32)
PAYEE_KEY = b"\x09" * 32
PAYEE = PrivateKey(PAYEE_KEY).public_key.format().hex()
NOW_S = 1_800_000_000
AMOUNTS = tuple(1_000 * rung for rung in LADDER)
HASHES = tuple(hashlib.sha256(bytes([index])).digest() for index in range(6))
CAPS = Caps(
    attestor=ATTESTOR.public,
    network="simnet",
    payment_max_msat=40_000,
    ladder_max_msat=63_000,
    round_max_msat=200_000,
    day_max_msat=300_000,
    routing_fee_max_msat=1_000,
    cltv_limit_max=500,
)


def an_invoice(index: int, **changes: Any) -> str:
    """The hold invoice of one rung, as the offer wants it, but for the changes."""
    terms: dict[str, Any] = {
        "payment_hash": HASHES[index], "payment_secret": b"\x05" * 32, "timestamp": NOW_S, "description": "rung",
        "amount_msat": AMOUNTS[index], "expiry": 600, "min_final_cltv": 60, "network": "simnet",
    }  # fmt: skip
    key = changes.pop("key", PAYEE_KEY)
    return bolt11.encode(key, **{**terms, **changes})


def an_offer(**changes: Any) -> Offer:
    """The attestor's promise for six rungs."""
    offer = Offer(
        commitment="cc" * 32, round=3, seq=1, peer="aa" * 32, seal_to="bb" * 32, terms="dd" * 32, key_id="k1",
        amounts_msat=AMOUNTS, attempt=1, lock_by_ms=(NOW_S + 60) * 1_000, upload_until_ms=0, judge_by_ms=0,
        reveal_by_height=0, cltv_min=40, cltv_max=100, reward_hashes=tuple(h.hex() for h in HASHES),
    )  # fmt: skip
    return msgspec.structs.replace(offer, **changes)


def a_lock(offer: Offer | None = None, **changes: Any) -> EscrowLock:
    """Work that may be paid, but for the changes."""
    signer = changes.pop("signer", ATTESTOR)
    work = EscrowLock(
        id="l", occurred_at_ms=0, round=3, commitment="cc" * 32, offer=signer.sign(Offer.tag, offer or an_offer()),
        bolt11s=tuple(an_invoice(index) for index in range(6)), payee=PAYEE, not_after_ms=(NOW_S + 50) * 1_000,
        fee_limit_msat=500, cltv_limit=300,
    )  # fmt: skip
    return msgspec.structs.replace(work, **changes)


def with_invoice(index: int, **changes: Any) -> EscrowLock:
    """Work in which one invoice is another."""
    return a_lock(bolt11s=tuple(an_invoice(i, **(changes if i == index else {})) for i in range(6)))


def test_a_ladder_like_its_offer_may_be_paid() -> None:
    """Every rung with its hash and amount, and the earlier of both last moments."""
    ladder = check_ladder(a_lock(), CAPS)
    assert [rung.payment_hash for rung in ladder.rungs] == list(HASHES)
    assert [rung.amount_msat for rung in ladder.rungs] == list(AMOUNTS)
    assert ladder.not_after_ms == (NOW_S + 50) * 1_000


@pytest.mark.parametrize(
    ("work", "error", "code"),
    [
        (a_lock(signer=SigningKey(b"\x07" * 32)), Unauthorized, "wrong_signer"),
        (a_lock(commitment="ee" * 32), Conflict, "lock_other_offer"),
        (a_lock(round=4), Conflict, "lock_other_offer"),
        (a_lock(bolt11s=()), Conflict, "lock_count"),
        (a_lock(bolt11s=tuple(an_invoice(i) for i in range(5))), Conflict, "lock_count"),
        (a_lock(bolt11s=(an_invoice(0),) * 6), Conflict, "lock_hash"),
        (a_lock(bolt11s=tuple(an_invoice(i) for i in reversed(range(6)))), Conflict, "lock_hash"),
        (a_lock(an_offer(reward_hashes=("ab" * 32,) * 6)), Conflict, "lock_duplicate_hash"),
        (a_lock(an_offer(amounts_msat=AMOUNTS[:5])), Conflict, "lock_count"),
        (a_lock(an_offer(amounts_msat=(0, *AMOUNTS[1:]))), TooLarge, "lock_payment_cap"),
        (a_lock(an_offer(amounts_msat=(*AMOUNTS[:5], 40_001))), TooLarge, "lock_payment_cap"),
        (a_lock(an_offer(amounts_msat=(40_000,) * 6)), TooLarge, "lock_ladder_cap"),
        (a_lock(fee_limit_msat=1_001), TooLarge, "lock_fee_limit"),
        (a_lock(fee_limit_msat=-1), TooLarge, "lock_fee_limit"),
        (a_lock(cltv_limit=501), TooLarge, "lock_cltv_limit"),
        (a_lock(payee="02" + "11" * 32), Conflict, "lock_payee"),
        (with_invoice(2, key=b"\x08" * 32), Conflict, "lock_payee"),
        (with_invoice(2, amount_msat=4_001), Conflict, "lock_amount"),
        (with_invoice(2, amount_msat=None), Conflict, "lock_amount"),
        (with_invoice(2, payment_hash=b"\x01" * 32), Conflict, "lock_hash"),
        (with_invoice(2, network="mainnet"), Conflict, "lock_network"),
        (with_invoice(2, min_final_cltv=39), Conflict, "lock_cltv"),
        (with_invoice(2, min_final_cltv=101), Conflict, "lock_cltv"),
        (with_invoice(2, expiry=49), Conflict, "lock_expires_early"),
        (a_lock(bolt11s=("lnsb1nonsense",) * 6), Malformed, "invalid_invoice"),
    ],
)
def test_a_ladder_unlike_its_offer_is_refused(work: EscrowLock, error: type[L402Error], code: str) -> None:
    """Each single difference is found, and named."""
    with pytest.raises(error) as refused:
        check_ladder(work, CAPS)
    assert refused.value.code == code


def test_without_an_attestor_nothing_is_paid() -> None:
    """An invoicer that was told no key trusts nobody, not even an empty one."""
    with pytest.raises(Unauthorized):
        check_ladder(a_lock(), msgspec.structs.replace(CAPS, attestor=""))


@given(st.integers(0, 5), st.integers(1, 10**9), st.integers(0, 3_000), st.integers(0, 2_000))
def test_no_invoice_can_make_us_pay_more_than_the_offer(index: int, amount: int, cltv: int, expiry: int) -> None:
    """Whatever a peer writes into its invoices, what we would pay is the offer's, within our caps, or nothing."""
    work = with_invoice(index, amount_msat=amount, min_final_cltv=cltv, expiry=expiry)
    try:
        ladder = check_ladder(work, CAPS)
    except CallerError:
        return
    assert tuple(rung.amount_msat for rung in ladder.rungs) == AMOUNTS
    assert sum(AMOUNTS) <= CAPS.ladder_max_msat
    assert 40 <= cltv <= 100
    assert expiry >= 50


@given(st.integers(150_000, 250_000), st.integers(250_000, 350_000), st.integers(1, 50_000))
@example(round_msat=199_999, day_msat=299_999, more_msat=1)
@example(round_msat=200_000, day_msat=0, more_msat=1)
@example(round_msat=0, day_msat=300_000, more_msat=1)
def test_neither_a_round_nor_a_day_sends_more_than_its_cap(round_msat: int, day_msat: int, more_msat: int) -> None:
    """Each cap is named when it is reached, the round's first."""
    fits_round, fits_day = round_msat + more_msat <= CAPS.round_max_msat, day_msat + more_msat <= CAPS.day_max_msat
    sent = Sent(round_msat=round_msat, day_msat=day_msat)
    if fits_round and fits_day:
        check_sent(sent, more_msat, CAPS)
        return
    with pytest.raises(TooLarge) as refused:
        check_sent(sent, more_msat, CAPS)
    assert refused.value.code == ("lock_day_cap" if fits_round else "lock_round_cap")


payments = st.builds(
    PaymentView, payment_hash=st.just(HASHES[0]), status=st.sampled_from(PaymentStatus), amount_msat=st.just(1)
)


@given(st.none() | payments, st.integers(0, 100), st.integers(0, 100))
def test_only_what_lnd_never_saw_is_sent_and_only_in_time(
    known: PaymentView | None, now_ms: int, not_after_ms: int
) -> None:
    """No status of a known payment, FAILED least of all, leads to another send."""
    step = step_for(known, now_ms=now_ms, not_after_ms=not_after_ms)
    assert (step is Step.SEND) == (known is None and now_ms < not_after_ms)
    assert (step is Step.LATE) == (known is None and now_ms >= not_after_ms)


@given(st.integers(-5, 2_000), st.integers(-5, 200), st.text(max_size=70))
def test_a_fee_is_minted_only_within_its_limits(amount_msat: int, expiry_s: int, commitment: str) -> None:
    """Whatever passes is positive, capped and for a commitment."""
    ask = FeeMint(round=1, commitment=commitment, amount_msat=amount_msat, expiry_s=expiry_s)
    try:
        check_fee(ask, FeeCaps(amount_max_msat=1_000, expiry_max_s=100))
    except (Malformed, TooLarge):
        return
    assert 0 < amount_msat <= 1_000
    assert 0 < expiry_s <= 100
    assert len(bytes.fromhex(commitment)) == 32
