"""What the settler sees of its own node, and when that stops it from selling a place."""

import math
from collections.abc import AsyncIterator

import pytest
from l402_settler.watch import Watch
from l402core.errors import Unavailable
from l402core.lnd.port import ChannelView, NodeInfo, PaymentView
from prometheus_client import REGISTRY

from tests.support.pages import Paged
from tests.support.settler import Stage


class OneNode(Paged):
    """A node that says what a test wants to hear."""

    def __init__(
        self, *, network: str = "simnet", version: str = "0.21.0-beta", synced: bool = True, silent: bool = False,
        channels: tuple[ChannelView, ...] = (), height: int = 321,
    ) -> None:  # fmt: skip
        self._info = NodeInfo(
            pubkey="02" * 33, alias="one", version=version, network=network, block_height=height, synced=synced
        )
        self._silent = silent
        self._channels = channels

    async def info(self) -> NodeInfo:
        """Itself, or nothing."""
        if self._silent:
            raise Unavailable("lnd", "asleep")
        return self._info

    async def channels(self) -> list[ChannelView]:
        """As given."""
        return list(self._channels)

    async def closing_channels(self) -> int:
        """None."""
        return 0

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """Never heard of it."""
        return None

    async def watch_payments(self) -> AsyncIterator[PaymentView]:
        """Nothing happens."""
        return
        yield


async def seen_by(stage: Stage, node: OneNode) -> str:
    """The trouble after one look; empty: there is none."""
    await Watch(stage.office, node).look()
    return stage.office.sight.trouble


async def test_a_node_that_is_well_is_no_trouble(stage: Stage) -> None:
    """Its height is what the next terms count from."""
    assert await seen_by(stage, OneNode()) == ""
    assert stage.office.sight.height == 321


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (OneNode(network="regtest"), "is on regtest, configured is simnet"),
        (OneNode(version="0.18.5-beta"), "0.19.0 or newer"),
        (OneNode(synced=False), "not synced"),
        (OneNode(silent=True), "asleep"),
    ],
    ids=["another network", "too old", "behind", "silent"],
)
async def test_a_node_that_cannot_lock_is_trouble(stage: Stage, node: OneNode, words: str) -> None:
    """No place is sold on a node of another network, behind the chain, or silent."""
    assert words in await seen_by(stage, node)


async def test_readiness_names_what_stands_against_a_lock(stage: Stage) -> None:
    """`/readyz` says by name what to repair, and nothing once all is well."""
    assert stage.office.sight.readiness() == {"lightning": False, "lightning_answers": False}
    await seen_by(stage, OneNode(version="0.18.5-beta"))
    assert stage.office.sight.readiness() == {"lightning": False, "lightning_version": False}
    await seen_by(stage, OneNode())
    assert stage.office.sight.readiness() == {"lightning": False, "lightning_channels": False}


async def test_of_an_unfit_node_no_height_is_believed(stage: Stage) -> None:
    """Terms that name a height must not count from another chain, or from where a node lags."""
    before = stage.office.sight.height
    await seen_by(stage, OneNode(network="regtest"))
    await seen_by(stage, OneNode(synced=False))
    assert stage.office.sight.height == before


def a_channel(*, active: bool = True) -> ChannelView:
    """One that can send three ladders, and has three HTLCs out."""
    return ChannelView(
        channel_id=1, remote_pubkey="03" * 33, active=active, capacity_msat=10**8, local_msat=18_900_000,
        remote_msat=0, pending_out=3,
    )  # fmt: skip


def number(name: str, **labels: str) -> float:
    """A metric's value now."""
    value = REGISTRY.get_sample_value(f"l402_{name}", labels)
    assert value is not None
    return value


async def test_what_the_node_can_still_lock_is_told_in_numbers(stage: Stage) -> None:
    """Of active channels alone; a check that fails is 0, the others 1."""
    await seen_by(stage, OneNode(channels=(a_channel(), a_channel(), a_channel(active=False))))
    assert number("node_sendable_msat") == 2 * 18_900_000
    assert number("node_htlc_slots_free") == 2 * 480
    assert number("node_channels_active") == 2
    assert number("node_block_height") == 321
    assert number("node_fit", check="synced") == number("node_fit", check="liquidity") == 1
    await seen_by(stage, OneNode(synced=False))
    assert (number("node_fit", check="synced"), number("node_fit", check="network")) == (0, 1)
    await seen_by(stage, OneNode(channels=()))
    assert (number("node_fit", check="synced"), number("node_fit", check="channels")) == (1, 0)


async def test_the_books_begin_with_what_every_channel_holds(stage: Stage) -> None:
    """One whose other end is away at the first look is ours as well, and what it holds is sent later."""
    await seen_by(stage, OneNode(channels=(a_channel(), a_channel(active=False))))
    assert (await stage.ledger())["treasury"] == 2 * 18_900_000


async def test_the_guardian_counts_the_blocks_to_the_nearest_expiry_and_alarms_at_24(stage: Stage) -> None:
    """HTLCs that expire at 190: 25 blocks before nobody is woken, 24 before somebody is, whoever the node's chain is."""
    await stage.locked("a")
    for height, left, alarmed in ((100, 90, False), (165, 25, False), (166, 24, True), (189, 1, True)):
        before = number("guardian_alarms_total")
        await seen_by(stage, OneNode(height=height))
        assert number("guardian_blocks_left") == left
        assert (number("guardian_alarms_total") > before) is alarmed, height
    assert number("rungs_open") == 6


async def test_with_nothing_locked_there_is_no_expiry_to_come_near(stage: Stage) -> None:
    """Infinity is above every threshold that one may set."""
    await seen_by(stage, OneNode())
    assert (number("guardian_blocks_left"), number("rungs_open")) == (math.inf, 0)
