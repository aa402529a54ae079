"""A frozen tranche: neither minted, bound, judged, settled nor given back, though what LND did is written down."""

from pathlib import Path

import pytest
from l402_settler.adapters import sponsor_books
from l402_settler.thawing import Thawing
from l402core.events import (
    Freeze,
    FreezeView,
    SponsorshipLocked,
    SponsorshipMint,
    SponsorshipMinted,
    SponsorshipReturned,
    SponsorshipSettled,
    Thaw,
    WorkDead,
)
from l402train import tranche_story
from rich.console import Console

from tests.support.sponsors import AMOUNT, SPONSOR, Patron, patron, payment_hash

HASH = payment_hash("p", 0)


@pytest.fixture
def at(tmp_path: Path) -> Patron:
    """A sponsor beside a settler."""
    return patron(tmp_path)


def thawing(at: Patron) -> Thawing:
    """The operator's desk with this sponsor's."""
    return Thawing(at.stage.office, at.stage.settler, at.desk)


async def freeze(at: Patron) -> FreezeView:
    """An operator stops it."""
    return await thawing(at).freeze(Freeze(wanted=HASH, by="ann", reason="odd"))


async def thaw(at: Patron) -> FreezeView:
    """An operator has looked."""
    return await thawing(at).thaw(Thaw(wanted=HASH, by="ann", reason="fine"))


async def minting(at: Patron) -> str:
    """A pledge whose first invoice is asked for."""
    id_ = (await at.open()).sponsorship
    await at.desk.on_announced(at.announced(id_))
    return id_


async def test_an_invoice_is_not_shown_to_the_sponsor(at: Patron) -> None:
    """What was asked of the invoicer and not taken yet is unsaid; what it made is held; the thaw shows it, once."""
    id_ = await minting(at)
    await freeze(at)
    assert at.stage.said(SponsorshipMint) == []
    await at.minted(id_)
    assert ((await at.tranche(id_)).state, (await at.tranche(id_)).bolt11) == ("minting", "")
    await thaw(at)
    assert ((await at.tranche(id_)).state, (await at.tranche(id_)).bolt11) == ("minted", "lnsb…")


async def test_a_payment_is_seen_and_the_oracle_not_told(at: Patron) -> None:
    """The sponsor's money is pending in the books; nobody hears of it before the thaw."""
    id_ = await minting(at)
    await at.minted(id_)
    await freeze(at)
    at.node.pay(HASH)
    await at.desk.tending.tend()
    assert ((await at.tranche(id_)).state, at.stage.said(SponsorshipLocked)) == ("locked", [])
    await thaw(at)
    assert len(at.stage.said(SponsorshipLocked)) == 1


async def test_a_wrong_payment_goes_back_after_the_thaw(at: Patron) -> None:
    """Another amount: an intent to cancel is an act, and waits."""
    id_ = await minting(at)
    await at.minted(id_)
    await freeze(at)
    at.node.pay(HASH, paid_msat=AMOUNT - 1)
    await at.desk.tending.tend()
    assert ("cancel" in at.node.calls, (await at.tranche(id_)).state) == (False, "minted")
    await thaw(at)
    await at.desk.tending.tend()
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "returned"


async def test_it_funds_no_round_and_none_waits_for_it(at: Patron) -> None:
    """The round opens without; thawed, the next one is funded."""
    id_ = await at.locked()
    await freeze(at)
    assert (await at.stage.open_round()).tranche is None
    await thaw(at)
    tranche = (await at.stage.open_round(2)).tranche
    assert tranche is not None
    assert (tranche.sponsorship, (await at.tranche(id_)).state) == (id_, "funding")


