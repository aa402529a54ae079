"""What both roles read from the bus, for the migration that declares it; importing it loads no torch."""

from l402core.bus import Consumer

from l402_oracle.attestor.app import CONSUMERS as ATTESTOR_CONSUMERS
from l402_oracle.worker.app import CONSUMERS as WORKER_CONSUMERS

CONSUMERS: tuple[Consumer, ...] = ATTESTOR_CONSUMERS + WORKER_CONSUMERS
