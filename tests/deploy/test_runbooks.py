"""What an operator is told at night is there: pages, alerts, variables, numbers, tests. Of commands: `house/test_pages`."""

import re
from pathlib import Path

import pytest
from l402train.docs.metrics import TOLD, told_by
from l402train.folder import URL_FILE
from l402train.knobs import knobs

HOUSE = Path(__file__).parents[2]
DOCS = HOUSE / "docs"
PAGES = sorted((DOCS / "runbooks").glob("*.md"))
OPERATING = [DOCS / "deploy.md", DOCS / "keys.md", *PAGES]
RULES = (HOUSE / "deploy" / "k8s" / "rules.yaml").read_text()
ALERTS = dict(re.findall(r"alert: (\w+).*?runbook_url: '[^']*/([a-z-]+\.md)'", RULES, re.DOTALL))


def names(paths: list[Path]) -> list[str]:
    """For the tests' ids."""
    return [path.stem for path in paths]


def test_every_alert_stands_in_the_docs_table_with_its_page() -> None:
    """And no other does."""
    rows = [line for line in (DOCS / "deploy.md").read_text().splitlines() if line.startswith("| `L402")]
    told = {alert: page for row in rows for page in re.findall(r"runbooks/([a-z-]+\.md)", row) for alert in quoted(row)}
    assert told == ALERTS


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_a_page_names_the_alerts_that_lead_to_it(page: Path) -> None:
    """Whoever opens one knows whether it is the right one; none is left over."""
    said = set(re.findall(r"\bL402[A-Z]\w+", page.read_text()))
    assert said == {alert for alert, wanted in ALERTS.items() if wanted == page.name}
    assert said


@pytest.mark.parametrize("page", OPERATING, ids=names(OPERATING))
def test_every_variable_and_every_number_exists(page: Path) -> None:
    """A variable that some service reads, a number that some service tells."""
    text = page.read_text()
    variables = {URL_FILE, *(knob.name for knob in knobs())}
    numbers = {one.name for name in TOLD for one in told_by(name)}
    wanted = set(re.findall(r"L402_[A-Z*][A-Z_*]+", text))
    assert [
        one for one in wanted if not any(re.fullmatch(one.replace("*", "[A-Z]+"), name) for name in variables)
    ] == []
    told = {re.sub(r"_(?:bucket|count|sum)$", "", one) for one in re.findall(r"\bl402_[a-z_]+", text)}
    assert told <= numbers | MODULES


@pytest.mark.parametrize("page", OPERATING, ids=names(OPERATING))
def test_every_test_that_shows_something_exists(page: Path) -> None:
    """A file by its path, a function by its name."""
    text = page.read_text()
    assert [one for one in re.findall(r"tests/[a-z_/]+\.py", text) if not (HOUSE / one).is_file()] == []
    there = "\n".join(path.read_text() for path in (HOUSE / "tests").rglob("test_*.py"))
    functions = re.findall(r"`(test_\w+)`", text)
    assert [one for one in functions if f"def {one}(" not in there and not list(HOUSE.glob(f"tests/**/{one}.py"))] == []


MODULES = {"l402_gateway", "l402_invoicer", "l402_settler", "l402_oracle", "l402_peer_agent"}


def quoted(text: str) -> list[str]:
    """Alerts in backticks."""
    return re.findall(r"`(L402\w+)`", text)
