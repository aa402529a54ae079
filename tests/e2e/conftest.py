"""One short demo through the real command, kept for every test to look at; after each test a search for secrets."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.demos import COMMAND, LIMIT_S, ROUNDS, Run, environment
from tests.support.leaks import leaks, networks_in


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
    assert leaks(folder) == []
    return Run(folder, json.loads(told.read_text()), output, done.returncode)


@pytest.fixture(autouse=True)
def no_secret_is_left_lying(tmp_path: Path) -> Iterator[None]:
    """After every test: nothing that its networks, or strangers beside them, had to keep is in anything they wrote."""
    yield
    strangers = tuple(one.parent for one in sorted(tmp_path.rglob("peer.json")) if one.parent.name != "keys")
    for network in networks_in(tmp_path):
        assert leaks(network, strangers=strangers) == []
