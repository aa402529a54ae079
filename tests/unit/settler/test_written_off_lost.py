"""What our node has lost while it was open in the books ends by a person's word, once nothing of it can move any more."""

from pathlib import Path

import pytest
from l402_settler.thawing import Thawing
from l402_settler.watch import Watch
from l402_settler.writing_off import WritingOff
from l402core.errors import Conflict, L402Error, Malformed
from l402core.events import Freeze, LedgerDifference, Reconcile, SponsorshipReturned, SponsorshipSettled, Thaw, WriteOff
from l402core.events import WrittenOff as Told
from l402core.lnd.port import ChannelView, InvoiceState, InvoiceView, PaymentStatus, PaymentView
from l402train import explaining, tranche_story

from tests.support.settler import Stage, sha
from tests.support.sponsors import AMOUNT, SPONSOR, Patron, patron, payment_hash
from tests.unit.settler.test_reconcile import Lists, invoice, payment

A, UNIT, FEE, EXPIRY = sha("a"), 100_000, 500_000, 190
TRANCHE, TRANCHE_EXPIRY = payment_hash("p", 0), 250
FAILED = PaymentStatus.FAILED


class Forgetful(Lists):
    """Our node, restored from an old copy: what it still knows, and what its channels hold."""

    def __init__(self, payments: list[PaymentView], invoices: tuple[InvoiceView, ...] = ()) -> None:
        super().__init__(payments, invoices)
        self.holds: tuple[str, ...] = ()
        self.closing = 0

    async def channels(self) -> list[ChannelView]:
        """One, which need not be active."""
        held = tuple(bytes.fromhex(hash_) for hash_ in self.holds)
        return [
            ChannelView(
                channel_id=1, remote_pubkey="", active=False, capacity_msat=1, local_msat=1, remote_msat=0,
                pending_out=len(held), pending_out_hashes=held,
            )
        ]  # fmt: skip

    async def closing_channels(self) -> int:
        """As a test has it."""
        return self.closing


def rung(index: int) -> str:
    """Its payment hash."""
    return sha(f"rung a {index}")


async def write_off(stage: Stage, node: Lists, hash_: str, ended: str = "") -> Told:
    """The order."""
    order = WriteOff(payment_hash=hash_, by="ann", reason="its disk was restored", ended=ended)
    return await WritingOff(stage.office, node).write_off(order)


async def reconciled(stage: Stage, node: Lists) -> tuple[LedgerDifference, ...]:
    """One comparison."""
    watch = Watch(stage.office, node)  # type: ignore[arg-type]  # only its lists are asked here
    return (await watch.reconcile(Reconcile())).differences


async def lost_rungs(stage: Stage, mask: int) -> Forgetful:
    """All six are out; one unit is decided, and then the node forgets the two lowest: the escrow freezes."""
    await stage.fee("a")
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", mask))
    for index in range(2, 6):
        await stage.seen("a", index, FAILED)
    node = Forgetful([payment(FAILED, rung(index), UNIT << index) for index in range(2, 6)], (invoice(sha("fee a")),))
    stage.office.sight.height = EXPIRY
    assert {one.weight for one in await reconciled(stage, node)} == {"contradiction"}
    assert await stage.is_frozen(A)
    return node


async def test_a_lost_rung_waits_until_nothing_of_it_can_move(stage: Stage) -> None:
    """Before its expiry, with an HTLC in any channel, or while one is closing: refused, and no line is written."""
    node, ledger, sight = await lost_rungs(stage, 0b1), await stage.ledger(), stage.office.sight

    async def refused(error: type[L402Error], ended: str) -> str:
        with pytest.raises(error) as raised:
            await write_off(stage, node, rung(0), ended)
        assert (await stage.ledger(), await stage.pending_msat()) == (ledger, 3 * UNIT)
        return raised.value.code

    for height in (0, EXPIRY, EXPIRY + 6):
        sight.height = height
        assert await refused(Conflict, "returned") == "rung_open"
    sight.height = EXPIRY + 7
    node.holds = (rung(0),)
    assert await refused(Conflict, "paid") == "rung_open"
    node.holds, node.closing = (), 1
    assert await refused(Conflict, "paid") == "rung_open"
    node.closing = 0
    assert await refused(Malformed, "") == "ended"
    node.payments.append(payment(PaymentStatus.IN_FLIGHT, rung(0), UNIT))
    assert await refused(Conflict, "returned") == "rung_open"


