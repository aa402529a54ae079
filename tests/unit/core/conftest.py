"""Real books for what is shown of the database layer alone."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import Postgres


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """Fresh books on PostgreSQL."""
    made = postgres.make("l402_settler")
    yield made
    postgres.drop(made)
