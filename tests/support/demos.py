"""The real command, as tests run it, and what a demo leaves behind."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l402train.folder import Folder

from tests.support import wire

COMMAND = [sys.executable, "-m", "l402train"]
ROUNDS = 2
LIMIT_S = 280
CONSOLE = "console.txt"
"""Beside a network's folder: all that commands printed."""


@dataclass(frozen=True)
class Run:
    """A demo that has ended."""

    folder: Path
    report: dict[str, Any]
    output: str
    returncode: int

    @property
    def place(self) -> Path:
        """Where its folder, its report and its prints lie."""
        return self.folder.parent

    def submissions(self) -> list[dict[str, Any]]:
        """Of all rounds."""
        return [one for round_ in self.report["rounds"] for one in round_["submissions"]]


def a_demo(place: Path, *words: str, extra: Mapping[str, str] | None = None) -> Run:
    """`l402-train demo` with these words to its end, overheard; report and prints lie beside its folder, to be searched."""
    folder, told = place / "kept", place / "report.json"
    places = ["--keep", str(folder), "--json", str(told)]
    done = subprocess.run(
        [*COMMAND, "demo", *words, *places, "--overhear", "--no-color"],
        capture_output=True, text=True, timeout=LIMIT_S, check=False, env={**environment(), **(extra or {})},
    )  # fmt: skip
    output = printed(place, done.stdout, done.stderr)
    assert told.exists(), output
    assert wire.is_kept(Folder(folder))
    return Run(folder, json.loads(told.read_text()), output, done.returncode)


def printed(place: Path, *said: str) -> str:
    """Writes down what commands printed, where the search finds it; all of it in one."""
    whole = "".join(said)
    with (place / CONSOLE).open("a") as file:
        file.write(whole)
    return whole


def environment() -> dict[str, str]:
    """Ours without a collector: spans must go to files."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "L402_"))}
