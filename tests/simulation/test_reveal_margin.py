"""No reveal ever meets a payee's own cancel, at delta 12 and 18, however blocks come; and the guardian wakes somebody first.

The attestor's decision and the settler's eyes are the real ones, the payee is the simulator's.
"""

import asyncio
import hashlib
import itertools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from l402_oracle.attestor.reveal import Reveal, may_reveal
from l402_oracle.config import AttestorConfig
from l402_settler.watch import Watch
from l402core.documents import LADDER, Locked, Offer
from l402core.lnd.port import ChannelView, NodeInfo, PaymentView
from lndsim import Network, VirtualClock
from lndsim.invoice import InvoiceState
from prometheus_client import REGISTRY

from tests.support.pages import Paged
from tests.support.settler import Stage, sha

MARGIN = AttestorConfig.model_fields["expiry_margin_blocks"].default
CLTV_MIN, CLTV_MAX = 60, 200
PREIMAGES = [hashlib.sha256(f"rung {index}".encode()).digest() for index in range(len(LADDER))]
HASHES = [hashlib.sha256(preimage).digest() for preimage in PREIMAGES]
bursts = st.lists(st.integers(1, 40), max_size=12)
cltvs = st.lists(st.integers(CLTV_MIN, CLTV_MAX), min_size=len(LADDER), max_size=len(LADDER))


class Lane:
    """A coordinator, perhaps a node between, and a payee that cancels `delta` blocks early; and what was agreed."""

    def __init__(self, delta: int, expiries: list[int], gaps: list[int], *, hops: int) -> None:
        self.network = Network(seed=b"margin".ljust(32), clock=VirtualClock())
        names = ("coordinator", *("between",) * (hops - 1), "peer")
        for name in names:
            self.network.add_node(name)
        for opener, peer in itertools.pairwise(names):
            self.network.open_channel(opener, peer, 10**10)
        self.network.set_hold_expiry_delta("peer", delta)
        self.offer = an_offer(self.network.height + 24 + max(expiries))
        for payment_hash, cltv, gap in zip(HASHES, expiries, gaps, strict=True):
            held = self.network.add_invoice("peer", payment_hash=payment_hash, value_msat=10**6, cltv_expiry=cltv)
            self.network.pay("coordinator", held.bolt11, fee_limit_msat=10**5)
            if gap:
                self.network.mine(gap)
        heights = [htlc.expiry_height for invoice in self.invoices() for htlc in invoice.htlcs]
        ours = [hop.expiry_height for attempt in self.attempts() for hop in attempt.hops[:1]]
        self.locked = Locked(
            commitment=self.offer.commitment, round=1, peer=self.offer.peer, payment_hashes=self.offer.reward_hashes,
            expiry_height=min([*heights, *ours]), locked_at_ms=0,
        )  # fmt: skip

    def invoices(self) -> list:  # type: ignore[type-arg]  # the simulator's own
        """At the payee, by rung."""
        return [self.network.nodes["peer"].invoices[payment_hash] for payment_hash in HASHES]

    def attempts(self) -> list:  # type: ignore[type-arg]  # the simulator's own
        """Our HTLCs."""
        return [a for p in self.network.nodes["coordinator"].payments.values() for a in p.attempts]

    def held(self) -> bool:
        """Whether the payee still holds every rung."""
        return all(invoice.state is InvoiceState.ACCEPTED for invoice in self.invoices())

    def says(self, *, behind: int = 0) -> Reveal:
        """The attestor's decision, whose node may not have heard of the last blocks yet."""
        return may_reveal(self.offer, self.locked, self.network.height - behind, MARGIN)


def an_offer(reveal_by_height: int) -> Offer:
    """Of a round that is open for so long that only the margin decides."""
    return Offer(
        commitment=sha("c"), round=1, seq=1, peer=sha("p"), seal_to="cd" * 32, terms=sha("t"), key_id="k1",
        amounts_msat=tuple(LADDER), attempt=1, lock_by_ms=0, upload_until_ms=0, judge_by_ms=0,
        reveal_by_height=reveal_by_height, cltv_min=CLTV_MIN, cltv_max=CLTV_MAX,
        reward_hashes=tuple(payment_hash.hex() for payment_hash in HASHES),
    )  # fmt: skip


