"""What the database itself refuses, on both dialects, whatever the code above it does."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from l402_settler import ledger
from l402_settler.adapters import journal
from l402_settler.adapters.guards import SLOT_MS
from l402_settler.adapters.tables import accounts, transfers
from l402_settler.ledger import Phase, Transfer, trial_balance
from l402core.errors import Contradiction
from l402core.lnd.port import PaymentStatus
from sqlalchemy.exc import IntegrityError

from tests.support.settler import PEER, Stage, sha

HASH, OTHER = sha("a rung"), sha("another")
LOCK = ledger.rung_locked(HASH, PEER.public, "c", 5_000)
BESIDE = (
    ledger.rung_locked(sha("beside"), PEER.public, "c", 5_000),
    ledger.rung_locked(sha("e"), "ee" * 32, "c", 5_000),
)
"""Other money that is pending, so that no sum goes below zero by a false end."""


def write(stage: Stage, *lines: Transfer) -> None:
    """Straight into the table, past every rule of the code."""
    with stage.database.engine.begin() as connection:
        for line in lines:
            values = {name: getattr(line, name) for name in Transfer.__struct_fields__}
            connection.execute(sa.insert(transfers), {**values, "phase": str(line.phase), "trace_id": "", "at_ms": 1})


def end(*, pending: str = HASH, peer: str = PEER.public, amount_msat: int = 5_000, id_: str = "") -> Transfer:
    """The end of a rung, true or not."""
    line = ledger.rung_ended(pending, peer, "c", amount_msat, paid=True)
    return msgspec.structs.replace(line, id=id_ or line.id)


@pytest.mark.parametrize(
    "wrong",
    [end(amount_msat=4_999), end(peer="ee" * 32), end(pending=OTHER)],
    ids=["another amount", "another account", "nothing pending"],
)
def test_an_end_is_its_own_pending_transfers(stage: Stage, wrong: Transfer) -> None:
    """Same accounts, same amount, and something that was pending."""
    write(stage, LOCK, *BESIDE)
    with pytest.raises(IntegrityError, match="pending transfer"):
        write(stage, wrong)
    write(stage, end())


def test_what_moved_at_once_has_no_end(stage: Stage) -> None:
    """Only a pending transfer can be posted or voided."""
    write(stage, ledger.fee_received(HASH, 500))
    with pytest.raises(IntegrityError, match="pending transfer"):
        write(
            stage,
            Transfer(
                id="x", kind="x", phase=Phase.VOID, pending_id=f"fee:{HASH}", debit="lightning",
                credit="fees:unclaimed", amount_msat=500,
            ),
        )  # fmt: skip


def test_a_transfer_ends_once(stage: Stage) -> None:
    """Posted and then voided, or posted twice under another name, is refused."""
    write(stage, LOCK, *BESIDE, end())
    with pytest.raises(IntegrityError):
        write(stage, end(id_="end again"))


@pytest.mark.parametrize(
    ("before", "beyond"),
    [
        (
            ledger.fee_credited("t1", PEER.public, "c", 500, was_earned=False),
            ledger.credit_spent("t2", PEER.public, "c", 501),
        ),
        (
            ledger.fee_earned("t1", "c", 500),
            ledger.fee_credited("t2", PEER.public, "c", 501, was_earned=True),
        ),
        (
            ledger.reward_decided(PEER.public, "c", 500),
            ledger.reward_forfeited(HASH, PEER.public, "c", 501),
        ),
        (
            ledger.opening(500),
            Transfer(id="x", kind="x", debit="treasury", credit="lightning", amount_msat=501),
        ),
        (
            ledger.routing_paid(HASH, "c", 500),
            Transfer(id="x", kind="x", debit="lightning", credit="routing", amount_msat=501),
        ),
        (
            ledger.reward_owed(PEER.public, "c", 500),
            ledger.owed_revealed(PEER.public, "c", 501),
        ),
        (
            Transfer(id="y", kind="x", debit="lightning", credit=f"sponsors:{PEER.public}", amount_msat=500),
            Transfer(id="x", kind="x", debit=f"sponsors:{PEER.public}", credit="lightning", amount_msat=501),
        ),
    ],
    ids=["credits", "earned fees", "rewards", "treasury", "routing", "owed", "sponsors"],
)  # fmt: skip
def test_no_account_goes_below_zero_that_may_not(stage: Stage, before: Transfer, beyond: Transfer) -> None:
    """One millisatoshi more than there is: refused; what there is: fine."""
    write(stage, before)
    with pytest.raises(IntegrityError):
        write(stage, beyond)
    all_of_it = msgspec.structs.replace(beyond, amount_msat=500)
    write(stage, all_of_it)


@pytest.mark.parametrize(
    "wrong",
    [
        end(amount_msat=4_999),
        end(peer="ee" * 32),
        msgspec.structs.replace(end(), phase=Phase.VOID),
        ledger.credit_spent("t2", PEER.public, "c", 1),
    ],
    ids=["another amount", "another account", "another end", "money that is not there"],
)
async def test_what_the_books_refuse_is_a_contradiction_and_nothing_beside_it_is_kept(
    stage: Stage, wrong: Transfer
) -> None:
    """Whichever line of several: who wrote them is frozen, and not asked again and again."""
    write(stage, LOCK, *BESIDE, end())
    with pytest.raises(Contradiction, match="books"):
        await stage.database.transact(lambda tx: journal.post(tx, ledger.fee_received(OTHER, 500), wrong, now_ms=1))
    known = await stage.database.read(journal.all_transfers)
    assert f"fee:{OTHER}" not in {line.id for line in known}


async def test_the_sums_are_the_journals(stage: Stage) -> None:
    """Whatever happened: the sums that the database keeps are those of the journal, and debits are credits."""
    await stage.uploaded()
    await stage.fee("a")
    await stage.settler.on_scored(stage.decision("a", 0b000111))
    for index in range(5):
        await stage.seen("a", index, PaymentStatus.SETTLED if index < 2 else PaymentStatus.FAILED)
    kept = await stage.database.read(journal.balances)
    assert kept == trial_balance(await stage.database.read(journal.all_transfers))
    assert len(kept) == 5
    assert sum(one.debits_msat for one in kept.values()) == sum(one.credits_msat for one in kept.values()) > 0
    assert kept["lightning"].pending_credits_msat == stage.terms().rung_msat()[5]


def test_nobody_writes_sums_below_what_is_pending(stage: Stage) -> None:
    """A sum that was tampered with is refused where it breaks a rule of its account."""
    write(stage, LOCK)
    with stage.database.engine.begin() as connection, pytest.raises(IntegrityError):
        connection.execute(sa.update(accounts).values(pending_debits_msat=-1))


async def test_the_day_is_added_up_from_slots(stage: Stage, make_stage: Callable[..., Any]) -> None:
    """What is locked counts from its slot on, posted or voided; what comes in does not count."""
    await stage.locked()
    now_ms = stage.now_ms
    await stage.fee("a")
    await stage.seen("a", 0, PaymentStatus.FAILED)
    ladder = stage.terms().ladder_msat()
    assert await stage.database.read(lambda tx: journal.locked_since(tx, now_ms)) == ladder
    assert await stage.database.read(lambda tx: journal.locked_since(tx, now_ms + SLOT_MS)) == 0


async def test_the_whole_journal_cannot_be_emptied(stage: Stage) -> None:
    """PostgreSQL's way around row triggers is closed too; in SQLite a DELETE is all there is."""
    await stage.locked()
    statement = (
        "truncate transfers cascade" if stage.database.engine.dialect.name == "postgresql" else "delete from transfers"
    )
    with stage.database.engine.begin() as connection, pytest.raises(IntegrityError, match="append-only"):
        connection.execute(sa.text(statement))
