"""Which key of the coordinator and of the oracle this peer believes in a round: told or seen first, and what it handed to.

Once a hand-over was seen, the former key is believed for earlier rounds only: a stolen one makes no new terms.
"""

from typing import Protocol


class Memory(Protocol):
    """Where pins are kept; the first value under a name stays."""

    def pinned(self, name: str) -> str: ...

    def pin(self, name: str, value: str) -> None: ...


class Pins:
    """Roles are `settler` and `attestor`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def key(self, role: str, told: str, round_: int) -> str:
        """The key for terms of this round; '' where none is known. `told`: what the configuration says, if anything."""
        key, last = told or self._memory.pinned(role), 0
        while key and (after := self._memory.pinned(_after(role, key))):
            heir, _, since = after.partition(" since ")
            if not last < int(since) <= round_:
                break
            key, last = heir, int(since)
        return key

    def seen(self, role: str, known: str, named: str, round_: int) -> None:
        """The round's terms name this key, and were believed on the strength of the known one."""
        if not known or known == named:
            self._memory.pin(role, named)
        else:
            self._memory.pin(_after(role, known), f"{named} since {round_}")


def _after(role: str, key: str) -> str:
    return f"{role} after {key}"