async def test_lost_rungs_end_by_a_persons_word_and_the_books_are_even(stage: Stage) -> None:
    """The decided one was collected, the other was paid to nobody's merit: one reward, one loss, nothing pending."""
    node = await lost_rungs(stage, 0b1)
    stage.office.sight.height = EXPIRY + 7
    for _ in range(2):
        assert (await write_off(stage, node, rung(0), "paid")).lost_msat == 0
        assert (await write_off(stage, node, rung(1), "paid")).lost_msat == 2 * UNIT
    assert await stage.pending_msat() == 0
    await stage.thaw(A)
    assert (await stage.office.view(A)).state == "ended"
    assert await stage.ledger() == {
        "fees:earned": FEE, "lightning": 3 * UNIT - FEE, "rewards": -UNIT, "written-off": -2 * UNIT,
    }  # fmt: skip
    assert {one.weight for one in await reconciled(stage, node)} == {"explained"}
    assert not await stage.is_frozen(A)
    await stage.seen("a", 1, FAILED)  # the node finds an old copy: a person has said how it was
    story = explaining.explain(stage.config.database_url, A)
    assert [(one.books, one.lnd, one.amount_msat) for one in story.written_off] == [
        ("in flight", "never seen", lost) for lost in sorted((0, 2 * UNIT), key=lambda lost: rung(lost and 1))
    ]
    assert "its disk was restored" in story.written_off[0].sentence()


async def test_a_lost_rung_that_came_back_is_forfeited_as_any_other(stage: Stage) -> None:
    """Revealed and not collected; afterwards books and node agree, and nothing is left to tell."""
    node = await lost_rungs(stage, 0b1)
    stage.office.sight.height = EXPIRY + 7
    for index in range(2):
        assert (await write_off(stage, node, rung(index), "returned")).lost_msat == 0
    await stage.thaw(A)
    assert (await stage.office.view(A)).state == "ended"
    assert await stage.ledger() == {"fees:earned": FEE, "lightning": -FEE}
    assert await reconciled(stage, node) == ()


# --- tranches ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def at(tmp_path: Path) -> Patron:
    """A sponsor beside a settler."""
    return patron(tmp_path)


async def stopped(at: Patron, *, until: str) -> str:
    """One tranche, frozen in this state; returns its sponsorship."""
    if until == "minted":
        id_ = (await at.open(tranches=1)).sponsorship
        await at.desk.on_announced(at.announced(id_))
        await at.minted(id_)
    else:
        id_ = await at.locked(tranches=1)
    if until in ("funding", "settling", "settled"):
        await at.stage.open_round()
    if until in ("settling", "settled"):
        await at.desk.on_judged(at.judged(id_))
    if until == "settled":
        await at.desk.tending.tend()
    assert (await at.tranche(id_)).state == until
    await _desk(at).freeze(Freeze(wanted=TRANCHE, by="ann", reason="odd"))
    return id_


def _desk(at: Patron) -> Thawing:
    return Thawing(at.stage.office, at.stage.settler, at.desk)


def node_of(at: Patron, state: InvoiceState | None, paid_msat: int = AMOUNT) -> Forgetful:
    """Our node with the tranche's invoice in this state, or without it."""
    if state is None:
        at.node.invoices.pop(TRANCHE, None)
    else:
        at.node._set(TRANCHE, state, paid_msat=paid_msat)
    return Forgetful([], tuple(at.node.invoices.values()))


