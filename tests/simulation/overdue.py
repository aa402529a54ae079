"""Whether what is open is moved in time: a deadline that passes unused is a defect as much as one that was never set.

It is patient: an owner that was dead, or a node that was away, has the whole of its time again. It moves nothing.
"""

from lndsim.network import Network
from lndsim.payment import PaymentStatus

from tests.simulation.broker import Broker
from tests.simulation.node import Calls
from tests.simulation.services import COORDINATOR
from tests.simulation.waiting import AT_ONCE, NODE, SETTLER, Wait, Waiting
from tests.simulation.world import World

PATIENCE_MS = 60_000
"""From a deadline to its move: four looks of the slowest loop, and all that may be lost meanwhile."""
TERMINAL = (PaymentStatus.SUCCEEDED, PaymentStatus.FAILED)


class Overdue:
    """Looked at now and then."""

    def __init__(self, world: World, network: Network, calls: Calls, broker: Broker, waiting: Waiting) -> None:
        self._world, self._network, self._calls, self._broker, self._waiting = world, network, calls, broker, waiting
        self._since: dict[str, int] = {}
        """When each open row was first seen with its deadline behind it."""
        self._incarnation = 0

    def wrong(self) -> str:
        """What should have been moved long ago; '' where nothing is."""
        now_ms = self._world.now_ms()
        if not self._all_well():
            self._since.clear()
            return ""
        late = [wait for wait in self._waiting.rows() if self._is_late(wait, now_ms)]
        self._since = {wait.what: self._since.get(wait.what, now_ms) for wait in late}
        for wait in late:
            if now_ms - self._since[wait.what] > PATIENCE_MS:
                return f"{wait.what} is overdue: {wait.owner} was to {wait.move}"
        return ""

    def _all_well(self) -> bool:
        """The same settler lives as at the last look, our node answers, and the bus takes messages."""
        settler = self._world.processes[SETTLER]
        before, self._incarnation = self._incarnation, settler.number
        heard = self._broker.line.up and not self._broker.streams.missing()
        return heard and settler.alive and before == settler.number and not self._calls.away(COORDINATOR)

    def _is_late(self, wait: Wait, now_ms: int) -> bool:
        if wait.payment_hash:
            return self._lags(wait, now_ms)
        if wait.owner != SETTLER:
            return False
        return wait.by_ms == AT_ONCE or 0 < wait.by_ms <= now_ms or 0 < wait.by_height <= self._network.height

    def _lags(self, wait: Wait, now_ms: int) -> bool:
        """A rung is late when our node has said its end, or has never heard of it and cannot any more."""
        payment = self._network.nodes[COORDINATOR].payments.get(bytes.fromhex(wait.payment_hash))
        if payment is None:
            return wait.owner == NODE or 0 < wait.by_ms <= now_ms
        return payment.status in TERMINAL
