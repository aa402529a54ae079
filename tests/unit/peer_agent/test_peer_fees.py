"""A fee is paid at most once, whatever the node says and when: uncertain is tracked, FAILED alone asks anew."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from l402_peer_agent.adapters.journal import CREDIT_TRIES, Journal
from l402_peer_agent.fees import Fees
from l402_peer_agent.journal import Attempt, Payment, Token
from l402_peer_agent.policy import SpendingCaps
from l402core import bolt11
from l402core.bolt11 import decode
from l402core.documents import Terms
from l402core.errors import Contradiction, NotFound, TooLarge, TooLate, Unavailable
from l402core.l402 import Challenge
from l402core.l402.identifier import Identifier
from l402core.l402.macaroon import mint
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.secret import Secret

from tests.unit.peer_agent.test_peer_policy import NOW_S, SETTLER, TERMS


def preimage_of(number: int) -> bytes:
    """Of the coordinator's fee invoice with this number."""
    return hashlib.sha256(b"fee%d" % number).digest()


class Asker:
    """A gateway that gives a fresh invoice at each challenge, or always the same one."""

    def __init__(self, *, fresh: bool = True) -> None:
        self.challenges, self._fresh = 0, fresh

    async def challenge(self, round_: int, commitment: str) -> Challenge:
        number = self.challenges if self._fresh else 0
        self.challenges += 1
        payment_hash = hashlib.sha256(preimage_of(number)).digest()
        text = bolt11.encode(
            b"\x09" * 32, payment_hash=payment_hash, payment_secret=b"\x02" * 32, timestamp=NOW_S,
            description="fee", amount_msat=TERMS.fee_msat, expiry=3_600, network="simnet",
        )  # fmt: skip
        macaroon = mint(Secret(b"\x03" * 32), Identifier(payment_hash, b"\x04" * 32).encode(), (), b"")
        return Challenge(macaroon, text, bolt11.decode(text))

    async def claim_credit(self, payment_hash: str) -> Token:
        raise NotFound("no_credit", "none is open")


class Node:
    """A node that answers as told. It counts sends as LND would: a hash in flight or settled is never sent again."""

    def __init__(self, answers: list[str]) -> None:
        self._answers = iter(answers)
        self.paid: dict[bytes, PaymentStatus] = {}
        self.sends = 0

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        status = self.paid.get(payment_hash)
        return None if status is None else self._view(payment_hash, status)

    async def pay_and_wait(
        self, bolt11: str, *, timeout_s: int, fee_limit_msat: int, cltv_limit: int = 0
    ) -> PaymentView:
        payment_hash = decode(bolt11).payment_hash
        assert 0 < cltv_limit <= 1_000, "the coordinator's invoice alone says how long the fee may hang"
        assert self.paid.get(payment_hash) in {None, PaymentStatus.FAILED}, "sent while it may be paid"
        self.sends += 1
        answer = next(self._answers, "SETTLED")
        if answer == "lost":  # the effect happened, the answer did not come
            self.paid[payment_hash] = PaymentStatus.SETTLED
            raise Unavailable("lnd_deadline", "no answer")
        if answer == "down":
            raise Unavailable("lnd_unavailable", "no connection")
        self.paid[payment_hash] = PaymentStatus.SETTLED if answer == "UNKNOWN" else PaymentStatus(answer)
        return self._view(payment_hash, PaymentStatus(answer))

    def _view(self, payment_hash: bytes, status: PaymentStatus) -> PaymentView:
        known = {hashlib.sha256(preimage_of(n)).digest(): Secret(preimage_of(n)) for n in range(20)}
        preimage = known[payment_hash] if status is PaymentStatus.SETTLED else None
        return PaymentView(payment_hash=payment_hash, status=status, amount_msat=TERMS.fee_msat, preimage=preimage)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A fresh one."""
    journal = Journal(tmp_path / "journal.sqlite3")
    yield journal
    journal.close()


def fees(node: Node, asker: Asker, journal: Journal, *, total_msat: int = 10**9) -> Fees:
    """Under a clock that stands still, well before the deadline."""
    caps = SpendingCaps(round_msat=10**9, total_msat=total_msat)
    return Fees(node, asker, journal, caps=caps, routing_fee_max_msat=0, look_s=1, now_ms=lambda: NOW_S * 1_000)


def an_attempt() -> Attempt:
    """At round seven, committed."""
    return Attempt(round=7, terms=SETTLER.sign(Terms.tag, TERMS), traceparent="", commitment="cc" * 32)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow one another at once."""
    monkeypatch.setattr("l402_peer_agent.fees.LOOK_PAUSE_S", 0.0)