@pytest.mark.parametrize("delta", [12, 18])
@given(
    expiries=cltvs, gaps=st.lists(st.sampled_from([0, 0, 0, 1, 3]), min_size=len(LADDER), max_size=len(LADDER)),
    blocks=bursts, behind=st.integers(0, 6), late=st.integers(0, 12), hops=st.integers(1, 2),
)  # fmt: skip
@example(expiries=[60] * 6, gaps=[0] * 6, blocks=[38], behind=0, late=12, hops=1)
@example(expiries=[60] * 6, gaps=[0] * 6, blocks=[39], behind=0, late=12, hops=1)
@example(expiries=[60] * 6, gaps=[0] * 6, blocks=[30, 14], behind=6, late=6, hops=1)
@example(expiries=[60] * 6, gaps=[0] * 6, blocks=[41], behind=3, late=3, hops=2)
@settings(max_examples=60)
def test_whatever_is_revealed_can_still_be_collected(
    delta: int, expiries: list[int], gaps: list[int], blocks: list[int], behind: int, late: int, hops: int
) -> None:
    """A reveal by an attestor some blocks behind finds each rung held, and a peer some blocks late is paid all the same.

    Together they may be as many blocks as the margin leaves beyond the payee's delta: 12 at delta 12, 6 at delta 18.
    """
    late = min(late, MARGIN - delta - behind)
    lane = Lane(delta, expiries, gaps, hops=hops)
    for burst in blocks:
        lane.network.mine(burst)
        assert lane.held() or lane.says(behind=behind) is Reveal.NEVER
    if lane.says(behind=behind) is Reveal.NOW:
        if late:
            lane.network.mine(late)
        for preimage in PREIMAGES:
            lane.network.settle_invoice("peer", preimage)
        assert all(invoice.state is InvoiceState.SETTLED for invoice in lane.invoices())


@pytest.mark.parametrize("delta", [12, 18])
@given(expiries=cltvs, blocks=bursts, behind=st.integers(0, 6))
@example(expiries=[60] * 6, blocks=[38, 1, 1, 1, 1, 1, 1, 1, 1], behind=6)
@settings(max_examples=60)
def test_where_the_payee_has_let_go_nothing_is_revealed(
    delta: int, expiries: list[int], blocks: list[int], behind: int
) -> None:
    """Not at the block of the cancel, and never after it."""
    lane = Lane(delta, expiries, [0] * len(LADDER), hops=1)
    for burst in blocks:
        lane.network.mine(burst)
        if not lane.held():
            assert lane.says(behind=behind) is Reveal.NEVER


@given(st.integers(1, 2_000), st.integers(0, 2_100), st.integers(0, 2_100))
@example(expiry=400, height=375, reveal_by=375)
@example(expiry=400, height=376, reveal_by=400)
@example(expiry=400, height=375, reveal_by=374)
def test_a_reveal_leaves_more_than_the_margin_and_keeps_the_rounds_last_height(
    expiry: int, height: int, reveal_by: int
) -> None:
    """For any heights: 25 blocks or more to live, and not past `reveal_by_height`."""
    offer = an_offer(reveal_by)
    locked = Locked(
        commitment=offer.commitment, round=1, peer=offer.peer, payment_hashes=offer.reward_hashes,
        expiry_height=expiry, locked_at_ms=0,
    )  # fmt: skip
    safe = expiry - height > MARGIN and height <= reveal_by
    assert (may_reveal(offer, locked, height, MARGIN) is Reveal.NOW) is safe
    assert may_reveal(offer, None, height, MARGIN) is Reveal.NEVER
    assert may_reveal(offer, msgspec.structs.replace(locked, payment_hashes=()), height, MARGIN) is Reveal.NEVER
    assert may_reveal(offer, locked, None, MARGIN) is Reveal.WAIT


class Chain(Paged):
    """The settler's node, as far as it is looked at here: fit, and at a height; all rungs of "a" are in flight."""

    def __init__(self) -> None:
        self.height = 100

    async def info(self) -> NodeInfo:
        """Fit."""
        return NodeInfo(
            pubkey="02" * 33, alias="", version="0.21.0", network="simnet", block_height=self.height, synced=True
        )

    async def channels(self) -> list[ChannelView]:
        """None."""
        return []

    async def closing_channels(self) -> int:
        """None."""
        return 0

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """Not asked."""
        return None

    async def watch_payments(self) -> AsyncIterator[PaymentView]:
        """Not asked."""
        return
        yield


EXPIRY = 190
"""Of every rung that `Stage.locked` has in flight."""


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20))
@example([65, 1, 1, 22, 1, 1, 300])
@settings(max_examples=6)
def test_the_guardian_alarms_at_each_look_from_24_blocks_before_an_expiry_and_not_before(blocks: list[int]) -> None:
    """Whatever bursts come between two looks, the first one that finds 24 blocks or fewer left wakes somebody."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_guarded(Path(folder), blocks))


async def _guarded(folder: Path, blocks: list[int]) -> None:
    stage, chain = Stage(folder), Chain()
    await stage.open_round()
    await stage.locked("a")
    watch = Watch(stage.office, chain)
    for burst in blocks:
        chain.height += burst
        before = alarms()
        await watch.look()
        assert (alarms() > before) is (EXPIRY - chain.height <= 24)
    stage.database.close()


def alarms() -> float:
    """So often somebody was woken."""
    value = REGISTRY.get_sample_value("l402_guardian_alarms_total")
    assert value is not None
    return value
