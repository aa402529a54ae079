"""Waiting until something holds, and what the databases of a running network say; it changes nothing there."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from l402train.folder import Folder

PATIENCE_S = 30.0
NETWORK_S = 240.0
"""What a whole network's step may take on a busy machine."""
BUSY_S = 10.0
"""For so long a reader waits for who writes."""


async def until(
    holds: Callable[[], bool] | Callable[[], Awaitable[bool]], *, patience_s: float = PATIENCE_S, every_s: float = 0.05
) -> None:
    """Ask until it holds: other processes' books tell nobody of a change. Raises TimeoutError."""
    async with asyncio.timeout(patience_s):
        while True:
            answer = holds()
            if await answer if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(every_s)


def rows(database: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """A query on a SQLite file."""
    uri = f"{database.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S)) as connection:
        return connection.execute(query, values).fetchall()


def books_of(folder: Folder) -> Path:
    """The settler's, where they are on SQLite."""
    return folder.settler / "books.sqlite3"


def decisions_of(folder: Folder) -> Path:
    """The attestor's."""
    return folder.attestor / "decisions.sqlite3"


def count(folder: Folder, table: str, where: str = "1", *, what: str = "count(*)") -> int:
    """How many rows of the settler's books there are, or another number of theirs."""
    ((found,),) = rows(books_of(folder), f"select {what} from {table} where {where}")  # noqa: S608 - ours
    return int(found)
