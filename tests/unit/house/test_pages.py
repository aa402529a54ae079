"""What the pages tell a reader to type, open or follow is there."""

import re
from collections.abc import Iterator
from pathlib import Path

from l402train.docs.pages import commands

ROOT = Path(__file__).parents[3]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("deploy/**/*.md")),
]
COMMAND = re.compile(r"l402-train ([a-z][^`\n]*)")
COMMANDS = {
    name: {*re.findall(r"--[a-z-]+", options), "--help"}
    for name, options in re.findall(
        r"^## l402-train ([a-z -]+)\n(.*?)(?=^## |\Z)", commands(), re.MULTILINE | re.DOTALL
    )
}
"""With their options, as `l402-train` itself lists them."""
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


def unknown(line: str) -> list[str]:
    """The command, if nobody has it, or options that it does not have; `l402-train` left away."""
    words = line.split()
    name = next((one for one in (" ".join(words[:2]), words[0]) if one in COMMANDS), None)
    if name is None:
        return [] if words[0] == MEMO else [words[0]]
    return [f"{name} {one}" for one in re.findall(r"(?<!\S)--[a-z][a-z-]*", line) if one not in COMMANDS[name]]


def test_every_command_that_a_page_names_is_one_and_has_these_options() -> None:
    """An operator who is told to type it at three in the morning can."""
    told = list(named(COMMAND))
    assert {(page.name, one) for page, line in told for one in unknown(line)} == set()
    assert len({line.split()[0] for _, line in told}) > 20


def test_a_command_that_nobody_has_would_be_found_and_an_option_too() -> None:
    """And what exists is not."""
    assert [unknown(line) for line in ("dance", "thaw ID --gently", "owed settle", "thaw ID --reason x", "fee round")] == [
        ["dance"], ["thaw --gently"], [], [], [],
    ]  # fmt: skip


def test_every_target_that_a_page_names_is_one() -> None:
    """Likewise of make."""
    known = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {(page.name, word) for page, word in named(TARGET) if word not in known} == set()
    assert len({word for _, word in named(TARGET)}) > 20


def test_every_link_within_the_house_leads_somewhere() -> None:
    """From where the page lies."""
    assert {(page.name, link) for page, link in named(LINK) if not (page.parent / link).exists()} == set()
