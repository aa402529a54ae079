"""A real PostgreSQL on a free loopback port, from Debian's programs, with a template for each schema.

It knows how to start and end a private server, and refuses to touch one that was there before.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from l402core.schema import upgrade
from sqlalchemy.exc import OperationalError

from tests.support.nats import free_port

START_S = 60
HOW = "PostgreSQL (Debian: apt-get install postgresql)"
USER = "postgres"
_numbers = itertools.count()


def program(name: str) -> Path | None:
    """One of the server's programs; Debian keeps them out of PATH."""
    found = shutil.which(name)
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return Path(found) if found else beside[-1] if beside else None


def postgres_is_there() -> bool:
    """Whether a private server can be started: as root it needs another user to run as."""
    return program("initdb") is not None and (os.geteuid() != 0 or shutil.which("setpriv") is not None)


class Postgres:
    """A running server: fresh databases, copied from a template that was migrated once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._admin = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        self._templates: set[str] = set()

    def url(self, name: str) -> str:
        """Of one database."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self._port}/{name}"

    def make(self, package: str, *, name: str = "") -> str:
        """The URL of a fresh database with the tables of a package."""
        template, name = f"template_{package}", name or f"test_{next(_numbers)}"
        if template not in self._templates:
            self._do(f"create database {template}")
            upgrade(self.url(template), package)
            self._templates.add(template)
        self._do(f"create database {name} template {template}")
        return self.url(name)

    def dump(self, url: str, file: Path) -> None:
        """All of a database as SQL text, as an operator's backup would have it."""
        words = [str(program("pg_dump")), "--host=127.0.0.1", f"--port={self._port}", f"--username={USER}"]
        file.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([*words, f"--file={file}", url.rsplit("/", 1)[1]], check=True)

    def shut(self, *urls: str) -> None:
        """Nobody comes in any more, and whoever is in is thrown out."""
        for url in urls:
            name = url.rsplit("/", 1)[1]
            self._do(f"alter database {name} allow_connections false")
            self._do(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")  # noqa: S608 - ours

    def open(self, *urls: str) -> None:
        """As before."""
        for url in urls:
            self._do(f"alter database {url.rsplit('/', 1)[1]} allow_connections true")

    def drop(self, url: str) -> None:
        """Whoever is still connected to it loses it."""
        self._do(f"drop database {url.rsplit('/', 1)[1]} with (force)")

    def _do(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)


@contextlib.contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """The server inside the block; its data are gone after, and unless `durable` need not survive a power cut."""
    folder = Path(tempfile.mkdtemp(prefix="l402-postgres-"))
    as_root = os.geteuid() == 0
    drop = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if as_root else []
    if as_root:
        shutil.chown(folder, USER, USER)
    port, data = free_port(), folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        subprocess.run(
            [*drop, str(program("initdb")), "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, cwd=folder, **quiet,  # type: ignore[call-overload]
        )  # fmt: skip
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "on" if durable else "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        server = subprocess.Popen([*drop, str(program("postgres")), "-D", str(data), *words], cwd=folder, **quiet)  # type: ignore[call-overload]
        try:
            _wait_for(port, server)
            yield Postgres(port)
        finally:
            server.send_signal(signal.SIGINT)  # at once: whoever is still connected is a test that failed
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    engine = sa.create_engine(f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres", poolclass=sa.NullPool)
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OperationalError), engine.connect():
            return
        time.sleep(0.05)
    raise TimeoutError(f"PostgreSQL did not answer on port {port} within {START_S} s")