ANSWERS = st.lists(st.sampled_from(["SETTLED", "FAILED", "UNKNOWN", "lost", "down"]), max_size=5)


@settings(deadline=None, max_examples=40)  # each writes to a real disk
@given(answers=ANSWERS, fresh=st.booleans())
async def test_whatever_the_node_answers_at_most_one_fee_is_paid(
    tmp_path_factory: pytest.TempPathFactory, answers: list[str], fresh: bool
) -> None:
    """And what was paid is what the attempt holds, with its preimage."""
    journal = Journal(tmp_path_factory.mktemp("fees") / "journal.sqlite3")
    node = Node(answers)
    try:
        attempt, preimage = await fees(node, Asker(fresh=fresh), journal).paid_token(an_attempt(), TERMS)
    except TooLate:
        assert set(node.paid.values()) == {PaymentStatus.FAILED}
        return
    finally:
        journal.close()
    assert list(node.paid.values()).count(PaymentStatus.SETTLED) == 1
    assert attempt.token is not None
    assert hashlib.sha256(preimage.reveal()).hexdigest() == attempt.token.payment_hash


async def test_a_restart_goes_on_with_the_invoice_that_was_met_before(journal: Journal) -> None:
    """The journal knows the payment and not yet the token: the same invoice is asked for again and not paid again,
    nor counted twice against the cap."""
    node, asker = Node(["SETTLED"]), Asker(fresh=False)
    for _ in range(2):
        await fees(node, asker, journal, total_msat=TERMS.fee_msat).paid_token(an_attempt(), TERMS)
    assert node.sends == 1


async def test_the_total_cap_counts_what_may_have_been_paid(journal: Journal) -> None:
    """A pending payment of an earlier round leaves no room, and nothing is sent."""
    journal.save_payment(Payment(payment_hash="ab" * 32, bolt11="", amount_msat=TERMS.fee_msat))
    node = Node([])
    with pytest.raises(TooLarge):
        await fees(node, Asker(), journal, total_msat=2 * TERMS.fee_msat - 1).paid_token(an_attempt(), TERMS)
    assert node.sends == 0


async def test_two_invoices_on_one_hash_are_a_contradiction(journal: Journal) -> None:
    """Somebody wants the same hash paid under other terms: freeze."""
    payment_hash = hashlib.sha256(preimage_of(0)).hexdigest()
    journal.save_payment(Payment(payment_hash=payment_hash, bolt11="another", amount_msat=1))
    with pytest.raises(Contradiction):
        await fees(Node([]), Asker(), journal).paid_token(an_attempt(), TERMS)


async def test_a_credit_is_asked_for_a_limited_number_of_times(journal: Journal) -> None:
    """Where none is ever open, the fee is paid as always and the old one given up in the end."""
    journal.save_payment(Payment(payment_hash="ab" * 32, bolt11="", amount_msat=TERMS.fee_msat, status="settled"))
    journal.owe_credit("ab" * 32)
    for _ in range(CREDIT_TRIES):
        assert journal.credits() == ["ab" * 32]
        await fees(Node([]), Asker(fresh=False), journal).paid_token(an_attempt(), TERMS)
    assert journal.credits() == []


def test_the_journal_is_for_its_owner_only(tmp_path: Path) -> None:
    """It holds macaroons and preimages."""
    Journal(tmp_path / "j").close()
    assert (tmp_path / "j").stat().st_mode & 0o077 == 0
