"""`l402-train sponsor`: what it pays, what it believes, and what the demo's report says of sponsors."""

import hashlib
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from l402core import bolt11, events
from l402core.documents import Terms, TrancheTerms
from l402core.events import SponsorshipView, TrancheView
from l402core.lnd.grpc import LndEndpoint
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.pledges import Announcement, Pledge, TrancheLocked, TrancheReceipt
from l402core.signing import Signed, SigningKey
from l402train import services, sponsored
from l402train import sponsor as command
from l402train.exits import Exit, Stop
from l402train.report import AccountReport, Report, TrancheReport, sponsor_faults
from l402train.sponsor import Order, Story, contradictions, why_not

from tests.support.runs import KEY, a_report, terms

SPONSOR, ATTESTOR, STRANGER = (SigningKey(bytes([n]) * 32) for n in (21, 2, 3))
NODE = bytes([9]) * 32
HASH = hashlib.sha256(b"tranche").hexdigest()
AMOUNT, MARGIN = 20_000_000, 400_000_000
PLEDGE = Pledge(
    network="simnet", sponsor=SPONSOR.public, amount_msat=AMOUNT, tranches=1, margin=MARGIN, nonce="ab" * 32
)
SIGNED = SPONSOR.sign(Pledge.tag, PLEDGE)


def order(folder: Path = Path(), **other: Any) -> Order:
    """What the command line said."""
    values: dict[str, Any] = {
        "url": "http://127.0.0.1:1", "node": LndEndpoint("h", Path("c"), Path("m")), "directory": folder,
        "key_file": folder / "k.json", "network": "simnet", "amount_msat": AMOUNT, "tranches": 1, "margin": MARGIN,
        "attestor": ATTESTOR.public, "fee_limit_msat": 1_000, **other,
    }  # fmt: skip
    return Order(**values)


def announcement(*, by: SigningKey = ATTESTOR, **other: Any) -> Signed:
    """The oracle's promise."""
    values: dict[str, Any] = {
        "sponsorship": PLEDGE.sponsorship(), "pledge": SIGNED.digest(), "sponsor": SPONSOR.public,
        "amount_msat": AMOUNT, "tranches": 1, "margin": MARGIN, "seal_to": "cd" * 32, "key_id": "k1",
        "hashes": (HASH,), **other,
    }  # fmt: skip
    return by.sign(Announcement.tag, Announcement(**values))


def invoice(**other: Any) -> str:
    """The coordinator's hold invoice."""
    values: dict[str, Any] = {
        "payment_hash": bytes.fromhex(HASH), "payment_secret": bytes(32), "timestamp": 1_000_000,
        "amount_msat": AMOUNT, "description": "", "expiry": 60, "min_final_cltv": 144, "network": "simnet", **other,
    }  # fmt: skip
    return bolt11.encode(NODE, **values)


def receipt(*, by: SigningKey = ATTESTOR, **other: Any) -> Signed:
    """The oracle's decision that it was earned."""
    values: dict[str, Any] = {
        "sponsorship": PLEDGE.sponsorship(), "tranche": 0, "payment_hash": HASH, "amount_msat": AMOUNT, "round": 1,
        "terms": "", "parent": "", "checkpoint": "", "root": "", "shards": (1,), "sequences": 16,
        "drop_mean": MARGIN + 10, "drop_low": MARGIN, "drop_high": MARGIN + 20, "margin": MARGIN, "earned": True,
        "reason": "better", "hardware": "", "losses": None, **other,
    }  # fmt: skip
    return by.sign(TrancheReceipt.tag, TrancheReceipt(**values))


def tranche(state: str = "minted", **other: Any) -> TrancheView:
    """The one tranche."""
    values: dict[str, Any] = {
        "tranche": 0, "payment_hash": HASH, "amount_msat": AMOUNT, "state": state, "round": 0, "bolt11": invoice(),
        "pay_by_ms": 1, "expiry_height": 0, "locked": None, "receipt": None, "reason": "", **other,
    }  # fmt: skip
    return TrancheView(**values)


def view(one: TrancheView, *, state: str = "announced", announced: Signed | None = None) -> SponsorshipView:
    """The coordinator's answer."""
    return SponsorshipView(
        sponsorship=PLEDGE.sponsorship(), sponsor=SPONSOR.public, state=state, reason="", pledge=SIGNED,
        announcement=announced or announcement(), tranches=(one,),
    )  # fmt: skip


def test_what_was_pledged_and_announced_is_paid() -> None:
    """Nothing stands against it."""
    assert why_not(tranche(), view(tranche()), SIGNED, order()) == ""


