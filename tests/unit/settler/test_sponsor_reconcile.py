"""Sponsors' tranches beside LND's invoices: the whole matrix by hand, and what a reconcile says and freezes."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from l402_settler.sponsor_reconcile import compare_tranches
from l402_settler.watch import Watch
from l402core.events import Reconcile
from l402core.lnd.port import InvoiceState, InvoiceView
from l402core.sponsorship import Tranche

from tests.support.pages import Paged
from tests.support.settler import sha
from tests.support.sponsors import AMOUNT, Patron, patron, payment_hash

HASH = sha("tranche")

# one letter a pair: . agrees, l lags, c contradicts
MATRIX = """
            never OPEN ACCEPTED SETTLED CANCELED
announced   .     c    c        c       c
minting     .     .    l        c       l
minted      c     .    l        c       l
locked      c     c    .        c       l
funding     c     c    .        c       l
settling    c     c    .        l       l
returning   .     .    .        c       l
settled     c     c    c        .       c
returned    .     l    c        c       .
"""


class Row:
    """A tranche's row, as far as it is compared."""

    def __init__(self, state: Tranche, hash_: str = HASH) -> None:
        self.payment_hash, self.sponsorship, self.amount_msat, self.state = hash_, "s", AMOUNT, state


def invoice(state: InvoiceState, paid_msat: int = AMOUNT) -> InvoiceView:
    """Our node's view."""
    return InvoiceView(
        payment_hash=bytes.fromhex(HASH), bolt11="", amount_msat=AMOUNT, paid_msat=paid_msat, state=state, expiry_s=1,
        cltv_expiry=1, created_at=1,
    )  # fmt: skip


def compare(before: Tranche, after: Tranche, *invoices: InvoiceView) -> str:
    """The weights' first letters."""
    earlier: list[Any] = [Row(before)]
    later: list[Any] = [Row(after)]
    return "".join(one.weight[0] for one in compare_tranches(earlier, later, invoices)) or "."


def test_the_whole_matrix_is_as_it_was_agreed() -> None:
    """Every state of a tranche beside every word of LND."""
    _, *lines = MATRIX.strip().splitlines()
    drawn = dict(zip(Tranche, (line.split()[-5:] for line in lines), strict=True))
    states = [None, *(InvoiceState(name) for name in ("OPEN", "ACCEPTED", "SETTLED", "CANCELED"))]
    for tranche, (column, state) in itertools.product(Tranche, enumerate(states)):
        told = compare(tranche, tranche, *([invoice(state)] if state else []))
        assert told == drawn[tranche][column], (tranche, state)


def test_what_moved_between_the_readings_is_no_difference() -> None:
    """Judged, settled and booked while the node's list was on its way, or just after it."""
    assert compare(Tranche.FUNDING, Tranche.SETTLED, invoice(InvoiceState.SETTLED)) == "."
    assert compare(Tranche.FUNDING, Tranche.SETTLED, invoice(InvoiceState.ACCEPTED)) == "."
    assert compare(Tranche.ANNOUNCED, Tranche.MINTED, invoice(InvoiceState.OPEN)) == "."


def test_another_amount_is_a_contradiction_even_when_the_states_agree() -> None:
    """Settled is not enough: it must be this much."""
    assert compare(Tranche.SETTLED, Tranche.SETTLED, invoice(InvoiceState.SETTLED, AMOUNT - 1)) == "c"


class Listing(Paged):
    """A node with lists."""

    def __init__(self, at: Patron) -> None:
        self._at = at

    async def list_invoices(self) -> list[InvoiceView]:
        """Those of the sponsor's node."""
        return list(self._at.node.invoices.values())


@pytest.mark.parametrize("earned", [True, False])
async def test_books_and_node_agree_at_each_step(tmp_path: Path, *, earned: bool) -> None:
    """Locked, funding, and at the end: nothing differs, and a settled tranche is no unknown fee."""
    at = patron(tmp_path)
    watch = Watch(at.stage.office, Listing(at))  # type: ignore[arg-type]  # lists are all that is asked
    id_ = await at.locked()
    for step in ("locked", "funding", "end"):
        if step == "funding":
            await at.stage.open_round()
        if step == "end":
            await at.desk.on_judged(at.judged(id_, earned=earned))
            await at.desk.tending.tend()
        told = await watch.reconcile(Reconcile())
        assert (told.tranches, told.differences) == (2, ()), step


async def test_a_contradiction_freezes_the_tranche(tmp_path: Path) -> None:
    """Settled at LND without our word: frozen, and nobody acts on it any more."""
    at = patron(tmp_path)
    await at.locked()
    at.node._set(payment_hash("p", 0), InvoiceState.SETTLED)
    told = await Watch(at.stage.office, Listing(at)).reconcile(Reconcile())  # type: ignore[arg-type]  # as above
    assert [(one.weight, one.what) for one in told.differences] == [("contradiction", "tranche")]
    calls = len(at.node.calls)
    await at.desk.tending.tend()
    assert set(at.node.calls[calls:]) == {"lookup"}