async def test_a_judgement_is_held_and_settled_once(at: Patron) -> None:
    """Told twice: neither settled nor given back while frozen, however late; then settled once."""
    id_ = await at.locked()
    await at.stage.open_round()
    await freeze(at)
    judged = at.judged(id_)
    for _ in range(2):
        await at.desk.on_judged(judged)
    at.stage.now_ms += 10**9
    at.stage.office.sight.height = 240
    await at.desk.tending.tend()
    assert {"settle", "cancel"}.isdisjoint(at.node.calls)
    assert (await at.tranche(id_)).state == "funding"
    told = await thaw(at)
    assert told.held == ("sponsorship.judged.v1",)
    await at.desk.on_judged(judged)
    for _ in range(2):
        await at.desk.tending.tend()
    assert (at.node.calls.count("settle"), len(at.stage.said(SponsorshipSettled))) == (1, 1)
    assert await at.stage.ledger() == {f"sponsors:{SPONSOR.public}": AMOUNT, "lightning": -AMOUNT}


async def test_what_lnd_cancels_is_voided_and_the_next_is_asked_after_the_thaw(at: Patron) -> None:
    """Nothing of it is pending any more; its sponsor is asked for no more money until a person has looked."""
    id_ = await at.locked()
    await at.stage.open_round()
    asked = len(at.stage.said(SponsorshipMint))
    await freeze(at)
    await at.node.cancel_invoice(bytes.fromhex(HASH))
    await at.desk.tending.tend()
    assert ((await at.tranche(id_)).state, await at.stage.pending_msat()) == ("returned", 0)
    assert len(at.stage.said(SponsorshipReturned)) == 1
    assert len(at.stage.said(SponsorshipMint)) == asked
    await thaw(at)
    assert (await at.tranche(id_, 1)).state == "minting"


async def test_a_restart_says_nothing_of_it(at: Patron) -> None:
    """Neither that the invoice is wanted nor that the money waits."""
    await at.locked()
    await freeze(at)
    await at.desk.recover()
    assert at.stage.said(SponsorshipLocked) == []


async def test_what_the_invoicer_gives_up_freezes_the_tranche(at: Patron) -> None:
    """A tranche that is above its cap, say: an alarm, and the thaw asks again."""
    id_ = await minting(at)
    (asked,) = at.stage.said(SponsorshipMint)
    await thawing(at).on_work_dead(WorkDead(id="w", occurred_at_ms=0, request=asked.subject, reason="above the cap"))
    line = await at.stage.database.read(lambda tx: sponsor_books.tranche(tx, HASH))
    assert line is not None
    assert line.frozen
    await thaw(at)
    assert len(at.stage.said(SponsorshipMint)) == 1
    await at.minted(id_)
    assert (await at.tranche(id_)).state == "minted"


async def test_a_dead_letter_about_a_tranche_freezes_it(at: Patron) -> None:
    """The invoicer's word of another invoice than was asked."""
    id_ = await minting(at)
    event = SponsorshipMinted(
        id="m", occurred_at_ms=0, sponsorship=id_, tranche=0, payment_hash="00" * 32, bolt11="lnsb…"
    )
    await thawing(at).on_dead(event.subject, b"{}", ValueError("not the one that was asked"))
    line = await at.stage.database.read(lambda tx: sponsor_books.tranche(tx, HASH))
    assert line is not None
    assert line.frozen


async def test_a_tranches_story_is_told(at: Patron) -> None:
    """Where the money is and why, who froze it, and its ledger lines; by its hash or its sponsorship's."""
    id_ = await at.locked()
    await at.stage.open_round()
    where = at.stage.config.database_url
    assert "wait at our node for the oracle's judgement of round 1" in story(where, HASH[:10]).why
    await freeze(at)
    await thaw(at)
    await at.desk.on_judged(at.judged(id_))
    await at.desk.tending.tend()
    told = story(where, id_[:10])
    assert (told.payment_hash, told.state, told.round) == (HASH, "settled", 1)
    assert [line.phase for line in told.lines] == ["pending", "post"]
    assert [one.action for one in told.freezes] == ["freeze", "thaw"]
    out = Console(record=True, width=160)
    tranche_story.tell(out, told)
    assert "20,000 sat were earned by round 1 and taken" in out.export_text()
    assert tranche_story.tranche(where, "ffffffff") is None


def story(where: str, wanted: str) -> tranche_story.TrancheStory:
    """One that is there."""
    told = tranche_story.tranche(where, wanted)
    assert told is not None
    return told
