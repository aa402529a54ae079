"""A person who stops an escrow and lets it go on later, over the bus as `l402-train freeze` and `thaw` do."""

import asyncio
from contextvars import Context

from l402core.errors import L402Error, Unavailable
from l402core.events import Freeze, FreezeView, Thaw

from tests.simulation.broker import Broker
from tests.simulation.services import Coordinator
from tests.simulation.world import World

NEWEST = """select commitment from submissions where state <> 'ended' and not frozen
order by opened_at_ms desc, seq desc limit 1"""
ANSWER_S, AGAIN_S = 5.0, 2.0


class Operator:
    """Asks until it is answered: an answer that is lost says no less than one that comes."""

    def __init__(self, world: World, broker: Broker, coordinator: Coordinator) -> None:
        self._world, self._broker, self._coordinator = world, broker, coordinator

    def freeze(self, seconds: float) -> None:
        """The newest escrow that is open, for so long; nothing where none is."""
        self._world.loop.create_task(self._freeze(seconds), context=Context())

    async def _freeze(self, seconds: float) -> None:
        found = self._coordinator.books.raw().execute(NEWEST).fetchone()
        if found is None:
            return
        self._coordinator.stopped.append(found[0])
        self._coordinator.orders += 1
        await self._ask(Freeze(wanted=found[0], by="ann", reason="it looks odd"))
        await asyncio.sleep(seconds)
        await self._ask(Thaw(wanted=found[0], by="ann", reason="it was nothing"))
        self._coordinator.orders -= 1

    async def _ask(self, order: Freeze | Thaw) -> None:
        while True:
            try:
                await self._broker.questions.ask(order, FreezeView, ANSWER_S)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)
            except L402Error as told:
                self._world.say(f"the operator is told: {told.code}")  # it was done, and its answer lost
                return
            else:
                return
