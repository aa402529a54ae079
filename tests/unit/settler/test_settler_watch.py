"""What the settler sees of its own node, and when that stops it from selling a place."""

from collections.abc import AsyncIterator

import pytest
from l402_settler.watch import Watch
from l402core.errors import Unavailable
from l402core.lnd.port import ChannelView, InvoiceView, NodeInfo, PaymentView

from tests.support.settler import Stage


class OneNode:
    """A node that says what a test wants to hear."""

    def __init__(
        self, *, network: str = "simnet", version: str = "0.21.0-beta", synced: bool = True, silent: bool = False
    ) -> None:
        self._info = NodeInfo(
            pubkey="02" * 33, alias="one", version=version, network=network, block_height=321, synced=synced
        )
        self._silent = silent

    async def info(self) -> NodeInfo:
        """Itself, or nothing."""
        if self._silent:
            raise Unavailable("lnd", "asleep")
        return self._info

    async def channels(self) -> list[ChannelView]:
        """None."""
        return []

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """Never heard of it."""
        return None

    async def list_payments(self) -> list[PaymentView]:
        """None."""
        return []

    async def list_invoices(self) -> list[InvoiceView]:
        """None."""
        return []

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
