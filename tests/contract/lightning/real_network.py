"""Four real lnds on one btcd, funded and connected as the contract asks. It tests nothing."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from l402core.lnd.wire import LndEndpoint
from l402train.lightning.plan import Plan

from tests.contract.lightning.backends import CAPACITY_MSAT
from tests.support.lnd import LndNetwork, running_network


class RealBackend:
    """See `Backend`."""

    lacks = frozenset(f"/lnrpc.Lightning/{name}" for name in ("SendPaymentSync", "SendToRouteSync"))
    """Older lnds have both; version 0.21.0 does not."""

    def __init__(self, network: LndNetwork) -> None:
        self._network = network
        self.before_any: dict[str, tuple[str, str]] = {}

    def endpoint(self, name: str, macaroon: str = "admin") -> LndEndpoint:
        return self._network.endpoint(name, macaroon)

    async def mine(self, blocks: int) -> None:
        await asyncio.to_thread(self._network.btcd.mine, blocks)


@contextmanager
def running_contract(folder: Path) -> Iterator[RealBackend]:
    """alice → bob → carol, all money with the openers, and dave; everything below `folder`. Raises StartError."""
    plan = Plan(
        dir=folder / "network",
        nodes=("alice", "bob", "carol", "dave"),
        channels=(("alice", "bob"), ("bob", "carol"), ("bob", "carol")),
        capacity_sat=CAPACITY_MSAT // 1_000,
        push_sat=0,
    )
    with running_network(plan) as network:
        yield RealBackend(network)
