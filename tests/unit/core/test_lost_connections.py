"""A server that was away costs nobody a change: idle connections are tried, and one that breaks in use is not used again."""

import pytest
import sqlalchemy as sa
from l402_settler.adapters.tables import outbox
from l402core import dialects
from l402core.errors import Unavailable
from l402core.outbox import Database, Transaction

pytestmark = pytest.mark.real
ROW = {"stream": "FACTS", "subject": "s", "message_id": "m", "body": b"{}", "traceparent": ""}


def say(tx: Transaction) -> None:
    """Any change."""
    tx.execute(sa.insert(outbox), ROW)


def end_all(url: str) -> None:
    """As a server that starts again: every connection to these books ends."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            "and pid <> pg_backend_pid()"
        )


async def count(database: Database) -> int:
    """What is there."""
    return int(await database.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(outbox))))


async def test_a_connection_that_lay_idle_is_tried_first(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody learns that the server has been away meanwhile, neither who writes nor who reads."""
    monkeypatch.setattr(dialects, "TRIED_AFTER_S", 0.0)
    database = Database(url, outbox)
    await database.transact(say)
    assert await count(database) == 1
    end_all(url)
    await database.transact(say)
    assert await count(database) == 2
    database.close()


async def test_a_connection_that_breaks_in_use_is_not_used_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change that met it was not made, and says so; the next one finds another connection."""
    monkeypatch.setattr(dialects, "TRIED_AFTER_S", 3_600.0)
    database = Database(url, outbox)
    await database.transact(say)
    end_all(url)
    with pytest.raises(Unavailable):
        await database.transact(say)
    await database.transact(say)
    assert await count(database) == 2
    database.close()


async def test_a_reader_changes_nothing_and_sees_one_moment(url: str) -> None:
    """Its snapshot is the database's own, and so is the refusal."""
    database = Database(url, outbox)

    def read(tx: Transaction) -> tuple[str, str]:
        level = tx.scalar(sa.text("show transaction_isolation"))  # type: ignore[arg-type]
        return str(level), str(tx.scalar(sa.text("show transaction_read_only")))  # type: ignore[arg-type]

    assert await database.read(read) == ("repeatable read", "on")
    with pytest.raises(Unavailable):
        await database.read(say)
    database.close()
