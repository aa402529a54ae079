"""What a challenge says, decided without clock, Redis or bus."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from l402_gateway import challenge, routes
from l402_gateway.challenge import CREDIT_MARK, Unpaid
from l402core.documents import Terms
from l402core.errors import Exhausted, Malformed, NotFound, TooLate
from l402core.events import RoundView
from l402core.l402 import keys as root_keys

from tests.support.gateway import PEER, SETTLER, Draft, terms

KEYS = root_keys.create(lambda length: b"\x07" * length)
ROUND = terms()
DRAFT = Draft(ROUND)
PAID = routes.read(DRAFT.path)
UNPAID = Unpaid(
    payment_hash="11" * 32, bolt11="lnbcrt1", token_id="07070707" + "22" * 28, expires_at_ms=600_000,
    fee_msat=500_000, terms="33" * 32, valid_until_s=1_000,
)  # fmt: skip


def view(**changes: object) -> RoundView:
    """A round that sells."""
    made = RoundView(
        round=1, phase="commit", terms=SETTLER.sign(Terms.tag, ROUND), root=None, opened=0, uploaded=0, scored=0,
        places_left=8, available=True, unavailable_reason="",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def test_a_token_is_written_the_same_again() -> None:
    """Same unpaid invoice, same token: nothing but the invoice is remembered."""
    tokens = {challenge.token(KEYS, UNPAID, PAID, PEER.public).encode() for _ in range(3)}
    assert len(tokens) == 1


def test_a_token_is_for_one_submission_until_judgement() -> None:
    """Its caveats name round, commitment, methods, path and end; and the peer where it is known."""
    base = f"/v1/rounds/1/submissions/{DRAFT.commitment}"
    expected = (
        b"round=1", b"commitment=" + DRAFT.commitment.encode(), b"methods=POST,PUT", f"path={base}/*".encode(),
        b"valid_until=1000",
    )  # fmt: skip
    for step in ("", "/locks", "/accepted", "/gradient"):
        assert challenge.token(KEYS, UNPAID, routes.read(base + step), "").caveats == expected
    peer = f"peer={PEER.public}".encode()
    assert challenge.token(KEYS, UNPAID, PAID, PEER.public).caveats == (*expected, peer)


def test_a_credit_is_marked_where_no_holder_can_put_the_mark() -> None:
    """Caveats are appended, so the first one is ours."""
    made = challenge.credit_token(KEYS, payment_hash="11" * 32, token_id=UNPAID.token_id, peer=PEER.public)
    assert made.caveats[0] == CREDIT_MARK
    assert not any(caveat.startswith((b"round", b"commitment")) for caveat in made.caveats)


def test_a_fee_is_sold_only_where_it_buys_something() -> None:
    """Not after the commits close, not in another phase, not when nothing is left."""
    challenge.may_sell(view(), ROUND, now_ms=ROUND.commit_until_ms - 1)
    with pytest.raises(TooLate):
        challenge.may_sell(view(), ROUND, now_ms=ROUND.commit_until_ms)
    for phase in ("upload", "judge", "done"):
        with pytest.raises(TooLate):
            challenge.may_sell(view(phase=phase), ROUND, now_ms=0)
    with pytest.raises(Exhausted, match="no slots"):
        challenge.may_sell(view(available=False, unavailable_reason="no slots"), ROUND, now_ms=0)


@given(st.integers(-(10**9), 10**9), st.integers(60, 3_600))
def test_an_invoice_lives_about_as_long_as_the_commits(left_ms: int, longest_s: int) -> None:
    """Never longer than the setting, never less than a minute."""
    life_s = challenge.invoice_life_s(ROUND, now_ms=ROUND.commit_until_ms - left_ms, longest_s=longest_s)
    assert challenge.MIN_INVOICE_LIFE_S <= life_s <= longest_s


@given(st.integers(0, 2_000_000), st.integers(1, 300))
def test_a_challenge_is_forgotten_before_its_invoice_expires(now_ms: int, margin_s: int) -> None:
    """Nobody is handed an invoice that ends within the margin."""
    kept_s = challenge.keep_for_s(UNPAID, now_ms=now_ms, margin_s=margin_s)
    assert kept_s == 0 or now_ms + kept_s * 1_000 <= UNPAID.expires_at_ms - margin_s * 1_000


@pytest.mark.parametrize("round_", ["", "0", "01", "-1", "1.0", "x", "9" * 30, "१"])
def test_a_round_is_a_plain_number(round_: str) -> None:
    """No zero, sign, leading zero or foreign digit."""
    with pytest.raises(Malformed):
        routes.read(f"/v1/rounds/{round_}/submissions/{DRAFT.commitment}")


@pytest.mark.parametrize("path", ["", "/", "/v1/rounds/1", DRAFT.path + "/", DRAFT.path + "/x", DRAFT.path + "//locks"])
def test_no_other_path_is_paid(path: str) -> None:
    """What is not exactly a step is no step."""
    with pytest.raises((NotFound, Malformed)):
        routes.read(path)