@pytest.mark.parametrize(
    ("announced", "bolt", "why"),
    [
        (announcement(by=STRANGER), invoice(), "signed by"),
        (announcement(pledge="ee" * 32), invoice(), "not for this pledge"),
        (announcement(margin=1), invoice(), "not for this pledge"),
        (announcement(hashes=("ee" * 32,)), invoice(), "not on the hash"),
        (announcement(), invoice(amount_msat=AMOUNT + 1), "asks for"),
        (announcement(), invoice(network="mainnet"), "asks for"),
        (announcement(), invoice(min_final_cltv=2_017), "would lock"),
        (announcement(), "lnsb1nonsense", ""),
    ],
)
def test_anything_else_is_not_paid(announced: Signed, bolt: str, why: str) -> None:
    """A coordinator that swaps hash, price, margin or oracle gets nothing, and the reason is said."""
    one = tranche(bolt11=bolt)
    said = why_not(one, view(one, announced=announced), SIGNED, order())
    assert said
    assert why in said


def payment(status: PaymentStatus) -> PaymentView:
    """Our node's view."""
    return PaymentView(payment_hash=bytes.fromhex(HASH), status=status, amount_msat=AMOUNT)


@pytest.mark.parametrize(
    ("one", "seen", "wrong"),
    [
        (tranche("settled", receipt=receipt()), payment(PaymentStatus.SETTLED), ""),
        (tranche("returned"), payment(PaymentStatus.FAILED), ""),
        (tranche("returned"), None, ""),
        (tranche("returned"), payment(PaymentStatus.SETTLED), "our node says SETTLED"),
        (tranche("settled", receipt=receipt()), payment(PaymentStatus.FAILED), "our node says FAILED"),
        (tranche("settled"), payment(PaymentStatus.SETTLED), "without the oracle's word"),
        (tranche("settled", receipt=receipt(by=STRANGER)), payment(PaymentStatus.SETTLED), "without the oracle's word"),
        (tranche("settled", receipt=receipt(drop_low=1)), payment(PaymentStatus.SETTLED), "without the oracle's word"),
        (tranche("settled", receipt=receipt(earned=False)), payment(PaymentStatus.SETTLED), "without the oracle's"),
        (tranche("settled", receipt=receipt(amount_msat=1)), payment(PaymentStatus.SETTLED), "without the oracle's"),
    ],
)
def test_the_coordinators_story_is_compared_with_our_own_node(
    one: TrancheView, seen: PaymentView | None, wrong: str
) -> None:
    """Money that went must have been earned, by the oracle's signed word; what is said to be back must be back."""
    found = contradictions(view(one), {HASH: seen}, ATTESTOR.public)
    assert bool(found) == bool(wrong)
    assert wrong in " ".join(found)


class Payer:
    """Our node: a payment is what the test says."""

    def __init__(self, end: PaymentStatus) -> None:
        self.paid: list[str] = []
        self.end = end

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """As the port."""
        return payment(self.end) if self.paid else None

    async def pay(self, bolt11: str, **_limits: Any) -> PaymentView:
        """As the port."""
        self.paid.append(bolt11)
        return payment(PaymentStatus.IN_FLIGHT)


@pytest.mark.parametrize(
    ("end", "last", "code"),
    [
        (PaymentStatus.SETTLED, tranche("settled", receipt=receipt(), round=1), Exit.FINE),
        (PaymentStatus.FAILED, tranche("returned", reason="no better"), Exit.FINE),
        (PaymentStatus.SETTLED, tranche("returned"), Exit.UNTRUE),
    ],
)
async def test_a_sponsorship_is_paid_once_and_told_to_its_end(
    end: PaymentStatus,
    last: TrancheView,
    code: Exit,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Pledge, pay, watch, compare: the exit code says whether all is as it should be."""
    answers = [view(tranche()), view(tranche()), view(tranche("locked")), view(last, state="ended")]

    def answer(*_request: object, **_more: object) -> tuple[int, bytes]:
        return 200, msgspec.json.encode(answers.pop(0))

    for name in ("get", "post"):
        monkeypatch.setattr(services, name, answer)
    monkeypatch.setattr(command, "POLL_S", 0)
    payer = Payer(end)
    assert await Story(order(), SPONSOR, SIGNED, payer, as_json=False).tell() is code
    assert len(payer.paid) == 1
    said = capsys.readouterr().out
    assert said.startswith("pledged 20,000 sat for each of 1 rounds")
    assert ("NOT AS IT SHOULD BE" in said) == (code is Exit.UNTRUE)


async def test_a_coordinator_that_does_not_take_the_pledge_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, exit code 2."""
    monkeypatch.setattr(services, "post", lambda *_request: (413, b'{"detail": "a tranche is between 1 and 2 msat"}'))
    with pytest.raises(Stop, match="between 1 and 2") as stop:
        await Story(order(), SPONSOR, SIGNED, Payer(PaymentStatus.FAILED), as_json=True).tell()
    assert stop.value.code is Exit.USAGE


def test_the_folder_remembers_key_and_pledge(tmp_path: Path) -> None:
    """The same command again goes on with the same sponsorship; both files are their owner's alone."""
    told = order(tmp_path / "kept", key_file=tmp_path / "kept" / "sponsor.json")
    key = SigningKey(command._identity(told.key_file))
    first = command._pledge(told, key)
    assert command._pledge(told, key) == first
    assert SigningKey(command._identity(told.key_file)).public == key.public
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "kept").iterdir()} == {0o600}


