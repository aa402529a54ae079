"""Two clocks of one shape: the wall's, and one that moves only when told. Nothing else here reads the time."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Answers the unix time in nanoseconds."""

NS_PER_S = 1_000_000_000


def wall_clock() -> int:
    """The real time, unix nanoseconds."""
    return time.time_ns()


class VirtualClock:
    """A clock for tests and simulations: it stands still until `advance`."""

    def __init__(self, start_s: int = 1_700_000_000) -> None:
        self.now_ns = start_s * NS_PER_S

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        """Move forward; a clock never goes back."""
        if seconds < 0:
            raise ValueError("a clock does not go back")
        self.now_ns += int(seconds * NS_PER_S)
