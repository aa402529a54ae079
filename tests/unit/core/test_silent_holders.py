"""A machine that vanishes inside a transaction keeps neither the books nor the outbox from the others."""

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from l402_settler.adapters.tables import outbox
from l402core.claims import Claim
from l402core.dialects import SILENT_S, open_engine
from l402core.outbox import Database
from sqlalchemy.exc import DBAPIError

pytestmark = pytest.mark.real
ROW = {"stream": "FACTS", "subject": "s", "message_id": "m", "body": b"{}", "traceparent": ""}


@pytest.fixture
def vanished(url: str) -> Iterator[sa.Engine]:
    """One whose transactions say nothing more; it is given a second, not fifteen."""
    engine = open_engine(url, idle_s=1)
    yield engine
    engine.dispose()


async def test_a_silent_writer_loses_the_books(url: str, vanished: sa.Engine) -> None:
    """It holds the writer's lock as its machine dies: whoever waits gets it, and what the dead one wrote is undone."""
    with vanished.connect() as dead:
        dead.begin()
        dead.execute(sa.insert(outbox), ROW | {"message_id": "dead"})
        database = Database(url, outbox)
        await database.transact(lambda tx: tx.execute(sa.insert(outbox), ROW))
        rows = await database.read(lambda tx: tx.rows(sa.select(outbox)))
        assert [row.message_id for row in rows] == ["m"]
        with pytest.raises(DBAPIError):
            dead.commit()
        dead.invalidate()
        database.close()


async def test_a_silent_publisher_loses_its_rows(url: str, vanished: sa.Engine) -> None:
    """They are said by another; that they may be said twice is what their message ids are for."""
    database = Database(url, outbox)
    await database.transact(lambda tx: tx.execute(sa.insert(outbox), ROW))
    dead, living = Claim(vanished, outbox), Claim(database.engine, outbox)
    assert len(dead.take(9)) == 1
    async with asyncio.timeout(30):
        while not (taken := living.take(9)):
            living.end([])
            await asyncio.sleep(0.05)
    living.end([row.id for row in taken])
    with pytest.raises(DBAPIError):
        dead.end([row.id for row in taken])
    database.close()


def test_both_ends_ask_a_silent_other_end(url: str) -> None:
    """Nothing else ends what waits for a machine that lost its power: no packet of it ever comes."""
    engine = open_engine(url)
    with engine.connect() as connection:
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
        assert tuple(int(connection.exec_driver_sql(f"show {name}").scalar_one()) for name in names) == SILENT_S
        told = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
        assert (told["keepalives_idle"], told["keepalives_interval"], told["keepalives_count"]) == tuple(
            str(value) for value in SILENT_S
        )
    engine.dispose()
