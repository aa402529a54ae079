"""Statements compiled once answer as they do through SQLAlchemy, on both databases, and never from a stale memory."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from l402_settler.adapters.tables import outbox, rounds, rungs, submissions, tokens
from l402core.hot import Hot
from l402core.outbox import Database, Transaction
from sqlalchemy.exc import IntegrityError

from tests.support.databases import url_for

pytestmark = pytest.mark.usefixtures("each_database")

FIND = Hot(sa.select(rounds).where(rounds.c.round == sa.bindparam("b_round", type_=sa.Integer())), kept="round")
ADD = Hot(sa.insert(rounds))
_MOVE = sa.update(rounds).where(rounds.c.round == sa.bindparam("b_round", type_=sa.Integer()))
MOVE = Hot(_MOVE)
TURN = Hot(_MOVE, renews=FIND)
OPEN = Hot(
    sa.select(rounds.c.round, sa.func.length(rounds.c.terms).label("size")).where(
        rounds.c.phase.in_(("commit", "judge"))
    )
)


def _numbers(count: int) -> list[sa.BindParameter[int]]:
    return [sa.bindparam(f"b_{number}", type_=sa.Integer()) for number in range(count)]


A_ROUND = {"round": 1, "phase": "commit", "terms": "t" * 9, "traceparent": ""}
A_SUBMISSION = {
    "commitment": "c", "round": 1, "seq": 1, "peer": "p", "payee": "n", "state": "opened", "token_id": "t",
    "payment_hash": "h", "fee_msat": 1, "reserved_msat": 1, "request_hash": "", "statement": "", "traceparent": "",
    "opened_at_ms": 1,
}  # fmt: skip
A_RUNG = {"commitment": "c", "amount_msat": 1, "bolt11": "", "state": "registered", "not_after_ms": 0}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Empty books."""
    one = Database(url_for(tmp_path, "l402_settler"), outbox)
    yield one
    one.close()


async def test_an_answer_is_the_same_as_through_sqlalchemy(database: Database) -> None:
    """Columns by name, defaults that were not given, booleans that are booleans."""

    def work(tx: Transaction) -> None:
        tx.execute(ADD, A_ROUND)
        tx.execute(Hot(sa.insert(submissions)), A_SUBMISSION)
        assert tx.execute(Hot(sa.insert(rungs)), [{**A_RUNG, "payment_hash": f"h{n}", "rung": n} for n in (0, 1)]) == 2
        for table in (rounds, submissions, rungs):
            there = tx.rows(sa.select(table))
            hot = tx.rows(Hot(sa.select(table)))
            assert [row._asdict() for row in hot] == [row._asdict() for row in there]
            assert [tuple(map(type, row)) for row in hot] == [tuple(map(type, row)) for row in there]

    await database.transact(work)


async def test_a_statements_own_list_is_written_out(database: Database) -> None:
    """`IN` over constants of the statement, and a column with a name of its own."""

    def work(tx: Transaction) -> None:
        tx.execute(
            ADD, [{**A_ROUND, "round": number, "phase": phase} for number, phase in enumerate(("commit", "done"))]
        )
        assert [(row.round, row.size) for row in tx.rows(OPEN)] == [(0, 9)]
        assert tx.scalar(Hot(sa.select(sa.func.count().label("rows")).select_from(rounds))) == 2

    await database.transact(work)


async def test_what_is_kept_is_forgotten_at_a_write(database: Database) -> None:
    """By a hot statement, by any other, and by an undone part; what another table says changes nothing."""

    def work(tx: Transaction) -> None:
        tx.execute(ADD, A_ROUND)
        first = tx.row(FIND, b_round=1)
        assert tx.row(FIND, b_round=1) is first
        tx.execute(
            Hot(sa.insert(tokens)), {"token_id": "t", "payment_hash": "", "commitment": "", "peer": "", "outcome": ""}
        )
        assert tx.row(FIND, b_round=1) is first
        assert tx.execute(MOVE, {"b_round": 1, "phase": "upload"}) == 1
        assert _phase(tx) == "upload"
        tx.execute(sa.update(rounds).values(phase="judge"))
        assert _phase(tx) == "judge"
        with pytest.raises(LookupError):
            _undone(tx)
        assert _phase(tx) == "judge"

    await database.transact(work)


