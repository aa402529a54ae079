"""The real command, as tests run it, and what a demo leaves behind."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "l402train"]
ROUNDS = 2
LIMIT_S = 280


@dataclass(frozen=True)
class Run:
    """A demo that has ended."""

    folder: Path
    report: dict[str, Any]
    output: str
    returncode: int

    def submissions(self) -> list[dict[str, Any]]:
        """Of all rounds."""
        return [one for round_ in self.report["rounds"] for one in round_["submissions"]]


def environment() -> dict[str, str]:
    """Ours without a collector: spans must go to files."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "L402_"))}