# --- the demo's report ------------------------------------------------------------------------------------------------


def story(*, settled: bool) -> list[events.Event]:
    """The facts of one sponsored round."""
    common: dict[str, Any] = {"id": "1", "occurred_at_ms": 1}
    mine: dict[str, Any] = {**common, "sponsorship": PLEDGE.sponsorship(), "tranche": 0}
    named = msgspec.structs.replace(
        terms(), tranche=TrancheTerms(sponsorship=PLEDGE.sponsorship(), tranche=0, payment_hash=HASH,
                                      amount_msat=AMOUNT, margin=MARGIN),
    )  # fmt: skip
    lock = TrancheLocked(
        sponsorship=PLEDGE.sponsorship(), tranche=0, payment_hash=HASH, amount_msat=AMOUNT, expiry_height=250,
        locked_at_ms=1,
    )  # fmt: skip
    end: events.Event = (
        events.SponsorshipSettled(**mine, round=1, payment_hash=HASH, amount_msat=AMOUNT)
        if settled
        else events.SponsorshipReturned(
            **mine, round=1, payment_hash=HASH, amount_msat=AMOUNT, was_locked=True, reason="no better"
        )
    )
    return [
        events.SponsorshipLocked(**mine, locked=KEY.sign(TrancheLocked.tag, lock)),
        events.RoundOpened(**common, round=1, terms=KEY.sign(Terms.tag, named)),
        events.SponsorshipJudged(
            **mine, round=1, payment_hash=HASH, earned=settled, receipt=receipt(earned=settled), sealed_preimage=""
        ),
        end,
    ]


@pytest.mark.parametrize("settled", [True, False])
def test_a_tranche_is_told_whole_in_whatever_order(*, settled: bool) -> None:
    """Price, margin, gain and outcome, in one line for people."""
    facts = story(settled=settled)
    for seed in range(8):
        random.Random(seed).shuffle(facts)
        known = sponsored.Tranches()
        for fact in facts:
            known.take(fact)
        told = known.report(1)
        assert told is not None
        assert (told.amount_msat, told.margin, told.outcome) == (AMOUNT, 0.4, "settled" if settled else "returned")
        assert known.are_over()
        assert "20,000 sat pledged for a gain of 0.4000; measured +0.4000" in sponsored.sentence(told)


def test_a_locked_tranche_without_an_end_is_not_over() -> None:
    """The demo waits for it, and its report says that it is open."""
    known = sponsored.Tranches()
    for fact in story(settled=True)[:-1]:
        known.take(fact)
    told = known.report(1)
    assert not known.are_over()
    assert told is not None
    assert told.outcome == "open"


def a_sponsored_report(outcome: str, booked_msat: int) -> Report:
    """One round with a tranche."""
    told = a_report()
    one = TrancheReport(
        sponsorship="aa" * 32, tranche=0, payment_hash=HASH, amount_msat=AMOUNT, margin=0.4, gain=0.5,
        interval=(0.45, 0.55), outcome=outcome, reason="",
    )  # fmt: skip
    account = AccountReport(debits_msat=0, credits_msat=booked_msat)
    ledger = msgspec.structs.replace(told.ledger, accounts={**told.ledger.accounts, "sponsors:x": account})
    rounds = tuple(msgspec.structs.replace(round_, tranche=one) for round_ in told.rounds)
    return msgspec.structs.replace(told, rounds=rounds, ledger=ledger)


@pytest.mark.parametrize(
    ("outcome", "booked_msat", "wrong"),
    [
        ("settled", AMOUNT, ""),
        ("returned", 0, ""),
        ("settled", 0, "0 msat were booked"),
        ("returned", AMOUNT, "were booked"),
        ("open", 0, "still open"),
    ],
)
def test_the_report_checks_what_sponsors_paid_against_the_books(outcome: str, booked_msat: int, wrong: str) -> None:
    """A tranche that is open, or money that was not earned, is a fault of the run."""
    found = sponsor_faults(a_sponsored_report(outcome, booked_msat))
    assert bool(found) == bool(wrong)
    assert wrong in " ".join(found)