async def test_what_an_update_returns_is_what_the_question_would_answer(database: Database) -> None:
    """The rows that are kept are the changed ones; others, and what was changed to nothing, stay as they are."""

    def work(tx: Transaction) -> None:
        tx.execute(ADD, [A_ROUND, {**A_ROUND, "round": 2}])
        one, two = tx.row(FIND, b_round=1), tx.row(FIND, b_round=2)
        assert tx.execute(TURN, {"b_round": 1, "phase": "upload"}) == 1
        assert tx.row(FIND, b_round=1) == tx.row(Hot(sa.select(rounds).where(rounds.c.round == 1)))
        assert tx.row(FIND, b_round=1) is not one
        assert tx.row(FIND, b_round=2) is two, "nobody asked again"
        assert tx.execute(TURN, {"b_round": 3, "phase": "upload"}) == 0
        kept = [tx.row(FIND, b_round=number) for number in (1, 2)]
        tx.execute(sa.update(submissions).values(seq=1))  # any statement that is not hot: all is forgotten
        assert [tx.row(FIND, b_round=number) for number in (1, 2)] == kept

    await database.transact(work)


ALL = {count: Hot(sa.select(rounds).where(rounds.c.round.in_(_numbers(count)))) for count in (1, 4)}


async def test_what_is_foreseen_is_what_the_question_would_answer(database: Database) -> None:
    """Of what is there and of what is not, before and after a write; and nobody asks the database again."""

    def work(tx: Transaction) -> None:
        tx.execute(ADD, [A_ROUND, {**A_ROUND, "round": 2}])
        tx.foresee(FIND, ALL[4], [1, 2, 3, 3])
        one, two = tx.row(FIND, b_round=1), tx.row(FIND, b_round=2)
        assert (one, two) == tuple(tx.rows(Hot(sa.select(rounds).order_by(rounds.c.round))))
        assert tx.rows(FIND, b_round=1)[0] is one
        assert tx.rows(FIND, b_round=3) == []
        assert tx.execute(TURN, {"b_round": 1, "phase": "upload"}) == 1
        assert _phase(tx) == "upload"
        assert tx.row(FIND, b_round=2) is two
        tx.execute(ADD, {**A_ROUND, "round": 3})
        assert tx.row(FIND, b_round=3) is not None, "what was foreseen as missing has come"
        tx.execute(MOVE, {"b_round": 1, "phase": "judge"})
        assert _phase(tx) == "judge"

    await database.transact(work)


async def test_changes_that_share_a_commit_see_each_others_work_and_not_what_was_undone(database: Database) -> None:
    """They share what is kept: of a change that failed nothing stays in it."""
    await database.transact(lambda tx: tx.execute(ADD, A_ROUND))

    def turned(phase: str, *, fails: bool = False) -> Callable[[Transaction], str]:
        def work(tx: Transaction) -> str:
            before = _phase(tx)
            tx.execute(TURN, {"b_round": 1, "phase": phase})
            if fails:
                raise LookupError
            return before

        return work

    works = (turned("upload"), turned("done", fails=True), turned("judge"), _phase)
    outcomes = await asyncio.gather(*(database.transact(work) for work in works), return_exceptions=True)
    assert outcomes[0] == "commit"
    assert isinstance(outcomes[1], LookupError)
    assert outcomes[2:] == ["upload", "judge"]


async def test_the_databases_refusal_is_sqlalchemys(database: Database) -> None:
    """Whoever catches an error of SQLAlchemy's catches the driver's too; it does not repeat the values."""

    def work(tx: Transaction) -> None:
        tx.execute(ADD, A_ROUND)
        tx.execute(ADD, {**A_ROUND, "terms": "somebody's secret"})

    with pytest.raises(IntegrityError) as refused:
        await database.transact(work)
    assert "secret" not in str(refused.value)


def _undone(tx: Transaction) -> None:
    with tx.apart():
        tx.execute(MOVE, {"b_round": 1, "phase": "done"})
        assert _phase(tx) == "done"
        raise LookupError


def _phase(tx: Transaction) -> str:
    row = tx.row(FIND, b_round=1)
    assert row is not None
    return str(row.phase)