@pytest.mark.parametrize(
    ("until", "seen", "code"),
    [
        ("minted", InvoiceState.OPEN, "tranche_open"),
        ("locked", InvoiceState.ACCEPTED, "tranche_open"),
        ("settled", InvoiceState.ACCEPTED, "tranche_open"),
        ("funding", InvoiceState.CANCELED, "tranche_open"),
        ("settling", InvoiceState.SETTLED, "tranche_open"),
        ("settled", InvoiceState.SETTLED, "agrees"),
        ("minted", None, "tranche_open"),
        ("locked", None, "tranche_open"),
        ("settling", None, "tranche_open"),
    ],
)
async def test_a_tranche_that_may_still_end_by_itself_is_not_written_off(
    at: Patron, until: str, seen: InvoiceState | None, code: str
) -> None:
    """Our node may settle or cancel it, tells its end, agrees, or has lost what may still be in a channel."""
    await stopped(at, until=until)
    node, ledger = node_of(at, seen), await at.stage.ledger()
    at.stage.office.sight.height = TRANCHE_EXPIRY
    with pytest.raises(Conflict) as refused:
        await write_off(at.stage, node, TRANCHE, "paid")
    assert (refused.value.code, await at.stage.ledger()) == (code, ledger)


async def test_only_what_is_frozen_is_written_off(at: Patron) -> None:
    """Nothing may move meanwhile."""
    await at.locked(tranches=1)
    with pytest.raises(Conflict) as refused:
        await write_off(at.stage, node_of(at, InvoiceState.SETTLED), TRANCHE)
    assert refused.value.code == "not_frozen"


@pytest.mark.parametrize(
    ("until", "seen", "ended", "lost_msat", "state", "ledger"),
    [
        ("minted", None, "", 0, "returned", {}),
        ("locked", None, "", 0, "returned", {}),
        ("settling", None, "returned", 0, "returned", {}),
        ("settling", None, "paid", 0, "settled", {"lightning": -AMOUNT, f"sponsors:{SPONSOR.public}": AMOUNT}),
        ("locked", InvoiceState.SETTLED, "", 0, "settled", {"lightning": -AMOUNT, f"sponsors:{SPONSOR.public}": AMOUNT}),
        ("minted", InvoiceState.SETTLED, "", -AMOUNT, "settled", {"lightning": -AMOUNT, "written-off": AMOUNT}),
        ("settled", InvoiceState.CANCELED, "", AMOUNT, "settled",
         {f"sponsors:{SPONSOR.public}": AMOUNT, "written-off": -AMOUNT}),
        ("settled", None, "", 0, "settled", {"lightning": -AMOUNT, f"sponsors:{SPONSOR.public}": AMOUNT}),
    ],
)  # fmt: skip
async def test_a_tranche_that_cannot_be_true_is_booked_as_our_node_has_it(
    at: Patron, until: str, seen: InvoiceState | None, ended: str, lost_msat: int, state: str, ledger: dict[str, int]
) -> None:
    """Once, said to the sponsor, explained; thawed and reconciled, nothing freezes for it again."""
    id_ = await stopped(at, until=until)
    stage, node = at.stage, node_of(at, seen)
    stage.office.sight.height = TRANCHE_EXPIRY + 7
    stage.now_ms += 3_600_000
    for _ in range(2):
        assert (await write_off(stage, node, TRANCHE, ended)).lost_msat == lost_msat
    told = stage.said(SponsorshipSettled if state == "settled" else SponsorshipReturned)
    assert [one.payment_hash for one in told] == [TRANCHE]
    await _desk(at).thaw(Thaw(wanted=TRANCHE, by="ann", reason="explained"))
    at.node.invoices = {view.payment_hash.hex(): view for view in node.invoices}
    await at.desk.tending.tend()
    assert ((await at.tranche(id_)).state, await stage.ledger()) == (state, ledger)
    assert (await at.view(id_)).state == "ended"
    assert {one.weight for one in await reconciled(stage, node)} <= {"explained"}
    if seen is not None:
        await at.desk.tending.see(at.node.invoices[TRANCHE])  # its subscription tells it once more
    story = tranche_story.tranche(stage.config.database_url, TRANCHE)
    assert story is not None
    assert not story.frozen
    assert [one.reason for one in story.written_off] == ["its disk was restored"]


async def test_another_sum_than_was_asked_is_the_difference(at: Patron) -> None:
    """Our node took less than the books say."""
    await stopped(at, until="settled")
    node = node_of(at, InvoiceState.SETTLED, paid_msat=AMOUNT - 7)
    assert (await write_off(at.stage, node, TRANCHE)).lost_msat == 7
    assert (await at.stage.ledger())["lightning"] == 7 - AMOUNT
