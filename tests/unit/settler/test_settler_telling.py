"""What Prometheus is told of the books: sums that only grow, what is open and how old, what is late, what is frozen."""

import pytest
from l402_settler import metrics
from l402_settler.telling import tell, tell_differences
from l402core.events import LedgerDifference, Reconciled
from l402core.lnd.port import PaymentStatus
from prometheus_client import REGISTRY

from tests.support.settler import Stage, sha


def told(name: str, **labels: str) -> float | None:
    """One sample, as a scrape has it."""
    return REGISTRY.get_sample_value(name, labels)


async def test_money_that_waits_is_told_with_its_age(stage: Stage) -> None:
    """A locked ladder: how much, in which state, since when; and the fee that opened it."""
    await stage.locked()
    stage.now_ms += 7_000
    await tell(stage.office)
    assert told("l402_locked_msat") == 6_300_000
    assert told("l402_escrows_open", state="locked") == 1
    assert told("l402_escrow_oldest_seconds", state="locked") == 7
    assert told("l402_escrows_open", state="uploaded") == 0
    assert told("l402_fees_msat_total") == 500_000
    assert told("l402_round_submissions", stage="opened") == 1


async def test_what_was_paid_is_told_and_nothing_is_open_any_more(stage: Stage) -> None:
    """The sums stay when a state is empty again."""
    await stage.uploaded()
    await stage.settler.on_scored(stage.decision("a", 0b111))
    for index in range(6):
        await stage.seen("a", index, PaymentStatus.SETTLED if index < 3 else PaymentStatus.FAILED)
    await tell(stage.office)
    assert told("l402_rewards_msat_total") == 700_000
    assert told("l402_locked_msat") == 0
    assert all(told("l402_escrows_open", state=str(state)) == 0 for state in ("locked", "uploaded", "scored", "failed"))


async def test_a_sum_does_not_fall_when_a_fee_becomes_a_credit(stage: Stage) -> None:
    """Prometheus takes a smaller total for a restart: what went back is told on its own."""
    await stage.desk.open(stage.opening("a"))
    await tell(stage.office)
    assert told("l402_fees_msat_total") == 500_000
    await stage.turn(now_ms=stage.terms().lock_by_ms)
    await tell(stage.office)
    assert told("l402_fees_msat_total") == 500_000
    assert told("l402_credits_msat") == 500_000


async def test_a_round_that_outlasts_its_deadline_is_told_by_how_much(stage: Stage) -> None:
    """Before it, nothing; and a round that is over is not late."""
    await tell(stage.office)
    assert (told("l402_round"), told("l402_round_overdue_seconds")) == (1, 0)
    stage.now_ms = stage.terms().commit_until_ms + 5_000
    await tell(stage.office)
    assert told("l402_round_overdue_seconds") == 5


async def test_what_waits_for_a_person_is_counted(stage: Stage) -> None:
    """Until it is thawed."""
    await stage.locked()
    await stage.freeze(sha("a"))
    await tell(stage.office)
    assert told("l402_frozen", what="escrow") == 1
    await stage.thaw(sha("a"))
    await tell(stage.office)
    assert told("l402_frozen", what="escrow") == 0


@pytest.mark.parametrize("weight", ["contradiction", "foreign", "routing", "lag", "undecided"])
def test_what_the_books_and_the_node_see_differently_is_told_by_its_weight(weight: str) -> None:
    """And is zero again once they agree."""
    one = LedgerDifference(weight=weight, what="rung", payment_hash="", commitment="", books="", lnd="", amount_msat=1)
    found = Reconciled(at_ms=5_000, rungs=1, fees=0, differences=(one,))
    tell_differences(found)
    assert told("l402_ledger_differences", weight=weight) == 1
    assert told("l402_ledger_reconciled_timestamp_seconds") == 5
    tell_differences(Reconciled(at_ms=6_000, rungs=1, fees=0, differences=()))
    assert told("l402_ledger_differences", weight=weight) == 0


def test_a_sum_that_nobody_knows_is_a_mistake() -> None:
    """A name that no page lists would be told to nobody."""
    with pytest.raises(AssertionError):
        metrics.SUMS.tell("l402_typo_msat", 1)
