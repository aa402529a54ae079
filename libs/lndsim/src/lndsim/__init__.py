"""A simulated Lightning network that speaks LND's gRPC over TLS with macaroons."""

from lndsim.clock import VirtualClock, wall_clock
from lndsim.control import Control
from lndsim.faults import Fault, Faults
from lndsim.faults import Kind as FaultKind
from lndsim.guise import Guise
from lndsim.network import Network
from lndsim.refusal import Refusal
from lndsim.simulation import Simulation

__all__ = [
    "Control", "Fault", "FaultKind", "Faults", "Guise", "Network", "Refusal", "Simulation", "VirtualClock", "wall_clock",
]  # fmt: skip
