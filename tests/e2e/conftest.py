"""One short demo through the real command, kept for every test of this folder to look at."""

import json
import subprocess

import pytest

from tests.support.demos import COMMAND, LIMIT_S, ROUNDS, Run, environment


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`l402-train demo` with six peers; group the tests that use it, so that one worker runs it."""
    base = tmp_path_factory.mktemp("demo")
    folder, told = base / "kept", base / "report.json"
    options = ["--rounds", str(ROUNDS), "--peers", "6", "--seed", "3", "--keep", str(folder), "--json", str(told)]
    done = subprocess.run(
        [*COMMAND, "demo", *options, "--no-color"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=environment(),
    )
    output = done.stdout + done.stderr
    assert told.exists(), output
    return Run(folder, json.loads(told.read_text()), output, done.returncode)
