"""A person who stops an escrow and lets it go on later, and who ends a round that the oracle froze, over the bus as
`l402-train freeze`, `thaw` and `end-round` do."""

import asyncio
from contextvars import Context

from l402core.errors import L402Error, Unavailable
from l402core.events import EndRound, Freeze, FreezeView, RoundEnded, Thaw

from tests.simulation.broker import Broker
from tests.simulation.services import Coordinator
from tests.simulation.world import World

NEWEST = """select commitment from submissions where state <> 'ended' and not frozen
order by opened_at_ms desc, seq desc limit 1"""
FROZEN_ROUND = "select round from rounds where state = 'frozen'"
ANSWER_S, AGAIN_S = 5.0, 2.0
LOOK_S, LOOKS = 1.0, 600


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

    def end_what_freezes(self, seconds: float) -> None:
        """The first round that the oracle freezes from here on, so long after it has."""
        self._world.loop.create_task(self._end(seconds), context=Context())

    async def _end(self, seconds: float) -> None:
        for _ in range(LOOKS):
            found = self._coordinator.decisions.raw().execute(FROZEN_ROUND).fetchone()
            await asyncio.sleep(seconds if found else LOOK_S)
            if found:
                break
        else:
            return
        await self._ask(EndRound(round=found[0], by="ann", reason="its seed key is lost"), RoundEnded)

    async def _ask(self, order: Freeze | Thaw | EndRound, answer: type[FreezeView | RoundEnded] = FreezeView) -> None:
        while True:
            try:
                await self._broker.questions.ask(order, answer, ANSWER_S)
            except Unavailable:
                await asyncio.sleep(AGAIN_S)
            except L402Error as told:
                self._world.say(f"the operator is told: {told.code}")  # it was done, and its answer lost
                return
            else:
                return
