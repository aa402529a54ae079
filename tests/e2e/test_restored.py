"""Both databases are lost in mid-round and put back by the very commands of docs/deploy.md, and everybody is paid."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
import sqlalchemy as sa
from l402core.events import FACTS, WORK, WriteOff, WrittenOff
from l402core.jetstream import inbox
from l402core.lnd.grpc import LndEndpoint, connect
from l402core.rights import MIGRATION
from l402train import asking, books, bus_users, comparing
from l402train.credentials import macaroon_of
from l402train.folder import Folder
from l402train.parts import COORDINATOR
from l402train.stack import Network, Plan, running

from tests.support.leaks import leaks
from tests.support.networks import UNHURRIED, ended_in_good_order, started_again
from tests.support.postgres import USER, Postgres, program
from tests.support.watching import NETWORK_S, until

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]
DOCS = Path(__file__).parents[2] / "docs" / "deploy.md"
WRITERS = ("settler", "attestor")
STOP, START = f"compose stop {' '.join(WRITERS)}", f"compose start {' '.join(WRITERS)}"
HERE = """
docker() {
    case "$2" in
    exec) shift 4; "$@" ;;
    *) echo "$*" >> asked ;;
    esac
}
"""
"""What the engine would do: of a command in PostgreSQL's container the command; of anything else a note of it."""
REMEMBERED_S = 1
NEEDED = ("books.transfers", "books.rungs", "books.rounds", "decisions.offers", "decisions.rounds")
"""What there must be to lose."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """A network's, its books in files of its own or in databases under the names that compose.yaml gives them."""
    if request.param == "sqlite":
        yield Folder(tmp_path / "network")
        return
    server: Postgres = request.getfixturevalue("postgres")
    made = server.make("l402_settler", name="books"), server.make("l402_oracle", name="decisions")
    yield Folder(tmp_path / "network", books_url=made[0], decisions_url=made[1])
    for url in made:
        server.drop(url)


