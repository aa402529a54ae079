"""A file that is read again when it was replaced: whoever asks gets what it says now. It knows no content and no timer.

A look costs one `stat`, and there is at most one look in `every_s`. What cannot be read leaves what was known.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from l402core.errors import L402Error

log = structlog.get_logger()
T = TypeVar("T")
EVERY_S = 1.0


class Watched(Generic[T]):
    """`now()` is what the file holds. The first reading raises whatever `read` raises; later ones are logged."""

    def __init__(
        self, path: Path, read: Callable[[Path], T], *, every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._path, self._read, self._every_s, self._clock = path, read, every_s, clock
        self._seen, self._looked_at = _face(path), clock()
        self._value = read(path)

    def now(self) -> T:
        """What it says, at most `every_s` ago."""
        if self._clock() - self._looked_at >= self._every_s:
            self.look()
        return self._value

    def look(self) -> T:
        """What it says at this very moment: for whoever misses something in what was known."""
        self._looked_at = self._clock()
        face = _face(self._path)
        if face == self._seen:
            return self._value
        self._seen = face
        try:
            self._value = self._read(self._path)
        except (OSError, ValueError, LookupError, L402Error) as error:
            log.warning("file.unreadable", file=self._path.name, error=type(error).__name__)
        else:
            log.info("file.read_again", file=self._path.name)
        return self._value


def _face(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino
