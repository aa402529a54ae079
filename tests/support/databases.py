"""Where a test's databases come from: SQLite files by default, a real PostgreSQL where a test is run on both.

A folder keeps its databases: who opens the same folder again, as after a crash, finds the same books.
"""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

from l402core.schema import upgrade

from tests.support.postgres import Postgres


class Databases(Protocol):
    """Makes databases with the tables of a service's package."""

    def url(self, folder: Path, package: str) -> str:
        """That of this folder and package; made at the first call."""
        ...


class SqliteFiles:
    """Copies of a file that was migrated once."""

    def url(self, folder: Path, package: str) -> str:
        """A file in the folder."""
        file = folder / f"{package}.sqlite3"
        if not file.exists():
            shutil.copy(_migrated(package), file)
        return f"sqlite:///{file}"


@functools.cache
def _migrated(package: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="l402-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "template.sqlite3"
    upgrade(f"sqlite:///{file}", package)
    return file


class OnPostgres:
    """Fresh databases on one server, dropped by `close`."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._urls: dict[tuple[Path, str], str] = {}

    def url(self, folder: Path, package: str) -> str:
        """A database of this folder's own."""
        if (folder, package) not in self._urls:
            self._urls[folder, package] = self._server.make(package)
        return self._urls[folder, package]

    def close(self) -> None:
        """They are gone."""
        for url in self._urls.values():
            self._server.drop(url)


class Current:
    """Which of them the test at hand uses."""

    databases: Databases = SqliteFiles()


def url_for(folder: Path, package: str) -> str:
    """The URL of a folder's database, in the dialect that the test at hand uses."""
    return Current.databases.url(folder, package)
