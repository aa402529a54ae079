"""What an operator is told to do at night can be done: the pages, commands, variables, numbers and tests in the docs exist."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from l402train.docs.metrics import TOLD, told_by
from l402train.docs.pages import commands
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
def test_every_command_exists_with_its_options(page: Path) -> None:
    """As `l402-train` itself lists them."""
    assert list(unknown(page.read_text())) == []


def test_a_command_that_nobody_has_would_be_found() -> None:
    """And so would an option."""
    text = (
        "`l402-train dance`, `l402-train thaw ID --gently`, `l402-train owed settle`, `l402-train thaw ID --reason x`"
    )
    assert list(unknown(text)) == ["dance", "thaw --gently"]


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
COMMANDS = {
    name: set(re.findall(r"--[a-z-]+", options))
    for name, options in re.findall(r"^## l402-train ([a-z -]+)\n(.*?)(?=^## )", commands(), re.MULTILINE | re.DOTALL)
}
"""With their options."""


def quoted(text: str) -> list[str]:
    """Alerts in backticks."""
    return re.findall(r"`(L402\w+)`", text)


def unknown(text: str) -> Iterator[str]:
    """Commands that do not exist, and options that theirs do not have."""
    lines = chain(
        re.findall(r"`(?:\.venv/bin/)?l402-train ([^`]+)`", text), re.findall(r"^l402-train (.+)$", text, re.MULTILINE)
    )
    for line in lines:
        words = line.split()
        name = next((one for one in (" ".join(words[:2]), words[0]) if one in COMMANDS), None)
        if name is None:
            yield words[0]
            continue
        yield from (f"{name} {one}" for one in re.findall(r"--[a-z-]+", line) if one not in COMMANDS[name])
