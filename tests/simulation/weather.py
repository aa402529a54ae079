"""What goes by the clock of a history, whatever anybody does: blocks, and the faults that strike at a second."""

import asyncio
from contextvars import Context

from lndsim.network import Network

from tests.simulation.broker import Broker
from tests.simulation.faults import LOST_STREAMS, Kind
from tests.simulation.node import Calls
from tests.simulation.orders import Operator
from tests.simulation.services import COORDINATOR, SERVICES, Coordinator
from tests.simulation.streams import NAMES
from tests.simulation.world import World

BLOCK_EVERY_S = 60.0


class Weather:
    """It knows where to strike, and nothing of what comes of it."""

    def __init__(
        self, world: World, network: Network, calls: Calls, broker: Broker, coordinator: Coordinator
    ) -> None:  # fmt: skip
        self._world, self._network, self._calls = world, network, calls
        self._broker, self._coordinator = broker, coordinator
        self._operator = Operator(world, broker, coordinator)

    async def mine(self) -> None:
        """A block now and then, for ever."""
        while True:
            await asyncio.sleep(BLOCK_EVERY_S)
            self._network.mine()

    async def strike(self) -> None:
        """Each fault of the clock at its second."""
        world = self._world
        for fault in world.plan.timed():
            await asyncio.sleep(max(0.0, fault.at - world.monotonic()))
            if world.calm:
                return
            world.say(f"fault: {fault}")
            if fault.kind is Kind.BLOCKS:
                self._network.mine(int(fault.amount))
            elif fault.kind is Kind.REDIS_WIPED:
                self._coordinator.shelf.wipe()
            elif fault.kind is Kind.NODE_AWAY:
                self._calls.set_away(COORDINATOR, True)
                world.loop.call_later(fault.amount, self._calls.set_away, COORDINATOR, False, context=Context())
            elif fault.kind is Kind.FROZEN:
                self._operator.freeze(fault.amount)
            elif fault.kind is Kind.KEYS_ROTATED:
                self._coordinator.keyrings.rotate()
            elif fault.kind is Kind.SEED_LOST:
                self._coordinator.keyrings.lose_seed()
                self._operator.end_what_freezes(fault.amount)
            elif fault.kind in LOST_STREAMS:
                self._broker.lose(LOST_STREAMS[fault.kind])
            elif fault.kind is Kind.BUS_RESTARTED:
                self._broker.stop()
                world.loop.call_later(fault.amount, self._broker.start_again, context=Context())
            else:
                self._delete_streams(fault.amount)

    def _delete_streams(self, back_s: float) -> None:
        """All streams vanish; a person runs the migration, and starts the services again."""
        for name in NAMES:
            self._broker.lose(name)
        self._broker.streams.migrate()
        for name in SERVICES:
            process = self._world.processes[name]
            if process.alive:
                self._world.kill(process, back_s)
