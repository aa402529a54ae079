"""The whole loop with its books on a real PostgreSQL, and without a sponsor: even books, and no secret in a dump of them."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from l402train import books, explaining
from l402train.exits import Exit

from tests.support.demos import ROUNDS, Run, a_demo
from tests.support.leaks import leaks, node_preimages, reward_preimages
from tests.support.postgres import Postgres

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("demo-postgres"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def urls(postgres: Postgres) -> Iterator[dict[str, str]]:
    """A database for the settler, and one for the attestor."""
    made = {"books": postgres.make("l402_settler"), "decisions": postgres.make("l402_oracle")}
    yield made
    for url in made.values():
        postgres.drop(url)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, urls: dict[str, str]) -> Run:
    """`l402-train demo --no-sponsor`, three honest peers."""
    words = ["--rounds", str(ROUNDS), "--peers", "3", "--seed", "5", "--no-sponsor"]
    words += [word for name, url in urls.items() for word in (f"--{name}", url)]
    return a_demo(tmp_path_factory.mktemp("postgres-demo"), *words)


def test_the_books_are_even_and_are_what_the_receipts_say(run: Run, urls: dict[str, str]) -> None:
    """The command's own checks, its report, and the database read again: no file of the folder holds books."""
    assert run.returncode == Exit.FINE, run.output
    assert run.report["parts"]["database"].startswith("postgresql ")
    assert list(run.folder.glob("settler/*.sqlite3*")) == list(run.folder.glob("attestor/*.sqlite3*")) == []
    ledger = books.ledger(urls["books"])
    assert ledger.debits_msat == ledger.credits_msat == run.report["ledger"]["debits_msat"] > 0
    assert ledger.open_escrows == 0
    submissions = run.submissions()
    assert len(submissions) == 3 * ROUNDS
    assert ledger.accounts["rewards"].debits_msat == sum(one["reward_msat"] for one in submissions) > 0
    assert ledger.accounts["fees:earned"].credits_msat == sum(one["fee_msat"] for one in submissions)
    assert all(one.pending_debits_msat == one.pending_credits_msat == 0 for one in ledger.accounts.values())
    for name, account in ledger.accounts.items():
        if name.startswith("peer:"):
            assert account.debits_msat == account.credits_msat, name
    story = explaining.explain(urls["books"], submissions[0]["submission_id"])
    assert (story.state, story.decided_msat) == ("ended", submissions[0]["reward_msat"])


def test_without_a_sponsor_no_round_has_a_tranche_and_the_books_no_such_account(run: Run, urls: dict[str, str]) -> None:
    """`--no-sponsor` leaves it out; by default every round has one (`test_demo`)."""
    assert [round_["tranche"] for round_ in run.report["rounds"]] == [None] * ROUNDS
    assert not [name for name in run.report["ledger"]["accounts"] if name.startswith("sponsors:")]
    assert "ponsor" not in run.output
    with books.opened(urls["books"]) as connection:
        for table in ("sponsorships", "tranches"):
            assert connection.execute(sa.text(f"select count(*) from {table}")).scalar_one() == 0  # noqa: S608 - ours


def test_no_secret_is_in_a_dump_of_either_database(run: Run, urls: dict[str, str], postgres: Postgres) -> None:
    """All that the folder's search knows, looked for in `pg_dump`'s text too; one that is planted there is found."""
    dumps = run.folder / "dumps"
    for name, url in urls.items():
        postgres.dump(url, dumps / f"{name}.sql")
        assert (dumps / f"{name}.sql").stat().st_size > 10_000
    assert "COPY public.transfers" in (dumps / "books.sql").read_text()
    secrets = reward_preimages(run.folder, urls["books"])
    assert len(secrets) == 6 * len(run.submissions())
    assert leaks(run.folder, beside=run.place, books=urls["books"]) == []
    told = set(node_preimages(run.folder).values())  # what was earned has a second name, its payee's
    name, secret = next((name, secret) for name, secret in secrets.items() if secret not in told)
    _plant(urls["decisions"], secret)
    postgres.dump(urls["decisions"], dumps / "planted.sql")
    assert leaks(run.folder, beside=run.place, books=urls["books"]) == [f"{name} in kept/dumps/planted.sql"]
    (dumps / "planted.sql").unlink()


def _plant(url: str, secret: bytes) -> None:
    """In a column of bytes, which `pg_dump` writes in hex."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table oops (body bytea)")
        connection.execute(sa.text("insert into oops values (:body)"), {"body": secret})
    engine.dispose()
