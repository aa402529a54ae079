"""Stories of sponsors' tranches through the settler, on real SQLite books and a node that a test moves."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from l402core.errors import Conflict, Contradiction, Exhausted, L402Error, Malformed, TooLarge, Unauthorized
from l402core.events import (
    SponsorshipAnnounce,
    SponsorshipLocked,
    SponsorshipMint,
    SponsorshipReturned,
    SponsorshipSettled,
)
from l402core.lnd.port import InvoiceState
from l402core.signing import SigningKey

from tests.support.settler import SETTLER, sha
from tests.support.sponsors import AMOUNT, SPONSOR, Patron, patron, payment_hash

OTHER = SigningKey(bytes([31]) * 32)
ACCOUNT = f"sponsors:{SPONSOR.public}"


@pytest.fixture
def at(tmp_path: Path) -> Patron:
    """A settler at height 100 with a sponsor beside it."""
    return patron(tmp_path)


async def test_progress_is_paid_for(at: Patron) -> None:
    """Pledge, hash, invoice, lock, round, decision, settlement: the books have the tranche, and nothing is pending."""
    id_ = await at.locked()
    assert (await at.tranche(id_)).state == "locked"
    terms = await at.stage.open_round()
    assert terms.tranche is not None
    assert (terms.tranche.payment_hash, terms.tranche.amount_msat) == (payment_hash("p", 0), AMOUNT)
    await at.desk.on_judged(at.judged(id_))
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "settled"
    assert at.node.invoices[payment_hash("p", 0)].state is InvoiceState.SETTLED
    assert await at.stage.ledger() == {"lightning": -AMOUNT, ACCOUNT: AMOUNT}
    assert [one.round for one in at.stage.said(SponsorshipSettled)] == [1]
    assert at.stage.said(SponsorshipReturned) == []


async def test_no_progress_gives_the_money_back_at_once(at: Patron) -> None:
    """Not earned: the invoice is cancelled at the next look, and the books void what was pending."""
    id_ = await at.locked()
    await at.stage.open_round()
    await at.desk.on_judged(at.judged(id_, earned=False))
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "returned"
    assert at.node.invoices[payment_hash("p", 0)].state is InvoiceState.CANCELED
    assert "settle" not in at.node.calls
    assert await at.stage.ledger() == {}
    assert [(one.round, one.was_locked) for one in at.stage.said(SponsorshipReturned)] == [(1, True)]


async def test_the_next_tranche_is_minted_when_the_round_opens_and_the_last_ends_it(at: Patron) -> None:
    """One waits while one is at work; when all have ended, so has the sponsorship."""
    id_ = await at.locked()
    assert [one.tranche for one in at.stage.said(SponsorshipMint)] == [0]
    await at.stage.open_round()
    assert [one.tranche for one in at.stage.said(SponsorshipMint)] == [0, 1]
    await at.minted(id_, 1)
    at.node.pay(payment_hash("p", 1))
    await at.desk.tending.tend()
    terms = await at.stage.open_round(2)
    assert terms.tranche is not None
    assert terms.tranche.tranche == 1
    await at.desk.on_judged(at.judged(id_))
    await at.desk.on_judged(at.judged(id_, 1, earned=False, round_=2))
    await at.desk.tending.tend()
    view = await at.view(id_)
    assert (view.state, view.reason) == ("ended", "1 of 2 tranches were earned")
    assert await at.stage.ledger() == {"lightning": -AMOUNT, ACCOUNT: AMOUNT}


async def test_a_round_without_a_locked_tranche_is_the_treasurys(at: Patron) -> None:
    """A sponsor who has not paid yet funds nothing."""
    id_ = (await at.open()).sponsorship
    await at.desk.on_announced(at.announced(id_))
    await at.minted(id_)
    assert (await at.stage.open_round()).tranche is None


async def test_the_same_pledge_gets_the_same_answer(at: Patron) -> None:
    """A replay has exactly one effect: one sponsorship, one question to the oracle."""
    first = await at.open()
    assert await at.open() == first
    assert len(at.stage.said(SponsorshipAnnounce)) == 1


async def test_the_settlers_word_of_a_lock_is_signed(at: Patron) -> None:
    """Hash, amount and height of the HTLC that expires first, by the settler's key, once."""
    await at.locked()
    await at.desk.tending.tend()
    (said,) = at.stage.said(SponsorshipLocked)
    assert said.locked.signer == SETTLER.public
    assert '"expiry_height":250' in said.locked.body


