"""`python -m l402train.docs [--check]`: write what is generated, or say what is stale and exit 1."""

import argparse
import difflib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from l402train import report
from l402train.docs import asyncapi, escrow, metrics, openapi, pages
from l402train.exits import Exit
from l402train.migration import consumers

DIFF_LINES = 20


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


GENERATED: dict[str, Callable[[], str]] = {
    "api/asyncapi.json": lambda: _json(asyncapi.document(consumers())),
    "api/openapi.json": lambda: _json(openapi.gateway()),
    "api/attestor.openapi.json": lambda: _json(openapi.attestor()),
    "report.schema.json": lambda: _json(report.schema()),
    "configuration.md": pages.configuration,
    "cli.md": pages.commands,
    "escrow.md": escrow.page,
    "metrics.md": metrics.page,
}


def main(arguments: list[str] | None = None) -> int:
    """Write everything into `--into`, or compare."""
    parser = argparse.ArgumentParser(prog="python -m l402train.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a file is stale")
    parser.add_argument("--into", type=Path, default=Path("docs"), help="the docs folder")
    options = parser.parse_args(arguments)
    stale = 0
    for name, made in GENERATED.items():
        path, new = options.into / name, made()
        old = path.read_text() if path.exists() else ""
        if old == new:
            continue
        stale += 1
        if options.check:
            difference = list(
                difflib.unified_diff(old.splitlines(), new.splitlines(), str(path), "the code", "", "", 1)
            )
            sys.stderr.write(f"{path} is stale: {len(difference)} lines of difference, the first are\n")
            sys.stderr.write("".join(f"  {line.rstrip()}\n" for line in difference[:DIFF_LINES]))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new)
            sys.stdout.write(f"{path} written\n")
    if options.check and stale:
        sys.stderr.write("make them again: .venv/bin/python -m l402train.docs\n")
        return int(Exit.UNTRUE)
    return int(Exit.FINE)


if __name__ == "__main__":
    sys.exit(main())
