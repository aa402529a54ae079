"""What goes wrong between a caller and a node, by script: which call, how often, in which way. LND has no such thing.

A plan is for this process only: it is not in the journal, and a restart forgets it.
"""

from enum import StrEnum
from typing import Final

import msgspec

MAX_PLANNED: Final = 1_000
MAX_SECONDS: Final = 3_600.0


class Kind(StrEnum):
    """Each is something that a network, or a node that dies, does to a call."""

    LOST_CALL = "lost_call"
    """The connection ends before the node hears of the call: no effect. The caller sees UNAVAILABLE."""
    LOST_ANSWER = "lost_answer"
    """The connection ends after the effect, before the (first) answer. The caller sees UNAVAILABLE, too."""
    DELAY = "delay"
    """The node has acted and answers `seconds` later: beyond its deadline the caller sees DEADLINE_EXCEEDED."""
    CUT = "cut"
    """A stream ends with UNAVAILABLE after `messages` of its messages."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a plan: at `node` (a name; "" any), calls of `method` (the whole URI, or its last part)."""

    kind: Kind
    method: str
    node: str = ""
    skip: int = 0
    """So many matching calls go well first."""
    times: int = 1
    """Then so many do not."""
    seconds: float = 0.0
    messages: int = 0


class Faults:
    """A plan, and what came of it. A call meets the first line that matches it and is not used up."""

    def __init__(self) -> None:
        self._lines: list[tuple[Fault, list[int]]] = []
        self.happened: list[tuple[str, str, Kind]] = []
        """(node, URI, kind) of each, oldest first."""

    def plan(self, fault: Fault) -> None:
        """Add a line. Raises ValueError for one that could never happen, or a plan too long."""
        if fault.times < 1 or fault.skip < 0 or fault.messages < 0 or not 0 <= fault.seconds <= MAX_SECONDS:
            raise ValueError(f"a fault happens at least once, skips and waits a bounded while: {fault}")
        if len(self._lines) >= MAX_PLANNED:
            raise ValueError(f"a plan has at most {MAX_PLANNED} lines")
        self._lines.append((fault, [fault.skip, fault.times]))

    def clear(self) -> None:
        """Forget the plan; what happened stays."""
        self._lines.clear()

    @property
    def left(self) -> int:
        """How many faults are still to come."""
        return sum(left for _, (_, left) in self._lines)

    def take(self, node: str, uri: str) -> Fault | None:
        """The fault that this call meets, if any; counts the call."""
        for fault, counts in self._lines:
            if (fault.node and fault.node != node) or fault.method not in {uri, uri.rpartition("/")[2]}:
                continue
            if counts[0]:
                counts[0] -= 1
                continue
            if counts[1]:
                counts[1] -= 1
                self._lines = [line for line in self._lines if line[1][1]]
                self.happened.append((node, uri, fault.kind))
                return fault
        return None
