"""A settler that dies before or after any step of a tranche, an answer of LND's that is lost, a stream that repeats."""

from pathlib import Path

import pytest
from l402_settler.adapters import sponsor_books
from l402core.errors import Unavailable
from l402core.events import SponsorshipAnnounce, SponsorshipLocked, SponsorshipMint, SponsorshipSettled
from l402core.lnd.port import InvoiceState
from l402core.sponsorship import RECOVER, Tranche

from tests.support.sponsors import AMOUNT, SPONSOR, Patron, patron, payment_hash

ACCOUNT = f"sponsors:{SPONSOR.public}"
HASH = payment_hash("p", 0)


@pytest.fixture
def at(tmp_path: Path) -> Patron:
    """A settler with a sponsor beside it."""
    return patron(tmp_path)


async def restart(at: Patron) -> None:
    """Another process over the same books and the same node."""
    at.desk = at.a_desk()
    await at.desk.recover()
    await at.desk.tending.tend()


@pytest.mark.parametrize("earned", [True, False], ids=["earned", "not earned"])
async def test_a_restart_after_every_step_changes_no_end(at: Patron, *, earned: bool) -> None:
    """The same story with a new process between any two steps ends in the same books."""
    id_ = (await at.open()).sponsorship
    await restart(at)
    await at.desk.on_announced(at.announced(id_))
    await restart(at)
    await at.minted(id_)
    await restart(at)
    at.node.pay(HASH)
    await restart(at)
    assert (await at.tranche(id_)).state == "locked"
    await at.stage.open_round()
    await restart(at)
    await at.desk.on_judged(at.judged(id_, earned=earned))
    await restart(at)
    await restart(at)
    assert (await at.tranche(id_)).state == ("settled" if earned else "returned")
    assert await at.stage.ledger() == ({"lightning": -AMOUNT, ACCOUNT: AMOUNT} if earned else {})


@pytest.mark.parametrize("earned", [True, False], ids=["settle", "cancel"])
async def test_an_answer_that_is_lost_is_found_at_the_next_look(at: Patron, *, earned: bool) -> None:
    """LND did it and its answer never came: it is looked up, and done once."""
    id_ = await at.locked()
    await at.stage.open_round()
    await at.desk.on_judged(at.judged(id_, earned=earned))
    at.node.reply_lost = True
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == ("settling" if earned else "returning")
    await restart(at)
    assert (await at.tranche(id_)).state == ("settled" if earned else "returned")
    assert at.node.calls.count("settle" if earned else "cancel") == 1
    assert len(at.stage.said(SponsorshipSettled)) == int(earned)


async def test_a_record_that_fails_after_settle_is_made_up_for(at: Patron, monkeypatch: pytest.MonkeyPatch) -> None:
    """LND has settled and the database is away: the intent is in the books, and the next look finds the end."""
    id_ = await at.locked()
    await at.stage.open_round()
    await at.desk.on_judged(at.judged(id_))

    async def broken(_view: object) -> None:
        raise Unavailable("database", "the disk is away")

    monkeypatch.setattr(at.desk.tending, "see", broken)
    await at.desk.tending.tend()
    assert at.node.invoices[HASH].state is InvoiceState.SETTLED
    assert (await at.tranche(id_)).state == "settling"
    await restart(at)
    assert (await at.tranche(id_)).state == "settled"
    assert await at.stage.ledger() == {"lightning": -AMOUNT, ACCOUNT: AMOUNT}


async def test_a_silent_node_delays_and_loses_nothing(at: Patron) -> None:
    """Nothing is decided while LND does not answer; what was intended is done when it does."""
    id_ = await at.locked()
    await at.stage.open_round()
    await at.desk.on_judged(at.judged(id_))
    at.node.cut = True
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "settling"
    at.node.cut = False
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "settled"


async def test_lnd_that_cancels_by_itself_leaves_the_sponsor_its_money(at: Patron) -> None:
    """Earned, but our node was away until the HTLC ran out: voided, and never booked as paid."""
    id_ = await at.locked()
    await at.stage.open_round()
    await at.desk.on_judged(at.judged(id_))
    await at.node.cancel_invoice(bytes.fromhex(HASH))
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "returned"
    assert await at.stage.ledger() == {}


