"""Listeners: they hear their topic, cost nothing when gone, and are cut when they lag too far behind."""

import pytest
from lndsim import Network, Refusal, VirtualClock, hub
from lndsim.hub import BLOCKS, Hub, invoices_topic


@pytest.fixture
def network() -> Network:
    """One node."""
    network = Network(seed=bytes(32), clock=VirtualClock())
    network.add_node("ann")
    return network


async def test_a_listener_that_lags_is_cut(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets what it had, then the truth: a bounded queue instead of all memory."""
    monkeypatch.setattr(hub, "MAX_BACKLOG", 3)
    told = Hub(network)
    with told.listen(BLOCKS) as feed:
        network.mine(10)
        blocks = aiter(feed)
        assert [(await anext(blocks)).height for _ in range(3)] == [401, 402, 403]
        with pytest.raises(Refusal, match="too slow"):
            await anext(blocks)


async def test_a_listener_hears_its_topic_only(network: Network) -> None:
    """Blocks are not invoices, and another node's invoices are not mine."""
    network.add_node("ben")
    told = Hub(network)
    with told.listen(invoices_topic(network.nodes["ann"].pubkey)) as feed:
        network.mine()
        network.add_invoice("ben", value_msat=1)
        mine = network.add_invoice("ann", value_msat=2)
        assert (await anext(aiter(feed))).r_hash == mine.payment_hash


def test_who_left_is_forgotten(network: Network) -> None:
    """No feed stays behind."""
    told = Hub(network)
    with told.listen(BLOCKS):
        pass
    assert told._feeds == {}
