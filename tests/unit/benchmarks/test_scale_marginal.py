"""What one peer more costs, told from two runs."""

import msgspec
import pytest
from _scale_growth import growth_tables
from _scale_marginal import measured
from _scale_meter import StreamUse
from _scale_paper import by_model, by_peers
from _scale_result import Result, is_right
from _scale_settings import Setting
from l402core.events import Reconciled
from l402train.report import LedgerReport

SETTING = Setting(
    peers=10, rounds=1, nodes=1, fleets=1, workers=1, phases_s=(1, 1, 1, 1), inner_steps=1, batch=1, eval_tokens=1_024,
    learning_rate_ppm=1, listen=True, poll_s=1.0, expected=True, seconds_max=1,
)  # fmt: skip


def a_run(peers: int, *, at_rest: int, each: int) -> Result:
    """Everything costs so much without any peer, and so much for each."""
    cost = at_rest + each * peers
    services = ("settler", "attestor", "gateway", "invoicer", "nats")
    return Result(
        when="", machine="", lightning="lndsim", setting=msgspec.structs.replace(SETTING, peers=peers), seconds=1.0,
        over=True, rounds=[], verdicts={}, load=(0.0, 0.0), cpu_s=dict.fromkeys(services, float(cost)),
        resident_peak_bytes={}, streams=dict.fromkeys(("FACTS", "WORK"), StreamUse(messages=cost, bytes=0)),
        fact_bytes=cost, handled={}, written_bytes=dict.fromkeys(("books", "decisions", "objects"), cost),
        statements={"l402_settler": {"insert": cost}},
        ledger=LedgerReport(debits_msat=1, credits_msat=1, open_escrows=0, accounts={}),
        reconciled=Reconciled(at_ms=0, rungs=0, fees=0, tranches=0, differences=(), untold=0),
    )  # fmt: skip


def test_what_a_network_without_peers_costs_is_not_a_peers() -> None:
    """Only the difference counts, whichever run comes first."""
    seen = measured([a_run(300, at_rest=1_000, each=7), a_run(10, at_rest=1_000, each=7)])
    assert (seen.facts, seen.statements, seen.book_bytes, seen.settler_ms) == (7.0, 7.0, 7.0, 7_000.0)


def test_one_run_tells_nothing_of_a_peer() -> None:
    """Two of the same size neither."""
    with pytest.raises(ValueError, match="different size"):
        measured([a_run(10, at_rest=1, each=1), a_run(10, at_rest=2, each=1)])


def test_the_papers_tables_have_a_column_for_each_network() -> None:
    """Three by their peers, four by their models."""
    seen = measured([a_run(10, at_rest=0, each=1), a_run(300, at_rest=0, each=1)])
    assert by_peers(seen).splitlines()[0].count("|") == 1 + 2 + 3 + 1
    assert by_model(seen).splitlines()[0].count("|") == 1 + 2 + 4 + 1


def test_growth_has_a_column_for_each_run() -> None:
    """And the cost of one peer in it, not of all."""
    told = growth_tables([a_run(10, at_rest=0, each=1), a_run(1_000, at_rest=0, each=1)])
    assert "| peers | 10 | 1,000 |" in told
    assert "| settler, ms a peer | 1,000 | 1,000 |" in told
    assert "| settler's statements, a peer | 1 | 1 |" in told


def test_a_run_that_is_not_over_or_not_balanced_is_not_right() -> None:
    """However good its numbers are."""
    right = a_run(10, at_rest=0, each=1)
    assert is_right(right)
    assert not is_right(msgspec.structs.replace(right, over=False))
    lost = msgspec.structs.replace(right.ledger, credits_msat=0)
    assert not is_right(msgspec.structs.replace(right, ledger=lost))
