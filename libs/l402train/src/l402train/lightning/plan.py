"""Which nodes and channels a network of real lnds has: pure data and its checks. It starts nothing."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from l402train.exits import Exit, Stop

Topology = Literal["star", "line"]
CAPACITY_SAT_MAX = 16_777_215
"""Above it both ends would have to agree on large channels (BOLT 2)."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to start. The first node mines, so it has coins; the others get what their channels cost."""

    dir: Path
    """An empty or missing folder for everything."""
    nodes: tuple[str, ...]
    channels: tuple[tuple[str, str], ...] = ()
    """(opener, peer) pairs."""
    capacity_sat: int = 10_000_000
    push_sat: int = 5_000_000
    """What the opener gives to the peer's side of each channel."""
    block_seconds: float = 0.0
    """Mine a block that often; 0: only when asked."""
    lnd_dir: Path | None = None
    """Folder with lnd (and perhaps btcd); by default those that `make tools` built."""

    def checked(self) -> "Plan":
        """Itself. Raises Stop for what cannot be started."""
        if not self.nodes or len(set(self.nodes)) != len(self.nodes):
            raise Stop(Exit.USAGE, f"nodes need different names, and there is at least one: {', '.join(self.nodes)}")
        for name in self.nodes:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise Stop(Exit.USAGE, f"{name!r} is not a name for a node: letters, digits, '-' and '_' only")
        for pair in self.channels:
            if not set(pair) <= set(self.nodes) or pair[0] == pair[1]:
                raise Stop(Exit.USAGE, f"a channel from {pair[0]} to {pair[1]} does not join two of the nodes")
        if not 20_000 <= self.capacity_sat <= CAPACITY_SAT_MAX or not 0 <= self.push_sat < self.capacity_sat:
            raise Stop(
                Exit.USAGE,
                f"a channel holds 20,000 to {CAPACITY_SAT_MAX:,} sat and pushes less than all of it, "
                f"not {self.capacity_sat:,} and {self.push_sat:,}",
            )
        return self

    def routes(self) -> list[tuple[str, str]]:
        """(payer, payee) pairs that must be able to pay, given which side of each channel has money."""
        ways = list(self.channels) + [(peer, opener) for opener, peer in self.channels if self.push_sat]
        first = self.nodes[0]
        far = [(first, name) for name in sorted(_reached(first, ways) - {first})]
        back = [(name, first) for name in self.nodes if name != first and first in _reached(name, ways)]
        return list(dict.fromkeys(ways + far + back))

    def edges_seen_by(self, name: str) -> int:
        """How many channels the node must come to know of: those it is joined with, over any number of hops."""
        joined = _reached(name, [*self.channels, *((peer, opener) for opener, peer in self.channels)])
        return sum(opener in joined for opener, _ in self.channels)


def named(count: int) -> tuple[str, ...]:
    """`node-1`, `node-2`, ..."""
    return tuple(f"node-{number}" for number in range(1, count + 1))


def joined(nodes: tuple[str, ...], topology: Topology) -> tuple[tuple[str, str], ...]:
    """The channels of a star around the first node, or of a line."""
    if topology == "line":
        return tuple(itertools.pairwise(nodes))
    return tuple((nodes[0], name) for name in nodes[1:])


def _reached(start: str, ways: Iterable[tuple[str, str]]) -> set[str]:
    found, ways = {start}, list(ways)
    while more := {to for from_, to in ways if from_ in found} - found:
        found |= more
    return found
