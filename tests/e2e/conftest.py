"""One short demo through the real command, kept for every test to look at; after each test a search for secrets."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from l402train.folder import MARK, Folder

from tests.support import wire
from tests.support.demos import ROUNDS, Run, a_demo, printed
from tests.support.leaks import leaks, networks_in

SAID = pytest.StashKey[str]()
"""What a test printed, and what ran inside of it."""


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """`l402-train demo` with six peers; group the tests that use it, so that one worker runs it."""
    run = a_demo(tmp_path_factory.mktemp("demo"), "--rounds", str(ROUNDS), "--peers", "6", "--seed", "3")
    assert leaks(run.folder, beside=run.place) == []
    yield run
    assert leaks(run.folder, beside=run.place) == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps what was printed until the test's last fixture asks for it."""
    report = yield
    item.stash[SAID] = report.capstdout + report.capstderr + report.caplog
    return report


@pytest.fixture(autouse=True)
def no_secret_is_left_lying(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: nothing that its networks, or strangers beside them, had to keep is in anything they wrote, said or
    printed. The demo that tests share is searched before the first of them and after the last."""
    run = request.getfixturevalue("demo_run") if "demo_run" in request.fixturenames else None
    yield
    printed(tmp_path if run is None else run.place, request.node.stash[SAID])
    strangers = tuple(one.parent for one in sorted(tmp_path.rglob("peer.json")) if one.parent.name != "keys")
    for network in networks_in(tmp_path):
        assert not (network / MARK).exists() or wire.is_kept(Folder(network)), "the bus was not overheard"
        assert leaks(network, beside=tmp_path, strangers=strangers) == []
