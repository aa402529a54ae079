"""A settler with real SQLite books, for stories."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.settler import Stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A settler with a round of two places open."""
    made = Stage(tmp_path)
    await made.open_round()
    yield made
    made.database.close()


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Any]:
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