async def test_what_was_lost_in_mid_round_is_put_back_by_the_docs_commands_and_paid(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient waits to be judged, its ladder is locked. Settler and attestor end in good order, both databases are saved,
    spoiled, and restored; then it is paid, a second round is, and books and node agree. Then the same backup again, which by
    now is old: the first gradient is decided as it was, our node pays nothing, and each reward of the second is named, until a
    person explains it."""
    for name, value in UNHURRIED.items():
        monkeypatch.setenv(name, value)
    folder.create()
    async with running(folder, Plan(peers=1, rounds=2, workers=1, seed=9, overheard=True).checked(), print) as network:
        await remember_for_a_second(folder)
        worker = network.process("worker-1").pid
        await until(lambda: count(folder, "submissions") == 1, patience_s=NETWORK_S)
        os.kill(worker, signal.SIGSTOP)
        try:
            await until(lambda: count(folder, "submissions", "state = 'uploaded'") == 1, patience_s=NETWORK_S)
            await down(network)
            saved = kept(folder)
            as_documented(folder, tmp_path, "pg_dump" if on_postgres(folder) else 'cp "$books"')
            await restored(network, tmp_path, saved)
        finally:
            os.kill(worker, signal.SIGCONT)
        await until(lambda: count(folder, "submissions", "state = 'ended'") == 2, patience_s=NETWORK_S)
        assert count(folder, "credits") == count(folder, "freezes") == 0
        is_even(folder)
        assert not (await comparing.ask(network.nats_url)).differences
        first, second, paid = rungs(folder, 1), rungs(folder, 2), await payments(folder)
        left_msat = lightning(folder)
        assert {*first.values(), *second.values()} >= {"settled"}
        await down(network)
        await asyncio.sleep(2 * REMEMBERED_S)
        await restored(network, tmp_path, saved)
        await until(lambda: count(folder, "submissions", "state = 'ended'") == 1, patience_s=NETWORK_S)
        is_even(folder)
        assert (rungs(folder, 1), rungs(folder, 2)) == (first, {})
        assert await payments(folder) == paid
        found = (await comparing.ask(network.nats_url)).differences
        assert {(one.payment_hash, one.weight, one.lnd) for one in found} == {
            (hash_, "foreign", "SETTLED") for hash_, state in second.items() if state == "settled"
        }
        assert count(folder, "fees") == 2, "a fee that our node has is told again"
        for one in found:
            order = WriteOff(
                payment_hash=one.payment_hash, by="ann", reason="a reward that the old backup does not know"
            )
            told = await asking.ask(network.nats_url, order, WrittenOff)
            assert (told.what, told.lost_msat) == ("payment", one.amount_msat)
        assert not (await comparing.ask(network.nats_url)).differences
        is_even(folder)
        assert lightning(folder) == left_msat, "what our node has, the books have, with or without a story"
    assert leaks(folder.root, beside=tmp_path, books=folder.books_url if on_postgres(folder) else "") == []


async def remember_for_a_second(folder: Folder) -> None:
    """The bus forgets what it was told sooner than after its two minutes, for which the docs have an operator wait."""
    url = bus_users.url_of(folder.describe().nats_url, MIGRATION, bus_users.read(folder.passwords))
    client = await nats.connect(url, inbox_prefix=inbox(MIGRATION))
    try:
        for stream in (FACTS, WORK):
            config = (await client.jetstream().stream_info(stream)).config
            await client.jetstream().update_stream(config.evolve(duplicate_window=REMEMBERED_S))
    finally:
        await client.close()


async def restored(network: Network, place: Path, saved: dict[str, int]) -> None:
    """Both are spoiled, put back, and who writes them starts again."""
    folder = network.folder
    spoil(folder)
    as_documented(folder, place, "pg_restore" if on_postgres(folder) else 'rm -f "$books"')
    assert kept(folder) == saved
    assert min(saved[table] for table in NEEDED) > 0, saved
    await up(network)


def is_even(folder: Folder) -> None:
    """Nothing is open, and debits are credits."""
    ledger = books.ledger(folder.books)
    assert ledger.open_escrows == 0
    assert ledger.debits_msat == ledger.credits_msat > 0


def lightning(folder: Folder) -> int:
    """Our node's balance as the books have it, msat."""
    account = books.ledger(folder.books).accounts["lightning"]
    return account.debits_msat - account.credits_msat


def rungs(folder: Folder, round_: int) -> dict[str, str]:
    """How each rung of a round ended, by payment hash."""
    of_round = "select commitment from submissions where round = :round"
    found = f"select payment_hash, state from rungs where commitment in ({of_round})"  # noqa: S608 - ours
    with books.opened(folder.books) as connection:
        return {row.payment_hash: row.state for row in connection.execute(sa.text(found), {"round": round_})}


async def payments(folder: Folder) -> dict[str, str]:
    """All that our node has ever sent, as it tells the settler."""
    told = json.loads(folder.nodes.read_text())[COORDINATOR]
    node = connect(LndEndpoint(told["host"], Path(told["tls_cert"]), macaroon_of(folder, "settler")))
    try:
        return {view.payment_hash.hex(): view.status.name async for page in node.payment_pages() for view in page}
    finally:
        await node.close()


# --- losing, and the docs' commands -----------------------------------------------------------------------------------


def on_postgres(folder: Folder) -> bool:
    """Or on SQLite."""
    return isinstance(folder.books, str)


def as_documented(folder: Folder, place: Path, word: str) -> None:
    """Run the one block of docs/deploy.md in which this word stands. Where it is compose's, it stops both and starts both."""
    (block,) = [
        text for text in re.findall(r"^```\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL) if word in text
    ]
    (place / "backup").mkdir(exist_ok=True)
    asked = place / "asked"
    asked.write_text("")
    words = ["bash", "-euo", "pipefail", "-c", HERE + block.replace("-U l402", f"-U {USER}")]
    done = subprocess.run(words, cwd=place, env=where(folder), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert asked.read_text().splitlines() == ([STOP, START] if on_postgres(folder) else [])


def where(folder: Folder) -> dict[str, str]:
    """Where its databases are, as PostgreSQL's own programs and the docs' words take it."""
    if not on_postgres(folder):
        files = {"books": folder.books, "decisions": folder.decisions_url.removeprefix("sqlite:///")}
        return {**os.environ, **{name: str(file) for name, file in files.items()}}
    url, programs = sa.make_url(folder.books_url), program("pg_dump")
    assert programs is not None
    path = f"{programs.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PGHOST": str(url.host), "PGPORT": str(url.port)}


def spoil(folder: Folder) -> None:
    """Nothing of either can be read. On SQLite a log of changes is left, of later than the backup, for whatever file comes."""
    for url in (folder.books_url, folder.decisions_url):
        engine = sa.create_engine(url)
        if on_postgres(folder):
            with engine.begin() as connection:
                for table in sa.inspect(connection).get_table_names():
                    connection.exec_driver_sql(f"drop table {table} cascade")
        else:
            file = Path(str(engine.url.database))
            log = file.with_name(f"{file.name}-wal")
            with contextlib.closing(sqlite3.connect(file)) as connection:
                connection.execute("create table later (what)")
                changes = log.read_bytes()
            file.write_bytes(b"what a broken disk returns" * 1_000)
            log.write_bytes(changes)
        engine.dispose()


def kept(folder: Folder) -> dict[str, int]:
    """How many rows each table of both databases has."""
    found = {}
    for name, url in (("books", folder.books_url), ("decisions", folder.decisions_url)):
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            for table in sa.inspect(connection).get_table_names():
                found[f"{name}.{table}"] = connection.execute(sa.text(f"select count(*) from {table}")).scalar_one()  # noqa: S608 - ours
        engine.dispose()
    return found


def count(folder: Folder, table: str, rows: str = "true") -> int:
    """Rows of the settler's books, on either database."""
    with books.opened(folder.books) as connection:
        return int(connection.execute(sa.text(f"select count(*) from {table} where {rows}")).scalar_one())  # noqa: S608 - ours


# --- who writes them --------------------------------------------------------------------------------------------------


async def down(network: Network) -> None:
    """As `docker compose stop` does it; each ends by itself, in good order."""
    for name in WRITERS:
        await ended_in_good_order(network, name)


async def up(network: Network) -> None:
    """Until each is ready again."""
    for name in WRITERS:
        await started_again(network, name)
