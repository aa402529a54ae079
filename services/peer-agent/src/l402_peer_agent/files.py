"""A peer's files, whole or not there at all, whenever it is cut off. It knows no meaning of what is in them."""

from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Replace the file in one step."""
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(data)
    unfinished.replace(path)


class PayloadFiles:
    """One round's payload, packed and sealed, for as long as the round may need it again."""

    def __init__(self, folder: Path, round_: int) -> None:
        stem = folder / str(round_)
        self._packed, self._sealed = stem.with_suffix(".packed"), stem.with_suffix(".sealed")

    def write(self, packed: bytes, sealed: bytes) -> None:
        """Keep both; the folder is made where there is none."""
        self._packed.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._packed, packed)
        write_whole(self._sealed, sealed)

    def read(self) -> tuple[bytes, bytes]:
        """The packed and the sealed bytes. Raises FileNotFoundError where none were written."""
        return self._packed.read_bytes(), self._sealed.read_bytes()

    def remove(self) -> None:
        """Let go of both, if they are there."""
        self._packed.unlink(missing_ok=True)
        self._sealed.unlink(missing_ok=True)
