"""What the tests of the oracle's stories share: one attestor, on each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.oracle import Stage


@pytest.fixture
def stage(tmp_path: Path, each_database: str) -> Iterator[Stage]:
    """An attestor, and everybody else played by the test."""
    made = Stage(tmp_path)
    yield made
    made.database.close()
