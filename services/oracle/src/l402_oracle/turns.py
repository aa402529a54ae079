"""Whose turn it is to give a device work, where one measurement waits while the next is queued. It knows no device."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition
from types import TracebackType
from typing import Final

MEASURED_AT_ONCE: Final = {"cpu": 1, "cuda": 2}
"""Measurements in hand: on a GPU one is computed and one queued behind it."""


class Turn:
    """One thread has it. It may give it up while it waits, and has it again before it goes on."""

    def __init__(self) -> None:
        self._free = Condition()
        self._waiting = 0

    def __enter__(self) -> None:
        self._free.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free.release()

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """For as long as the context lasts."""
        self._waiting += 1
        self._free.release()
        try:
            yield
        finally:
            self._free.acquire()
            self._waiting -= 1
            self._free.notify_all()

    def alone(self) -> None:
        """Wait until nobody is between giving it up and having it again: what they use may be thrown away then."""
        self._free.wait_for(lambda: not self._waiting)