@pytest.mark.parametrize(
    ("other", "refusal"),
    [
        ({"amount_msat": 999_999}, TooLarge),
        ({"amount_msat": 10**9 + 1}, TooLarge),
        ({"tranches": 0}, TooLarge),
        ({"tranches": 65}, TooLarge),
        ({"margin": 0}, Malformed),
        ({"margin": 2_000_000_000}, Malformed),
        ({"network": "mainnet"}, Malformed),
        ({"nonce": "AB" * 32}, Malformed),
    ],
)
async def test_a_pledge_beyond_its_bounds_is_refused(
    at: Patron, other: dict[str, Any], refusal: type[L402Error]
) -> None:
    """Nothing is asked of the oracle for it."""
    with pytest.raises(refusal):
        await at.open(**other)
    assert at.stage.said(SponsorshipAnnounce) == []


async def test_nobody_pledges_in_anothers_name(at: Patron) -> None:
    """The pledge is signed by the sponsor that it names."""
    with pytest.raises(Unauthorized):
        await at.open(sponsor=OTHER.public)
    stolen = msgspec.structs.replace(at.pledge(), sponsor=OTHER.public)
    with pytest.raises(Unauthorized):
        await at.desk.open(stolen)


async def test_open_sponsorships_are_few_and_one_for_each_sponsor(tmp_path: Path) -> None:
    """Whoever only pledges takes up little room."""
    at = patron(tmp_path, sponsorships_open=2)
    await at.open("a")
    with pytest.raises(Conflict, match="not over yet"):
        await at.open("b")
    await at.open("c", key=OTHER)
    with pytest.raises(Exhausted):
        await at.open("d", key=SigningKey(bytes([32]) * 32))


async def test_strangers_keep_no_expected_sponsor_out(tmp_path: Path) -> None:
    """Pledges cost nothing: those of strangers fill their own places, and the one that rounds wait for finds its own."""
    at = patron(tmp_path, sponsorships_open=2, expected_sponsors=(SPONSOR.public,))
    for number in range(2):
        await at.open(f"stranger {number}", key=SigningKey(bytes([40 + number]) * 32))
    with pytest.raises(Exhausted, match="sponsors_many"):
        await at.open("stranger 3", key=SigningKey(bytes([43]) * 32))
    assert await at.open("expected")
    at.stage.database.close()


async def test_a_sponsor_who_never_pays_is_asked_no_more(at: Patron) -> None:
    """One unpaid invoice, and the whole sponsorship is over: its other hashes are never minted."""
    id_ = (await at.open()).sponsorship
    await at.desk.on_announced(at.announced(id_))
    await at.minted(id_)
    at.stage.now_ms += at.stage.config.sponsor_pay_s * 1000
    await at.desk.tending.tend()
    assert at.node.invoices[payment_hash("p", 0)].state is InvoiceState.CANCELED
    view = await at.view(id_)
    assert (view.state, [one.state for one in view.tranches]) == ("ended", ["returned"])
    assert len(at.stage.said(SponsorshipMint)) == 1
    assert await at.stage.ledger() == {}
    with pytest.raises(Conflict):
        at.node.pay(payment_hash("p", 0))


async def test_an_invoice_that_was_never_made_is_given_up(at: Patron) -> None:
    """The invoicer refuses or is away: after the sponsor's time nothing is minted, and nothing is left open."""
    id_ = (await at.open()).sponsorship
    await at.desk.on_announced(at.announced(id_))
    at.stage.now_ms += at.stage.config.sponsor_pay_s * 1000
    await at.desk.tending.tend()
    assert (await at.view(id_)).state == "announced"  # it may be on its way still
    at.stage.now_ms += at.stage.config.never_sent_s * 1000
    await at.desk.tending.tend()
    assert (await at.view(id_)).state == "ended"


