"""The books read from outside agree with the settler's own arithmetic on the same lines."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from l402_settler import ledger as rules
from l402_settler.adapters.every_table import metadata
from l402_settler.adapters.guards import SQLITE
from l402_settler.adapters.tables import submissions, transfers
from l402_settler.ledger import Transfer
from l402train import books
from l402train.exits import Exit, Stop


def kept(path: Path, lines: list[Transfer]) -> Path:
    """Books with these lines."""
    path.unlink(missing_ok=True)
    engine = sa.create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    with engine.begin() as connection:
        for guard in SQLITE:
            connection.exec_driver_sql(guard)
    columns = ("id", "kind", "phase", "pending_id", "debit", "credit", "amount_msat", "commitment")
    rows = [{**{name: getattr(line, name) for name in columns}, "trace_id": "", "at_ms": 1} for line in lines]
    with engine.begin() as connection:
        connection.execute(sa.insert(transfers), rows)
    engine.dispose()
    return path


@st.composite
def histories(draw: st.DrawFn) -> list[Transfer]:
    """Some rungs of two peers: still pending, posted or voided; their rewards and fees."""
    lines = [rules.opening(draw(st.integers(1, 10**12)))]
    for number in range(draw(st.integers(0, 12))):
        hash_, peer, amount = f"{number:064x}", draw(st.sampled_from(["aa", "bb"])), draw(st.integers(1, 10**9))
        lines.append(rules.fee_received(hash_, draw(st.integers(1, 10**6))))
        lines.append(rules.rung_locked(hash_, peer, f"c{number}", amount))
        end = draw(st.sampled_from(["open", "paid", "back"]))
        if end != "open":
            lines.append(rules.rung_ended(hash_, peer, f"c{number}", amount, paid=end == "paid"))
        if end == "paid":
            lines.append(rules.reward_decided(peer, f"c{number}", amount))
    return lines


@settings(deadline=None, max_examples=40)  # each example makes a database
@given(histories())
def test_the_trial_balance_is_the_settlers(tmp_path_factory: pytest.TempPathFactory, lines: list[Transfer]) -> None:
    """Whatever happened, SQL from outside and the settler's own sums say the same, and both sides are even."""
    read = books.ledger(kept(tmp_path_factory.getbasetemp() / "books.sqlite3", lines))
    own = rules.trial_balance(lines)
    told = {
        n: (a.debits_msat, a.credits_msat, a.pending_debits_msat, a.pending_credits_msat)
        for n, a in read.accounts.items()
    }
    meant = {n: (b.debits_msat, b.credits_msat, b.pending_debits_msat, b.pending_credits_msat) for n, b in own.items()}
    assert told == {
        name: sums for name, sums in meant.items() if any(sums)
    }  # an account of voided rungs alone is silent
    assert read.debits_msat == read.credits_msat
    pending = {line.id for line in lines if line.phase == "pending"}
    assert read.open_escrows == len(pending - {line.pending_id for line in lines})


def test_a_submission_that_has_not_ended_is_open_though_no_rung_is_pending(tmp_path: Path) -> None:
    """A place that somebody waits for is no less open for holding no money."""
    path = kept(tmp_path / "books.sqlite3", [rules.opening(1)])
    engine = sa.create_engine(f"sqlite:///{path}")
    row = {
        "seq": 1, "round": 1, "peer": "p", "payee": "n", "payment_hash": "h", "fee_msat": 1, "reserved_msat": 1,
        "request_hash": "r",
        "statement": "", "failure": "", "credit_due": False, "frozen": False, "traceparent": "", "opened_at_ms": 1,
    }  # fmt: skip
    with engine.begin() as connection:
        for seq, state in enumerate(("uploaded", "ended"), start=1):
            values = {**row, "seq": seq, "commitment": state, "token_id": state, "state": state}
            connection.execute(sa.insert(submissions), values)
    engine.dispose()
    assert books.ledger(path).open_escrows == 1


def test_books_that_are_not_there_are_one_sentence(tmp_path: Path) -> None:
    """No file is made by looking for one."""
    with pytest.raises(Stop) as stop:
        books.ledger(tmp_path / "none.sqlite3")
    assert stop.value.code is Exit.NOT_FOUND
    assert not list(tmp_path.iterdir())


def test_another_file_is_not_taken_for_books(tmp_path: Path) -> None:
    """A file that is no database is refused, and not repaired."""
    (tmp_path / "books.sqlite3").write_text("not a database, and long enough to be asked about it")
    with pytest.raises(Stop) as stop:
        books.ledger(tmp_path / "books.sqlite3")
    assert stop.value.code is Exit.NOT_FOUND
