"""The last settle index that was published, in one small file. It refuses to go back."""

import os
from pathlib import Path

from l402core.errors import Unavailable


class FileCursor:
    """Written whole or not at all. Losing it only means publishing again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> int:
        """The index; 0 where nothing was published yet, or the file is not ours."""
        try:
            text = self._path.read_text("ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return 0
        return int(text) if text.isdecimal() else 0

    def advance(self, settle_index: int) -> None:
        """Remember `settle_index` if it is further on. Raises Unavailable when the disk does not take it."""
        if settle_index <= self.read():
            return
        unfinished = self._path.with_suffix(".new")
        try:
            with unfinished.open("w", encoding="ascii") as file:
                file.write(str(settle_index))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path)
        except OSError as error:
            raise Unavailable("disk", f"the fee cursor cannot be written: {error.strerror}") from error
