"""What a commit means: every file and database of ours is opened so that what was said to be written is on the disk."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from l402_invoicer.adapters.tally import FileTally
from l402_peer_agent.adapters.journal import Journal
from l402core.dialects import open_engine

from tests.support.databases import url_for

FULL = 2
"""Of `PRAGMA synchronous`: fsync before a commit returns."""


def test_the_books_are_on_the_disk_when_they_say_so(tmp_path: Path, each_database: str) -> None:
    """SQLite with its log ahead and synced in full, PostgreSQL with `synchronous_commit`; as it is, not as it was asked."""
    engine = open_engine(url_for(tmp_path, "l402_settler"))
    with engine.connect() as connection:

        def said(words: str) -> Any:
            return connection.exec_driver_sql(words).scalar_one()

        if each_database == "sqlite":
            told = said("PRAGMA journal_mode"), said("PRAGMA synchronous"), said("PRAGMA foreign_keys")
            assert told == ("wal", FULL, 1)
        else:
            assert said("show synchronous_commit") == "on"
    engine.dispose()


def test_so_are_what_the_invoicer_may_have_sent_and_what_a_peer_remembers(tmp_path: Path) -> None:
    """Both are files of their own, and what is not in them may be paid twice."""
    tally, journal = FileTally(tmp_path / "tally.sqlite3"), Journal(tmp_path / "journal.sqlite3")
    for opened in (tally, journal):
        assert opened._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert opened._db.execute("PRAGMA synchronous").fetchone() == (FULL,)
        opened.close()
    with closing(sqlite3.connect(tmp_path / "tally.sqlite3")) as outsider:
        assert outsider.execute("PRAGMA journal_mode").fetchone() == ("wal",), "it stays so for whoever opens it"