async def test_an_invoice_settled_behind_our_back_is_frozen(at: Patron) -> None:
    """Nobody but the settler has the right: it is a contradiction, nothing is booked, and nobody acts any more."""
    id_ = await at.locked()
    at.node._set(HASH, InvoiceState.SETTLED)
    await at.desk.tending.tend()
    calls = len(at.node.calls)
    await at.desk.tending.tend()
    assert set(at.node.calls[calls:]) == {"lookup"}
    assert (await at.tranche(id_)).state == "locked"
    assert await at.stage.ledger() == {}


async def test_a_restart_says_what_the_table_lists(at: Patron) -> None:
    """Hashes are asked for again, invoices, and the word of a lock: each once per restart."""
    await at.open()
    await restart(at)
    assert len(at.stage.said(SponsorshipAnnounce)) == 2
    id_ = (await at.open()).sponsorship
    await at.desk.on_announced(at.announced(id_))
    await restart(at)
    assert [one.tranche for one in at.stage.said(SponsorshipMint)] == [0, 0]
    await at.minted(id_)
    at.node.pay(HASH)
    await at.desk.tending.tend()
    await restart(at)
    assert len(at.stage.said(SponsorshipLocked)) == 2
    assert RECOVER[Tranche.LOCKED][0] == "tell the oracle that the money waits"


async def test_everything_told_twice_has_one_effect(at: Patron) -> None:
    """Announced, minted, accepted and judged again: one invoice asked, one lock, one settlement, one line each."""
    id_ = (await at.open()).sponsorship
    for _ in range(2):
        await at.desk.on_announced(at.announced(id_))
    for _ in range(2):
        await at.minted(id_)
    at.node.pay(HASH)
    for _ in range(2):
        await at.desk.tending.tend()
    await at.stage.open_round()
    await at.stage.open_round()
    for _ in range(2):
        await at.desk.on_judged(at.judged(id_))
        await at.desk.tending.tend()
    assert [one.tranche for one in at.stage.said(SponsorshipMint)] == [0, 1]
    assert len(at.stage.said(SponsorshipLocked)) == 1
    assert len(at.stage.said(SponsorshipSettled)) == 1
    assert await at.stage.ledger() == {"lightning": -AMOUNT, ACCOUNT: AMOUNT}


async def test_a_deadline_that_loses_the_race_against_the_decision_cancels_nothing(at: Patron) -> None:
    """The look found it funding and near its expiry; the decision came before the look could act."""
    id_ = await at.locked(tranches=1)
    await at.stage.open_round()
    (line,) = await at.stage.database.read(sponsor_books.live_tranches)
    await at.desk.on_judged(at.judged(id_))
    at.stage.office.sight.height = 249
    await at.desk.tending._tend(line, 0, "", look=True)
    assert "cancel" not in at.node.calls
    await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == "settled"


async def test_a_deadline_that_loses_the_race_against_the_payment_takes_it(at: Patron) -> None:
    """The look found it unpaid and late; the payment was seen before the look could act."""
    id_ = (await at.open()).sponsorship
    await at.desk.on_announced(at.announced(id_))
    await at.minted(id_)
    (line,) = await at.stage.database.read(sponsor_books.live_tranches)
    at.node.pay(HASH)
    await at.desk.tending.see(at.node.invoices[HASH])
    at.stage.now_ms += at.stage.config.sponsor_pay_s * 1000
    await at.desk.tending._tend(line, 0, "", look=True)
    assert (await at.tranche(id_)).state == "locked"
    assert at.node.invoices[HASH].state is InvoiceState.ACCEPTED


async def test_one_invoice_waits_at_a_time_whatever_else_ends(at: Patron) -> None:
    """The tranche before it is settled while the next one waits: the third is not asked for yet."""
    id_ = await at.locked(tranches=3)
    await at.stage.open_round()
    await at.minted(id_, 1)
    await at.desk.on_judged(at.judged(id_))
    await at.desk.tending.tend()
    assert [one.state for one in (await at.view(id_)).tranches] == ["settled", "minted", "announced"]