async def test_a_payment_that_comes_while_we_give_up_goes_back(at: Patron) -> None:
    """The intent to cancel is in the books, LND has just accepted: it is cancelled all the same, nothing is booked."""
    id_ = (await at.open()).sponsorship
    await at.desk.on_announced(at.announced(id_))
    await at.minted(id_)
    at.stage.now_ms += at.stage.config.sponsor_pay_s * 1000
    at.node.cut = True
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "returning"
    at.node.cut = False
    at.node.pay(payment_hash("p", 0))
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "returned"
    assert at.node.invoices[payment_hash("p", 0)].state is InvoiceState.CANCELED
    assert await at.stage.ledger() == {}


@pytest.mark.parametrize(
    ("paid", "why"),
    [({"paid_msat": AMOUNT + 1}, "were asked"), ({"expiry_height": 195}, "too soon")],
    ids=["another amount", "an HTLC that does not outlive a round"],
)
async def test_a_payment_that_is_not_what_was_asked_goes_back(at: Patron, paid: dict[str, int], why: str) -> None:
    """The price is fixed, and a lock must outlive its round: anything else is returned with the reason."""
    id_ = (await at.open()).sponsorship
    await at.desk.on_announced(at.announced(id_))
    await at.minted(id_)
    at.node.pay(payment_hash("p", 0), **paid)
    await at.desk.tending.tend()
    await at.desk.tending.tend()
    one = await at.tranche(id_)
    assert one.state == "returned"
    assert why in one.reason
    assert (await at.stage.open_round()).tranche is None
    assert await at.stage.ledger() == {}


async def test_an_htlc_near_its_expiry_goes_back_before_anybody_judges(at: Patron) -> None:
    """The guardian's margin in blocks: money that cannot be earned in time is not kept, and a late decision is nothing."""
    id_ = await at.locked()
    await at.stage.open_round()
    at.stage.office.sight.height = 250 - at.stage.config.sponsor_margin_blocks - 1
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "funding"
    at.stage.office.sight.height += 1
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "returned"
    await at.desk.on_judged(at.judged(id_))
    await at.desk.tending.tend()
    assert at.node.invoices[payment_hash("p", 0)].state is InvoiceState.CANCELED
    assert await at.stage.ledger() == {}


async def test_a_silent_oracle_gives_the_money_back(at: Patron) -> None:
    """A frozen round is never judged: after its time the sponsor has its money."""
    id_ = await at.locked()
    terms = await at.stage.open_round()
    at.stage.now_ms = terms.judge_by_ms + at.stage.config.sponsor_judge_s * 1000
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).reason == "the oracle did not judge in time"
    assert (await at.tranche(id_)).state == "returned"


async def test_what_waits_too_long_for_a_round_goes_back_and_the_next_is_asked_for(at: Patron) -> None:
    """No fault of the sponsor: the sponsorship goes on with another hash."""
    id_ = await at.locked()
    at.stage.office.sight.height = 160
    await at.desk.tending.tend()
    assert [one.state for one in (await at.view(id_)).tranches] == ["returned", "minting"]
    assert (await at.stage.open_round()).tranche is None


async def test_after_the_last_round_whatever_waits_goes_back(tmp_path: Path) -> None:
    """Two sponsors, one last round: the one that funds it stays, the other has its money at once."""
    at = patron(tmp_path, rounds=1)
    first = await at.locked()
    at.stage.now_ms += 1
    second = await at.locked("q", key=OTHER)
    assert (await at.stage.open_round()).tranche is not None
    await at.desk.tending.tend()
    assert [one.state for one in (await at.view(first)).tranches] == ["funding", "returned"]
    assert (await at.view(second)).state == "ended"
    assert at.node.invoices[payment_hash("q", 0)].state is InvoiceState.CANCELED


# --- the oracle's word ------------------------------------------------------------------------------------------------


