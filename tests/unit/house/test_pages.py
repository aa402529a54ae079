"""What the pages tell a reader to type, open or follow is there."""

import re
from collections.abc import Iterator
from pathlib import Path

from l402train import cli

ROOT = Path(__file__).parents[3]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("deploy/**/*.md")),
]
COMMAND = re.compile(r"l402-train ([a-z][a-z-]+)")
TARGET = re.compile(r"(?:`|^|&& )make ([a-z][a-z-]+)", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
MEMO = "fee"
"""How a fee invoice's memo begins: `l402-train fee`."""


def named(what: re.Pattern[str]) -> Iterator[tuple[Path, str]]:
    """Each such word, and the page that has it."""
    assert len(PAGES) > 20
    for page in PAGES:
        for found in what.finditer(page.read_text()):
            yield page, found[1]


def test_every_command_that_a_page_names_is_one() -> None:
    """An operator who is told to type it at three in the morning can."""
    known = {MEMO, *cli.app}
    assert {(page.name, word) for page, word in named(COMMAND) if word not in known} == set()
    assert len({word for _, word in named(COMMAND)}) > 20


def test_every_target_that_a_page_names_is_one() -> None:
    """Likewise of make."""
    known = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {(page.name, word) for page, word in named(TARGET) if word not in known} == set()
    assert len({word for _, word in named(TARGET)}) > 20


def test_every_link_within_the_house_leads_somewhere() -> None:
    """From where the page lies."""
    assert {(page.name, link) for page, link in named(LINK) if not (page.parent / link).exists()} == set()
