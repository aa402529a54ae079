"""The journal as a file for other programs: CSV or JSON, by the file's name. It adds nothing up."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import msgspec

from l402train.books import Line, journal, opened
from l402train.exits import Exit, Stop, stop_for


def export(where: Path | str, file: Path, *, account: str = "") -> int:
    """Write every line, or those of one account; how many. Raises Stop."""
    if file.suffix not in (".csv", ".json"):
        raise Stop(Exit.USAGE, f"{file.name} ends neither in .csv nor in .json")
    with opened(where) as books:
        lines = list(journal(books, account=account))
    text = _csv(lines) if file.suffix == ".csv" else msgspec.json.format(msgspec.json.encode(lines)).decode() + "\n"
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise stop_for(error, file) from error
    return len(lines)


def _csv(lines: Iterable[Line]) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, fieldnames=Line.__struct_fields__, lineterminator="\n")
    writer.writeheader()
    writer.writerows(msgspec.structs.asdict(line) for line in lines)
    return out.getvalue()