async def test_a_forged_decision_settles_nothing(at: Patron) -> None:
    """Signed by the settler itself, or by nobody we pinned: refused, and the preimage inside is not used."""
    id_ = await at.locked()
    await at.stage.open_round()
    with pytest.raises(Unauthorized):
        await at.desk.on_judged(at.judged(id_, by=SETTLER))
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "funding"
    assert "settle" not in at.node.calls


@pytest.mark.parametrize("field", ["round", "tranche", "payment_hash", "sponsorship"])
async def test_a_decision_about_something_else_is_a_contradiction(at: Patron, field: str) -> None:
    """What the event says must be what the receipt says."""
    id_ = await at.locked()
    await at.stage.open_round()
    other: dict[str, Any] = {"round": 2, "tranche": 1, "payment_hash": sha("x"), "sponsorship": sha("y")}
    with pytest.raises(Contradiction):
        await at.desk.on_judged(at.judged(id_, **{field: other[field]}))
    assert (await at.tranche(id_)).state == "funding"


async def test_a_preimage_of_another_hash_is_a_contradiction(at: Patron) -> None:
    """It would open nothing; the tranche waits for its deadline, and LND never hears of it."""
    id_ = await at.locked()
    await at.stage.open_round()
    with pytest.raises(Contradiction, match="preimage"):
        await at.desk.on_judged(at.judged(id_, sealed=bytes(32)))
    assert (await at.tranche(id_)).state == "funding"


async def test_the_first_decision_stands(at: Patron) -> None:
    """Told again it is the same; another one is a contradiction, and changes nothing."""
    id_ = await at.locked()
    await at.stage.open_round()
    await at.desk.on_judged(at.judged(id_, earned=False))
    await at.desk.on_judged(at.judged(id_, earned=False))
    with pytest.raises(Contradiction, match="twice"):
        await at.desk.on_judged(at.judged(id_, earned=True))
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "returned"
    assert "settle" not in at.node.calls


async def test_earned_but_not_revealed_goes_back(at: Patron) -> None:
    """The oracle holds a preimage back near the expiry: without it nothing can be settled."""
    id_ = await at.locked()
    await at.stage.open_round()
    await at.desk.on_judged(msgspec.structs.replace(at.judged(id_), sealed_preimage=""))
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "returned"


@pytest.mark.parametrize(
    "other",
    [{"amount_msat": 1}, {"margin": 1}, {"tranches": 3}, {"seal_to": "ab" * 32}, {"hashes": (sha("one"), sha("one"))}],
)
async def test_hashes_for_another_promise_are_a_contradiction(at: Patron, other: dict[str, Any]) -> None:
    """The oracle announces exactly what was asked, and each hash once."""
    id_ = (await at.open()).sponsorship
    with pytest.raises(Contradiction):
        await at.desk.on_announced(at.announced(id_, **other))
    assert (await at.view(id_)).state == "asked"


async def test_a_pledge_that_the_oracle_does_not_answer_is_over_after_a_while(at: Patron) -> None:
    """Its place is free for others, and the sponsor's for another pledge; an answer that comes later changes nothing."""
    id_ = (await at.open()).sponsorship
    at.stage.now_ms += at.stage.config.sponsor_announce_s * 1_000 - 1
    await at.desk.tending.tend()
    assert (await at.view(id_)).state == "asked"
    at.stage.now_ms += 1
    await at.desk.tending.tend()
    view = await at.view(id_)
    assert (view.state, view.reason) == ("ended", "the oracle named no hashes in time")
    await at.desk.on_announced(at.announced(id_))
    assert (await at.view(id_)).state == "ended"
    await at.open("another")


async def test_a_pledge_that_is_never_paid_leaves_next_to_nothing(at: Patron) -> None:
    """Sixty-four tranches, of which one was asked for: one row stays, as evidence of its invoice."""
    id_ = (await at.open(tranches=64)).sponsorship
    await at.desk.on_announced(at.announced(id_))
    await at.minted(id_)
    at.stage.now_ms += at.stage.config.sponsor_pay_s * 1_000
    for _ in range(2):
        await at.desk.tending.tend()
    view = await at.view(id_)
    assert (view.state, len(view.tranches)) == ("ended", 1)
