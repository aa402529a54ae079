"""What goes wrong in a history: a list of lines that can be drawn, read aloud and left out one by one. It acts on nothing."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec
from l402core.bus import DEAD
from l402core.events import FACTS, WORK

from tests.simulation.chance import Chance


class Kind(StrEnum):
    """Each names what its `at` counts."""

    KILL_BEFORE = "kill before effect"
    KILL_AFTER = "kill after effect"
    LND_CALL_LOST = "lose call to lnd"
    LND_ANSWER_LOST = "lose answer of lnd"
    PUBLISH_LOST = "lose publish"
    PUBLISH_ACK_LOST = "lose ack of publish"
    DELIVERY_LOST = "lose delivery"
    DELIVERY_LATE = "delay delivery"
    DELIVERY_AGAIN = "repeat delivery"
    ACK_LOST = "lose ack of delivery"
    QUESTION_LOST = "lose question"
    ANSWER_LOST = "lose answer"
    REQUEST_LOST = "lose request"
    REPLY_LOST = "lose reply"
    STREAM_DELETED = "delete streams at second"
    STREAM_LOST = "lose the stream after publish"
    FACTS_LOST = "lose stream FACTS at second"
    WORK_LOST = "lose stream WORK at second"
    DEAD_LOST = "lose stream DEAD at second"
    BUS_RESTARTED = "restart the bus at second"
    REDIS_WIPED = "wipe redis at second"
    BLOCKS = "mine a burst at second"
    NODE_AWAY = "take coordinator's node away at second"
    FROZEN = "an operator freezes the newest escrow at second"
    KEYS_ROTATED = "rotate every key at second"
    SEED_LOST = "lose the oracle's seed key at second"


class Fault(msgspec.Struct, frozen=True):
    """`at`: the number of the call, message or effect, or the second. `amount`: seconds, times or blocks."""

    kind: Kind
    at: int
    amount: float = 0.0
    blocks: int = 0
    """Mined while a killed process is away."""

    def __str__(self) -> str:
        while_away = f", {self.blocks} blocks while it is away" if self.blocks else ""
        return f"{self.kind} {self.at}" + (f" ({self.amount:g})" if self.amount else "") + while_away


LOST_STREAMS = {Kind.FACTS_LOST: FACTS, Kind.WORK_LOST: WORK, Kind.DEAD_LOST: DEAD}
TIMED = (
    Kind.STREAM_DELETED,
    *LOST_STREAMS,
    Kind.BUS_RESTARTED,
    Kind.REDIS_WIPED,
    Kind.BLOCKS,
    Kind.NODE_AWAY,
    Kind.FROZEN,
    Kind.KEYS_ROTATED,
    Kind.SEED_LOST,
)
SPANS: dict[Kind, int] = {
    Kind.KILL_BEFORE: 260, Kind.KILL_AFTER: 260, Kind.LND_CALL_LOST: 200, Kind.LND_ANSWER_LOST: 200,
    Kind.PUBLISH_LOST: 70, Kind.PUBLISH_ACK_LOST: 70, Kind.DELIVERY_LOST: 100, Kind.DELIVERY_LATE: 100,
    Kind.DELIVERY_AGAIN: 100, Kind.ACK_LOST: 100, Kind.QUESTION_LOST: 120, Kind.ANSWER_LOST: 120,
    Kind.REQUEST_LOST: 120, Kind.REPLY_LOST: 120, Kind.STREAM_DELETED: 80, Kind.STREAM_LOST: 70,
    Kind.FACTS_LOST: 30, Kind.WORK_LOST: 30, Kind.DEAD_LOST: 30, Kind.BUS_RESTARTED: 40,
    Kind.REDIS_WIPED: 60, Kind.BLOCKS: 120, Kind.NODE_AWAY: 80,
}  # fmt: skip
"""So far along a history the numbers of a kind usually go; most of what goes by the clock is over in ten seconds."""


def draw(chance: Chance, most: int = 14) -> list[Fault]:
    """Some faults of any kind, a few of each."""
    kinds = list(SPANS)
    return [_one(chance, kinds[chance.below(len(kinds))]) for _ in range(chance.below(most + 1))]


def draw_rotations(chance: Chance) -> list[Fault]:
    """Now and then every key is made new in the middle of it, once or twice."""
    often = (0, 0, 0, 0, 1, 2)[chance.below(6)]
    return [Fault(Kind.KEYS_ROTATED, 1 + chance.below(60)) for _ in range(often)]


def draw_freezes(chance: Chance) -> list[Fault]:
    """Now and then somebody stops an escrow, and has looked a while later."""
    often = (0, 0, 0, 0, 0, 1)[chance.below(6)]
    return [Fault(Kind.FROZEN, 1 + chance.below(20), round(chance.between(0.5, 60.0), 3)) for _ in range(often)]


def _one(chance: Chance, kind: Kind) -> Fault:
    early = chance.between(0.0, 1.0) ** (3 if kind in TIMED else 1)
    at = 1 + int(early * SPANS[kind])
    amounts = {
        Kind.KILL_BEFORE: chance.between(0.2, 12.0), Kind.KILL_AFTER: chance.between(0.2, 12.0),
        Kind.DELIVERY_LATE: chance.between(0.5, 40.0), Kind.DELIVERY_AGAIN: float(1 + chance.below(20)),
        Kind.STREAM_DELETED: chance.between(0.2, 5.0),
        Kind.BUS_RESTARTED: chance.between(0.2, 20.0),
        Kind.BLOCKS: float(1 + chance.below(6) + (20 + chance.below(30)) * chance.happens(0.2)),
        Kind.NODE_AWAY: chance.between(1.0, 20.0),
    }  # fmt: skip
    return Fault(kind, at, round(amounts.get(kind, 0.0), 3))


def blocks(faults: Iterable[Fault]) -> int:
    """All that are mined in bursts."""
    return sum(int(fault.amount) if fault.kind is Kind.BLOCKS else fault.blocks for fault in faults)


class Plan:
    """The faults by what triggers them; each strikes once."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        self._waiting = {(fault.kind, fault.at): fault for fault in self.faults}

    def take(self, number: int, *kinds: Kind) -> Fault | None:
        """The fault that strikes this number, if any."""
        for kind in kinds:
            fault = self._waiting.pop((kind, number), None)
            if fault is not None:
                return fault
        return None

    def timed(self) -> list[Fault]:
        """Those that strike by the clock, in order."""
        return sorted((fault for fault in self.faults if fault.kind in TIMED), key=lambda fault: (fault.at, fault.kind))
