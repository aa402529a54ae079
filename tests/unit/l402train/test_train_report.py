"""The report: its schema, and each thing that must hold of a run, seen failing."""

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from l402train import report as reports
from l402train.report import AccountReport, Report
from l402train.spans import FIVE

from tests.support.runs import a_report, a_submission

DOCS = Path(__file__).parents[3] / "docs"


def faults(report: Report, settled_msat: int = 3_100_000) -> list[str]:
    """What is wrong with it."""
    return reports.faults(report, settled_msat=settled_msat, services=FIVE)


def test_a_report_fits_the_schema_in_the_docs() -> None:
    """What `--json` writes is what docs/report.schema.json promises, with and without a score."""
    schema = json.loads((DOCS / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for one in (a_submission(), a_submission(score=None, interval=None, reward_msat=0, verdict="unscored")):
        jsonschema.validate(json.loads(reports.encode(a_report(one))), schema)


def test_the_schema_refuses_half_a_report() -> None:
    """A report without its ledger is not one."""
    broken = json.loads(reports.encode(a_report()))
    del broken["ledger"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, reports.schema())


def test_a_reward_that_is_booked_otherwise_than_earned_is_found() -> None:
    """A rung that came back and was booked as paid leaves the peer's account uneven."""
    good = a_report()
    uneven = AccountReport(debits_msat=6_300_000, credits_msat=3_100_000)
    books = msgspec.structs.replace(good.ledger, accounts={**good.ledger.accounts, f"peer:{'ab' * 32}": uneven})
    (fault,) = faults(msgspec.structs.replace(good, ledger=books))
    assert "earned 3100000 and was booked 6300000" in fault


def test_a_good_run_has_no_faults() -> None:
    """Nothing is said of a run as it should be."""
    assert faults(a_report()) == []


@pytest.mark.parametrize(
    ("report", "settled_msat", "words"),
    [
        (a_report(credits_msat=99), 3_100_000, "do not balance"),
        (a_report(open_escrows=2), 3_100_000, "2 escrows are still open"),
        (a_report(), 3_000_000, "were settled"),
        (a_report(a_submission(kind="noise")), 3_100_000, "(noise) was paid"),
        (a_report(a_submission(trace_id="00" * 16)), 3_100_000, "its trace lacks"),
        (a_report(a_submission(reward_msat=0)), 0, "nobody was paid"),
    ],
    ids=["books", "escrows", "settled", "cheat", "trace", "nobody"],
)
def test_each_fault_is_found(report: Report, settled_msat: int, words: str) -> None:
    """Unbalanced books, open escrows, unpaid decisions, paid cheats and torn traces are each one sentence."""
    (fault,) = faults(report, settled_msat)
    assert words in fault
