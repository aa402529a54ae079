"""Compared page by page is compared as a whole, whatever the pages; and what moved meanwhile is no difference."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from l402_settler.adapters import books
from l402_settler.adapters.scratch import Scratch
from l402_settler.merging import side_by_side
from l402_settler.reconcile import BookedRung, compare_rungs
from l402_settler.reconciling import without_secret
from l402_settler.watch import Watch
from l402core.escrow import Rung
from l402core.events import LedgerDifference, Reconcile
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.secret import Secret

from tests.support.pages import Paged
from tests.support.settler import Stage, sha

hashes = st.integers(0, 40).map(lambda number: f"{number * 7919:064x}")
rungs = st.dictionaries(hashes, st.tuples(st.sampled_from(Rung), st.integers(1, 2)))
payments = st.dictionaries(hashes, st.tuples(st.sampled_from(PaymentStatus), st.integers(1, 2)))


def booked(hash_: str, state: Rung, amount_msat: int) -> BookedRung:
    """A rung of the books."""
    return BookedRung(payment_hash=hash_, commitment="c", amount_msat=amount_msat, state=state)


def paid(hash_: str, status: PaymentStatus, amount_msat: int) -> PaymentView:
    """A payment of the node."""
    return PaymentView(payment_hash=bytes.fromhex(hash_), status=status, amount_msat=amount_msat)


async def in_pages(ours: dict[str, BookedRung], theirs: dict[str, PaymentView], page: int) -> list[LedgerDifference]:
    """What differs, page by page; no page is longer than allowed, and no hash is in two of them."""
    spans, found = list[set[str]](), list[LedgerDifference]()

    async def next_(after: str, at_most: int) -> dict[str, BookedRung]:
        return {hash_: ours[hash_] for hash_ in sorted(one for one in ours if one > after)[:at_most]}

    with Scratch(PaymentView) as scratch:
        for hash_, view in theirs.items():
            scratch.put([(hash_, view)])
        async for mine, yours in side_by_side(next_, scratch.between, page=page):
            assert max(len(mine), len(yours)) <= page
            spans.append({*mine, *yours})
            found += compare_rungs(mine.values(), yours)
    assert sum(map(len, spans)) == len(set[str]().union(*spans)) == len({*ours, *theirs})
    return found


@given(rungs, payments, st.integers(1, 12))
@settings(max_examples=300, deadline=None)
def test_the_paged_answer_is_that_of_the_whole(
    rungs: dict[str, tuple[Rung, int]], payments: dict[str, tuple[PaymentStatus, int]], page: int
) -> None:
    """Any books beside any list, in pages of any size: the same differences."""
    ours = {hash_: booked(hash_, *of) for hash_, of in rungs.items()}
    theirs = {hash_: paid(hash_, *of) for hash_, of in payments.items()}
    found = asyncio.run(in_pages(ours, theirs, page))
    whole = compare_rungs(ours.values(), theirs)
    assert sorted(found, key=str) == sorted(whole, key=str)


def test_the_scratch_file_gives_back_what_was_put_last_and_keeps_no_preimage() -> None:
    """A payment that moved between two pages is told twice: the later word counts."""
    settled = PaymentView(
        payment_hash=b"\x01" * 32, status=PaymentStatus.SETTLED, amount_msat=5, preimage=Secret(b"\x02" * 32),
        htlc_expiry_heights=(7, 8),
    )  # fmt: skip
    hash_ = settled.payment_hash.hex()
    with Scratch(PaymentView) as scratch:
        scratch.put([(hash_, paid(hash_, PaymentStatus.IN_FLIGHT, 5))])
        scratch.put([(hash_, without_secret(settled))])
        found = scratch.at([hash_, sha("another")])
        assert found == {hash_: without_secret(settled)}
        assert found[hash_].preimage is None
        assert scratch.between("", None, 10) == found
        assert scratch.between(hash_, None, 10) == {}


class Moving(Paged):
    """A node whose list is older than what it answers when asked again."""

    async def list_payments(self) -> list[PaymentView]:
        """All in flight, as they were."""
        return [paid(sha(f"rung a {index}"), PaymentStatus.IN_FLIGHT, 100_000 << index) for index in range(6)]

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """Meanwhile they came back."""
        return next(
            paid(one.payment_hash.hex(), PaymentStatus.FAILED, one.amount_msat)
            for one in await self.list_payments()
            if one.payment_hash == payment_hash
        )


async def test_what_moved_while_the_list_was_read_is_no_difference(stage: Stage) -> None:
    """The list had the rungs in flight, and they came back and were booked before the books were read: ask again."""
    await stage.uploaded()
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.FAILED)
    node = Moving()
    listed = {view.payment_hash.hex(): view for view in await node.list_payments()}
    assert {one.weight for one in compare_rungs(await rungs_of(stage), listed)} == {"contradiction"}
    found = (await Watch(stage.office, node).reconcile(Reconcile())).differences  # type: ignore[arg-type]  # its lists
    assert [one for one in found if one.what == "rung"] == []


async def rungs_of(stage: Stage) -> list[BookedRung]:
    """Those of "a", as the books have them."""
    rows = await stage.database.read(lambda tx: books.rungs_of(tx, sha("a")))
    return [booked(row.payment_hash, Rung(row.state), row.amount_msat) for row in rows]
