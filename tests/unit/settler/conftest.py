"""A settler with real books, in SQLite and in PostgreSQL: every story is told on both."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.settler import Stage


@pytest.fixture
async def stage(tmp_path: Path, each_database: str) -> AsyncIterator[Stage]:
    """A settler with a round of two places open."""
    made = Stage(tmp_path)
    await made.open_round()
    yield made
    made.database.close()


@pytest.fixture
def make_stage(tmp_path: Path, each_database: str) -> Iterator[Any]:
    """Settlers with other configurations; closed at the end."""
    made: list[Stage] = []

    def make(**overrides: Any) -> Stage:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Stage(folder, **overrides))
        return made[-1]

    yield make
    for one in made:
        one.database.close()
