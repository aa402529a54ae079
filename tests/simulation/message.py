"""One message on its way to one durable consumer, as the real bus's `deliver` sees it. It knows no queue and no stream."""

from typing import Protocol

from tests.simulation.faults import Kind
from tests.simulation.world import Process, World


class Line:
    """Whether the server of the bus is reached, and how often everybody's connection was cut."""

    def __init__(self) -> None:
        self.up, self.cuts = True, 0


class Keeper(Protocol):
    """Who keeps it: a broker."""

    world: World
    line: Line

    def queue_later(self, message: "Message", seconds: float) -> None: ...

    def bury(self, message: "Message", why: str) -> None: ...


class Message:
    """It has what `l402core.delivering.Message` asks for."""

    def __init__(self, broker: Keeper, durable: str, subject: str, body: bytes, number: int = 0) -> None:
        self.broker, self.durable, self.subject, self.body, self.number = broker, durable, subject, body, number
        self.headers: dict[str, str] = {}
        self.attempt = 0
        self.done = self.waiting = False
        self.worker: Process | None = None
        """Who has it in hand."""

    @property
    def running(self) -> bool:
        """Whether somebody who lives has it in hand."""
        return self.worker is not None and self.worker.alive

    async def ack(self) -> None:
        """It is done, unless nobody hears of it."""
        world = self.broker.world
        await world.pause()
        if world.strikes(self.number, Kind.ACK_LOST) or not self.broker.line.up:
            return
        with world.effect(f"acks {short(self.subject)}"):
            self.done = True

    async def nack(self, delay: float | None = None) -> None:
        """Again, later."""
        self.broker.world.living()
        if self.broker.line.up:
            self.broker.queue_later(self, delay or 0.0)

    async def reject(self) -> None:
        """Never again: a dead letter."""
        self.broker.world.living()
        if not self.broker.line.up:
            return
        self.done = True
        self.broker.bury(self, "refused")

    async def in_progress(self) -> None:
        """It takes a while."""


def short(subject: str) -> str:
    """A subject with its hash cut short, for people."""
    return ".".join(part[:8] if len(part) == 64 else part for part in subject.split("."))
